"""What the README says is so: options, commands, snippets, and the tests that it names."""

from __future__ import annotations

import ast
import io
import re
import shlex
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest
import tomli
from installs import NEEDED, ROOT
from live import Shell
from packaging.requirements import Requirement

from pypiserver_lite import cli
from pypiserver_lite.config.file import ROOT_ONLY
from pypiserver_lite.config.load import load, make_parser, of_file
from pypiserver_lite.config.rows import Setting
from pypiserver_lite.config.settings import ENV_PREFIX, INDEX_KEYS, POLICY_KEYS, RULE_KEYS, SETTINGS, UPSTREAM_KEYS

README = (ROOT / "README.rst").read_text(encoding="utf-8")


def rows(first: str = "Option") -> list[list[str]]:
    """The rows of all tables whose first column is called so; of those of options: option, variable, meaning."""
    found = []
    pattern = rf"^\.\. list-table::\n   :header-rows: 1\n\n(   \* - {first}\n.*?)(?=^\S)"
    for table in re.findall(pattern, README, re.MULTILINE | re.DOTALL):
        for row in re.split(r"^   \* - ", table, flags=re.MULTILINE)[2:]:
            found.append([" ".join(cell.split()) for cell in re.split(r"^     - ", row, flags=re.MULTILINE)])
    return found


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    pattern = rf"^\.\. code-block:: {language}\n\n((?:    .*\n|\n)+)"
    return [textwrap.dedent(block) for block in re.findall(pattern, README, re.MULTILINE)]


def commands(program: str) -> list[list[str]]:
    """The words of each shell line that runs `program`, without it."""
    lines = "\n".join(blocks("shell")).replace("\\\n", " ").splitlines()
    parts = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [words[words.index(program) + 1 :] for words in parts if program in words]


def spelled(name: str, setting: Setting) -> str:
    """How the first column names a setting."""
    if not setting.flags:
        return f"``{name.upper()}``"
    *short, longest = setting.flags
    value = f" {setting.metavar or name.upper()}" if setting.takes_value else ""
    return ", ".join([f"``{flag}``" for flag in short] + [f"``{longest}{value}``"])


def test_every_option_is_documented_with_its_variable_and_no_other() -> None:
    documented = {(option, variable) for option, variable, _ in rows()}
    assert documented == {
        (spelled(name, setting), f"``{ENV_PREFIX}{name.upper()}``") for name, setting in SETTINGS.items()
    }


def test_every_default_is_the_one_that_the_help_names() -> None:
    meanings = {variable.strip("`"): meaning.replace("``", "") for _, variable, meaning in rows()}
    for name, setting in SETTINGS.items():
        default = re.search(r"\(default: ([^,;()]+)", setting.help)
        if default:
            assert f"Default: {default[1]}" in meanings[f"{ENV_PREFIX}{name.upper()}"]


def test_every_variable_that_is_named_exists() -> None:
    named = set(re.findall(rf"\b{ENV_PREFIX}([A-Z_]+)", README))
    assert named == {name.upper() for name in SETTINGS}


def test_every_command_shown_is_understood(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("index.toml", "configuration.toml"):
        (tmp_path / file).touch()
    assert cli.main(["--help"]) == 0
    verbs = re.findall(r"^  (\w+) ", capsys.readouterr().out, re.MULTILINE)
    shown = [words for words in commands("pypiserver-lite") if words]
    assert len(shown) >= 5
    for words in shown:
        if words[0] == "run" or words[0] not in verbs:
            load(make_parser("", ""), words[words[0] == "run" :], {})


@pytest.mark.parametrize(
    ("table", "known"),
    [
        ("[index.NAME]", INDEX_KEYS),
        ("[upstream.NAME]", UPSTREAM_KEYS),
        ("[policy]", POLICY_KEYS),
        ("[[rule]]", RULE_KEYS),
    ],
)
def test_every_key_of_a_table_of_the_file_is_explained_and_no_other(table: str, known: Mapping[str, Setting]) -> None:
    section = README.split("\nWhat stands in which table\n", 1)[1].split("\nFrom devpi\n", 1)[0]
    rows = section.split(f"\n``{table}``", 1)[1].split("\n=====")[2]
    explained = {key for row in rows.splitlines() for key in re.findall(r"``(\w+)``", row[:20])}
    other = ROOT_ONLY | {"policy"} if table == "[index.NAME]" else set[str]()
    assert explained | ROOT_ONLY & other == set(known) | {"policy"} & other


def test_whole_files_of_settings_are_what_the_server_takes(tmp_path: Path) -> None:
    whole = [block for block in blocks("toml") if "[upstream.pypi]" in block]
    assert len(whole) == 3
    for block in whole:
        path = tmp_path / "index.toml"
        path.write_text(block)
        config = of_file(path, {})
        assert config.upstreams["pypi"].mode in ("cache", "redirect")


def test_every_verb_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    for verb in re.findall(r"^  (\w+) ", capsys.readouterr().out, re.MULTILINE):
        assert verb in {words[0] for words in commands("pypiserver-lite") if words}


def test_every_make_target_shown_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {word for words in commands("make") for word in words if re.fullmatch("[a-z]+", word)} | {"run"}
    assert targets == {target for target in targets if re.search(rf"^{target}:", makefile, re.MULTILINE)}


def test_toml_snippets_are_toml() -> None:
    assert all(tomli.loads(block) for block in blocks("toml"))


def test_python_snippets_run(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "htpasswd.txt").touch()
    assert blocks("python")
    for block in blocks("python"):
        shell.python("-c", f"{block}\napplication.close()\n", cwd=tmp_path, PYTHONPATH=str(ROOT)).good()


def test_each_line_of_the_table_of_threats_names_the_test_that_shows_it() -> None:
    said: dict[str, list[str]] = {}
    for who, what, shown in rows("Who"):
        verb = re.match(r"\*\*(can|cannot)\*\* \w", what)
        assert verb and re.fullmatch(r"(``test_\w+\.py::test_\w+``(, |$))+", shown), (who, what, shown)
        said.setdefault(who, []).append(verb[1])
    for who in ("reader", "uploader", "owner", "admin", "thief of a token", "page of another site"):
        lines = next(verbs for name, verbs in said.items() if name.endswith(f" {who}"))
        assert {"can", "cannot"} == set(lines), who


def test_every_test_that_is_named_exists() -> None:
    for file, name in re.findall(r"``(?:tests/)?(test_\w+\.py)(?:::(\w+))?``", README):
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert not name or name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_every_dependency_is_explained_and_no_other() -> None:
    section = README.split("\nDependencies\n", 1)[1].split("\nDevelopment\n", 1)[0]
    explained = re.findall(r"^([A-Za-z][\w-]*)  +\w", section, re.MULTILINE)
    assert sorted(explained) == sorted(Requirement(line).name for line in NEEDED)


@pytest.mark.clients
@pytest.mark.parametrize("file", ["README.rst", "CHANGES.rst"])
def test_it_renders_without_a_complaint(file: str) -> None:
    from readme_renderer import rst

    complaints = io.StringIO()
    assert rst.render((ROOT / file).read_text(encoding="utf-8"), stream=complaints) is not None
    assert complaints.getvalue() == ""
