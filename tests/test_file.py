"""The file of settings: what it may say, and that whatever is wrong is one clear line with its place."""

from __future__ import annotations

import json
import random
import re
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pypiserver_lite import make_app, site
from pypiserver_lite.config import load
from pypiserver_lite.config.lines import find_line
from pypiserver_lite.config.settings import INDEX_KEYS, POLICY_KEYS, SERVER_KEYS, UPSTREAM_KEYS, Config
from pypiserver_lite.errors import ConfigError

WHOLE = """\
host = "0.0.0.0"
"port" = 8081
passwords = "htpasswd"
authenticate = ["update", "download"]
packages = [
  "packages",  # ] "
  "more",
]
upstreams = ["pypi"]

[upstream.pypi]
url = "https://mirror.example.com/simple/"
mode = "cache"
never = ["acme-*"]

[upstream.acme]
url = "https://acme.example.com/simple/"
username = "us"
password_file = "secret"

[index."team/dev"]
packages = ["/srv/dev"]
bases = ["prod"]

[index.prod]
packages = ["/srv/prod"]
bases = ["/"]
upstreams = ["acme"]
policy.cooldown = "7d"

[policy]
allow = ["numpy", "acme-*"]
deny = ["left-pad", "numpy>=2.3"]
until = 2026-10-01
exempt = ["urllib3==2.7.1 until 2026-12-31"]
merge = ["torch"]
wheels_only = true
licences = ["MIT", "Apache-2.0"]
size = "2GB"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("s3cr3t\n")
    return tmp_path


def read(folder: Path, text: str | bytes, **environ: str) -> Config:
    """The settings of a file with this text."""
    path = folder / "index.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load.gather({"config": str(path)}, environ)


def refused(folder: Path, text: str | bytes, **environ: str) -> str:
    """What is said of a file with this text."""
    with pytest.raises(ConfigError) as caught:
        read(folder, text, **environ)
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_a_whole_file_is_what_it_says(folder: Path) -> None:
    config = read(folder, WHOLE)
    assert (config.server.host, config.server.port) == ("0.0.0.0", 8081)
    assert config.index.packages == (folder / "packages", folder / "more")
    assert config.index.passwords == folder / "htpasswd"
    dev, prod = config.indexes["team/dev"], config.indexes["prod"]
    assert (dev.packages, dev.bases, dev.upstreams) == ((Path("/srv/dev"),), ("prod",), ())
    assert dev.passwords == config.index.passwords and dev.authenticate == {"update", "download"}
    assert prod.policy is not None and prod.policy.cooldown == 7 * 86400
    assert config.upstreams["acme"].password == "s3cr3t"
    assert config.index.policy is not None
    assert config.index.policy.until == datetime(2026, 10, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize("change", [lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n")])
def test_what_editors_of_windows_write_is_the_same(folder: Path, change: object) -> None:
    assert callable(change)
    assert read(folder, change(WHOLE)) == read(folder, WHOLE)
    said = refused(folder, change(WHOLE.replace("wheels_only", "wheel_only")))
    assert f"line {WHOLE[: WHOLE.index('wheels_only')].count(chr(10)) + 1}: " in said


def test_flags_beat_variables_beat_the_file(folder: Path) -> None:
    (folder / "index.toml").write_text('port = 1\nhost = "file"\ntitle = "file"\nupstreams = []\n')
    environ = {"PYPISERVER_LITE_CONFIG": str(folder / "index.toml"), "PYPISERVER_LITE_HOST": "variable"}
    config = load.gather({"port": "3"}, {**environ, "PYPISERVER_LITE_PORT": "2"})
    assert (config.server.port, config.server.host, config.index.title) == (3, "variable", "file")
    assert config.asked_by(config.index) == ()
    over = load.gather({"fallback_url": ["https://x.example.com/"]}, environ)
    assert [str(upstream.url) for upstream in over.asked_by(over.index)] == ["https://x.example.com/"]


def test_the_file_in_the_working_folder_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert load.gather({}, {}).file is None
    (folder / "pypiserver-lite.toml").write_text('port = 9\npackages = ["."]\n[index.a]\npackages = "b"\n')
    config = load.gather({}, {})
    assert config.server.port == 9 and config.file == Path("pypiserver-lite.toml")
    assert config.indexes["a"].packages == (Path("b"),)


def test_paths_are_relative_to_the_folder_of_the_file(folder: Path) -> None:
    config = read(
        folder,
        'packages = "."\npasswords = "."\nauthenticate = "."\nlog_file = "log"\n'
        'sendfile_header = "X-Accel-Redirect=/_files:packages"\n',
    )
    assert config.index.packages == (folder,) and config.index.passwords == Path()
    assert config.server.log_file == folder / "log"
    assert config.server.sendfile_header is not None
    assert config.server.sendfile_header.mappings == (("/_files", folder / "packages"),)


def test_variables_are_filled_in_and_never_shown(folder: Path) -> None:
    text = '[upstream.a]\nmirrors = "https://${WHO}@a.example.com/"\nusername = "${U}"\npassword = "${P}"\n'
    upstream = read(folder, text, WHO="me:s3cr3t", U="u", P="${U}").upstreams["a"]
    assert (*upstream.mirrors, upstream.username, upstream.password) == (
        "https://me:s3cr3t@a.example.com/",
        "u",
        "${U}",
    )
    assert "s3cr3t" not in repr(upstream)
    assert refused(folder, text, WHO="x", U="u").endswith(
        "line 4: upstream.a.password: the environment has no variable P"
    )
    for key in ("port", "cache_ttl", "fallback_mode", "fallback_url", "max_upload", "hash_algo", "authenticate"):
        said = refused(folder, f'{key} = "${{P}}"', P="s3cr3t of a kind")
        assert "s3cr3t" not in said and "${P}" in said and f"line 1: {key}: " in said


@pytest.mark.parametrize(
    "value", ['"s3cr3t"', "531531", '["s3cr3t"]', '{ s3cr3t = "s3cr3t" }', "1979-05-27", "5.31531"]
)
def test_a_password_is_in_no_message(folder: Path, value: str) -> None:
    for text in (
        f'[upstream.a]\nusername = "u"\npassword = {value}\nmode = "redirect"\n',
        f"[upstream.a]\npassword = {value}\npasword = 1\n",
        f"[upstream.a]\npassword = {value}\n",
        f"[upstream.a]\nusername = {value}\n",
        f"[upstream.a]\npassword_file = {value}\npassword = {value}\n",
        f"[upstream.a]\nurl = {value}\n",
        f"[upstream.a]\nproxy = {value}\n",
    ):
        said = refused(folder, text)
        assert "s3cr3t" not in said and "31531" not in said and "1979" not in said, said


SAID = "https://robot:{}@files.example/simple/"
KEYS = [
    *((f"{key} = {{}}", "") for key in ("host", "port", "server", "server_base_url", "health_endpoint", "passwords")),
    *((f"{key} = {{}}", "") for key in ("authenticate", "packages", "private", "hash_algo", "max_upload", "templates")),
    *((f"{key} = {{}}", "") for key in ("sendfile_header", "cache_ttl", "cache_control", "fallback_host", "cache_dir")),
    *((f"{key} = [{{}}]", "") for key in ("packages", "private", "bases", "upstreams", "trusted_proxy", "logo")),
    *((f"{key} = {{}}", "[upstream.u]") for key in ("hosts", "ca", "mode", "ttl", "rate", "only", "never", "netrc")),
    *((f"{key} = [{{}}]", "[upstream.u]") for key in ("hosts", "only", "never")),
    *((f"{key} = {{}}", "[policy]") for key in ("cooldown", "until", "size", "exempt", "deny", "merge")),
]


@pytest.mark.parametrize(("line", "table"), KEYS)
@pytest.mark.parametrize("secret", ["s3cr3t", "s3cr3t,s3cr3t", "12/s3cr3t", "s3cr3t@s3cr3t"])
def test_an_address_under_a_wrong_key_is_said_without_its_password(
    folder: Path, line: str, table: str, secret: str
) -> None:
    text = f"{table}\n" + line.replace("{}", json.dumps(SAID.format(secret)))
    (folder / "index.toml").write_text(text)
    try:
        app = make_app(config=folder / "index.toml", cache_dir=folder / "cache")
    except ConfigError as error:
        assert "s3cr3t" not in str(error)
    else:
        app.close()


@pytest.mark.parametrize("secret", ["s3cr3t/x", "12/s3cr3t", "a@s3cr3t", "a#s3cr3t", "s3cr3t x"])
def test_a_password_in_an_address_that_ends_it_is_refused_unsaid(folder: Path, secret: str) -> None:
    told = refused(folder, '[upstream.a]\nurl = "https://u:${PW}@h.example/"\n', PW=secret)
    assert "once ${PW} is filled in" in told and "a password in it has %2F for /" in told and "s3cr3t" not in told


def test_a_password_file_that_cannot_be_used_is_named(folder: Path) -> None:
    text = '[upstream.a]\nusername = "u"\npassword_file = "{}"\n'
    assert "line 3: upstream.a.password_file: " in refused(folder, text.format("none"))
    (folder / "empty").write_text("\n")
    assert "is empty" in refused(folder, text.format("empty"))
    (folder / "binary").write_bytes(b"\xff\xfes3cr3t")
    assert "not a text in UTF-8" in refused(folder, text.format("binary"))


WRONG = [
    ('[index."a\\n\\u001b[31m"]\npackages = "x"', 1, 'index."a\\n\\u001b[31m": a name has letters'),
    ('"a\\nb" = 1\n"a\\nb" = 2\n', 2, 'not right as TOML: Key "a\\nb" already exists'),
    ('[upstream."\\u0085"]\nca = 3', 2, 'upstream."\\u0085".ca: a number cannot stand here'),
    ("pord = 1", 1, "pord: there is no such setting; did you mean 'port'?"),
    ("[index.a]\npakages = 'x'", 2, "index.a.pakages: there is no such setting; did you mean 'packages'?"),
    ("[upstream.a]\nulr = 'x'", 2, "upstream.a.ulr: there is no such setting; did you mean 'url'?"),
    ("[policy]\ncooldwn = 1", 2, "policy.cooldwn: there is no such setting; did you mean 'cooldown'?"),
    ("[indx.a]\npackages = 'x'", 1, "indx: there is no such setting; did you mean 'index'?"),
    ("[index.a.polcy]\nsize = 1", 1, "index.a.polcy: there is no such setting; did you mean 'policy'?"),
    ("\n[index.a]\n\nport = 1", 4, "index.a.port: it is a setting of the whole server: put it at the top"),
    ("[upstream.a]\nhost = 'x'", 2, "upstream.a.host: it is a setting of the whole server: put it at the top"),
    ("cooldown = '7d'", 1, "cooldown: it is a rule of a policy: put it in [policy]"),
    ("[index.'a/b']\ncooldown = '7d'", 2, 'cooldown: it is a rule of a policy: put it in [index."a/b".policy]'),
    ("[policy]\npackages = 'x'", 2, "policy.packages: it is a setting of an index"),
    ("[index.a]\nurl = 'x'", 2, "index.a.url: it is a setting of an upstream: put it in [upstream.NAME]"),
    ("config = 'x'", 1, "config: it cannot stand here"),
    ("index.a.title = 3", 1, "index.a.title: a number cannot stand here; a text in quotes is needed"),
    ("overwrite = 'yes'", 1, "overwrite: a text cannot stand here; true or false is needed"),
    ("port = true", 1, "port: true or false cannot stand here; a number"),
    ("port = [1]", 1, "port: it is one value, and no list"),
    ("packages = ['x', 1]", 1, "packages: a number cannot stand here"),
    ("'port' = { x = 1 }", 1, "port: it is one value, and no table"),
    ("packages = [\n 'x',\n # [\n]\nport = 'x'", 5, "port: 'x' is not a whole number"),
    ('log_frmt = """\n[index.a]\nport = 1"""\nport = "x"', 4, "port: 'x' is not a whole number"),
    ("index = { a = { packages = 'x', \"port\" = 1 } }", 1, "index.a.port: it is a setting of the whole server"),
    ("[index]\na.packages = 'x'\na.bases = ['b']", 3, "index.a.bases: there is no index 'b'"),
    ("index = 3", 1, "index: each has a table of its own: [index.NAME]"),
    ("[index]\ntitle = 'x'", 2, "index.title: each index has a table of its own: [index.NAME]"),
    ("[[upstream]]\nurl = 'x'", 1, "upstream: each has a table of its own"),
    ("policy = 3", 1, "policy: it is a table, with a line for each rule"),
    ("[index.a]\npackages = 'x'\nupstreams = ['pypi']", 3, "there is no upstream 'pypi'; give it a table"),
    ("[index.simple]\npackages = 'x'", 1, "index.simple: /simple/ is a page of the server itself"),
    ("[index.a]\n", 1, "index.a: it has nothing to serve"),
    ("[index.a]\npackages='x'\n[index.'a/b']\npackages = 'y'", 3, "/a/b/ would hide a page of the index a"),
    ("[index.a]\nbases = 'b'\n[index.b]\nbases = 'a'", 2, "they lead back to itself: a → b → a"),
    ("fallback_url = 'http://x/'\nupstreams = []", 1, "fallback_url: the upstreams are named twice"),
    ("[index.a]\npackages = 'x'\nfallback_url = 'http://x/'", 3, "an index names its upstreams in 'upstreams'"),
    ("[upstream.'a b']\nurl = 'http://x/'", 1, "a name has letters, digits"),
    ("[upstream.fallback]\nurl = 'http://x/'", 1, "a name has letters, digits"),
    ("[policy]\ncooldown = '999999w'", 2, "policy.cooldown: '999999w' is longer than a hundred years"),
    ("[policy]\nuntil = 9999-12-31T23:59:59-05:00", 2, "policy.until: a date lies between"),
    ("[policy]\nexempt = 'a==1 until 9999-12-31'", 2, "policy.exempt: a date lies between"),
    ("[policy]\nsize = 1e3", 2, "policy.size: a number cannot stand here"),
    ("private = 'acme-*'\n[policy]\nmerge = ['x', 'Acme.x']", 3, "policy.merge: acme-* is 'private' here"),
    ("private = 'acme-x'\n[policy]\nmerge = '*'", 3, "policy.merge: acme-x is 'private' here"),
    (
        "private = 'acme-*'\n[index.a]\npackages = 'x'\n[index.a.policy]\nmerge = 'acme_*'",
        5,
        "index.a.policy.merge: acme-* is 'private' here",
    ),
    ("[upstream.a]\nonly = ['acme-*']\nnever = 'Acme.*'", 3, "upstream.a.never: 'Acme.*' stands in 'only' too"),
    ("[upstream.a]\nonly = []", 2, "upstream.a.only: it names no project; leave it out for all"),
    ("[upstream.a]\nonly = [',']", 2, "upstream.a.only: it is empty"),
    ("[upstream.a]\nurl = 'https://u:x/y@h.example/'", 2, "upstream.a.url: an @ in a path is written %40"),
    ("[upstream.a]\nurl = 'https://h.example/'\nmirrors = 'https://h:x/'", 3, "mirrors: an address that begins"),
    ("[upstream.a]\nmode = 'redirect'\nurl = 'https://h:99999/'", 3, "with a number as its port"),
    ("health_endpoint = '/a/live'\n[index.a]\npackages = 'x'", 2, "index.a: it would hide /a/live, where monitoring"),
    ("server_base_url = 'https://h/a/b/'\n[index.a]\npackages = 'x'", 2, "server_base_url begins with /a/, too"),
    ("server_base_url = '/a/b/'\n[index.'a/b']\npackages = 'x'", 2, "server_base_url begins with /a/b/, too"),
    ("grace = 99999999999999999999999", 1, "grace: it is too large a number"),
    ("a = 1\nb = \n", 2, "not right as TOML"),
    ("[index.a]\ntitle='x'\n\n[index.a]\nlogo='y'", 5, "not right as TOML: "),
    ("[a]\nb=1\n\n[a.b]\nc=1\n", 4, 'not right as TOML: Key "b" already exists'),
]


@pytest.mark.parametrize(("text", "line", "said"), WRONG)
def test_what_is_wrong_is_said_with_its_line(folder: Path, text: str, line: int, said: str) -> None:
    told = refused(folder, text)
    assert told.startswith(f"{folder / 'index.toml'}, line {line}: ") and said in told


def test_bases_that_would_take_for_ever_are_refused(folder: Path) -> None:
    def chain(count: int, *back: int) -> str:
        bases = [[f"i{at - by}" for by in back if by <= at] for at in range(count)]
        tables = [f'[index.i{at}]\npackages = "p"\nbases = {some}\n' for at, some in enumerate(bases)]
        return "".join(reversed(tables))  # in whatever order they stand

    assert len(read(folder, chain(100, 1)).indexes) == 100
    assert "index.i100.bases: they lead to others through 101 indexes" in refused(folder, chain(101, 1))
    assert len(read(folder, chain(12, 1, 2)).indexes) == 12
    assert "ways; each request would go there" in refused(folder, chain(40, 1, 2))
    assert len(read(folder, "".join(f'[index.i{at}]\npackages = "p"\n' for at in range(300))).indexes) == 300


def test_a_chain_is_in_the_order_in_which_it_is_asked(folder: Path) -> None:
    text = 'packages = "p"\nupstreams = []\n' + "".join(
        f"[index.{name}]\npackages = 'p'\nbases = {bases}\n"
        for name, bases in {"a": ["b", "c"], "b": ["d"], "c": ["d", "/"], "d": []}.items()
    )
    assert read(folder, text).chain("a") == ("a", "b", "d", "c", "/")


def test_what_is_no_text_is_said_so(folder: Path) -> None:
    assert "line 2: it is not a text in UTF-8" in refused(folder, b'title = "x"\ntitle2 = "\xff"\n')
    assert "bytes" in refused(folder, b"#" * (2**20 + 1))
    with pytest.raises(ConfigError, match=r"--config .*none.toml: No such file"):
        load.gather({"config": str(folder / "none.toml")}, {})
    with pytest.raises(ConfigError, match=r"--config .*: Is a directory"):
        load.gather({"config": str(folder)}, {})


def test_lines_are_found_however_a_file_is_written() -> None:
    text = (
        "a = '''\nb = 1'''\n\"q \\\" k\" = 2\nx.y . 'z' = 3\nt = { u = [\n1, 2 ], v = { w = 1 } }\n"
        '[ one . "two/three" ]  # [x]\nk = """\n[no]\\""""\nl = 5\n[[one.more]]\nm = 1\n'
        "[[one.more]]\nn = 1\n"
    )
    expected = {
        ("a",): 1,
        ('q " k',): 3,
        ("x", "y", "z"): 4,
        ("t",): 5,
        ("t", "v", "w"): 6,
        ("one", "two/three"): 7,
        ("one", "two/three", "k"): 8,
        ("one", "two/three", "l"): 10,
        ("one", "two/three", "none"): 7,
        ("one", "more", "1", "m"): 12,
        ("one", "more", "2"): 13,
        ("one", "more", "2", "n"): 14,
        ("one", "more", "3"): 11,
    }
    assert {path: find_line(text, path) for path in expected} == expected
    assert find_line(text, ("none",)) is None


ODD = (
    *("", "1", "-1", "9" * 40, "1.5", "nan", "inf", "true", "[]", "[[]]", "{}", "[{}]", "''", "'\\u0000'", '"\\u0000"'),
    *(
        "'x'",
        "['x', 1]",
        "[1]",
        "1979-05-27",
        "1979-05-27T07:32:00Z",
        "07:32:00",
        "0001-01-01",
        "9999-12-31T23:59:59+00:01",
    ),
    *(
        "'http://[/'",
        "'http://a:b@/'",
        "'https://u:p@h/'",
        "'//'",
        "'.'",
        "'~nobody-here/x'",
        "'${X}'",
        "'${'",
        "'a==1 until 0000-00-00'",
    ),
    *(
        "'a until'",
        "'[!]'",
        "'*' ",
        "'a>=1,<x'",
        "'" + "a" * 3000 + "'",
        "'X-Accel-Redirect=/x:'",
        "'\U0001f40d'",
        "['', '']",
        "'%s%n'",
    ),
)


@pytest.mark.parametrize("value", ODD)
def test_no_value_of_any_key_is_more_than_refused(folder: Path, value: str) -> None:
    tables = {"": {**SERVER_KEYS, **INDEX_KEYS}, "[index.a]": INDEX_KEYS, "[upstream.a]": UPSTREAM_KEYS}
    for table, keys in {**tables, "[policy]": POLICY_KEYS, "[index.a.policy]": POLICY_KEYS}.items():
        for key in [*keys, "index", "upstream", "policy", "password_file", "x"]:
            try:
                read(folder, f"{table}\n{key} = {value}\n")
            except ConfigError as error:
                assert re.search(r"line \d|more than|bytes", str(error)), error


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), times=st.integers(1, 6))
def test_no_mutated_file_is_more_than_refused(folder: Path, seed: int, times: int) -> None:
    chance = random.Random(seed)
    data = WHOLE.encode()
    pieces = [line.encode() + b"\n" for line in WHOLE.splitlines()]
    pieces += [
        b"[",
        b"]",
        b"=",
        b'"',
        b"'''",
        b"{",
        b"}",
        b",",
        b".",
        b"\r",
        b"\0",
        b"\xff",
        b"[index.",
        b"\\u",
        b"9" * 20,
    ]
    for _ in range(times):
        at, length = chance.randrange(len(data) + 1), chance.choice([0, 1, 3, 20])
        data = data[:at] + chance.choice([b"", chance.choice(pieces)]) + data[at + length :]
    try:
        read(folder, data)
    except ConfigError as error:
        assert str(error).startswith(str(folder)) and "s3cr3t" not in str(error)


def built(folder: Path, text: str) -> None:
    """The sites of a file with this text; folders that it names are made."""
    for name in ("a", "a/b", "c"):
        (folder / name).mkdir(exist_ok=True)
    sites = site.build_all(read(folder, f'cache_dir = "cache"\n{text}'))
    sites.close()


def test_a_folder_inside_another_index_is_refused(folder: Path) -> None:
    for text in (
        'packages = "a"\n[index.inner]\npackages = "a/b"\n',
        '[index.inner]\npackages = "a/b"\n[index.x]\npackages = ["c", "c/../a"]\n',
    ):
        with pytest.raises(ConfigError, match=r"line \d: index.inner: the folder .*a/b of the index inner lies inside"):
            built(folder, text)
    built(folder, 'packages = "a"\nbases = "inner"\n[index.inner]\npackages = "a/b"\n')
    built(folder, '[index.x]\npackages = "a"\nbases = "y"\n[index.y]\nbases = "z"\n[index.z]\npackages = "a/b"\n')
    built(folder, '[index.x]\npackages = "a"\n[index.y]\npackages = ["a", "c"]\n')
    built(folder, 'packages = ["a", "a/b"]\n')
    (folder / "link").symlink_to(folder / "a")
    with pytest.raises(ConfigError, match="lies inside"):
        built(folder, 'packages = "link"\n[index.inner]\npackages = "a/b"\n')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[index.x]\npackages = "none"\n', "line 2: index.x: the packages folder .*none does not exist"),
        ('[index.x]\npackages = "a"\npasswords = "none"\n', "line 4: index.x.passwords .*none"),
        (
            '[index.x]\npackages = "a"\nauthenticate = "list"\n',
            "line 4: index.x.authenticate list needs a password",
        ),
        ('authenticate = "list"\n', 'line 2: authenticate list needs a password file: add passwords = "FILE"'),
        ("authenticate = []\n", 'line 2: authenticate = "." lets anybody upload; say so twice: add passwords = "."'),
        ('passwords = "."\n', 'line 2: passwords = "." means .* but authenticate update asks .*add authenticate = "."'),
        ('packages = "none"\n', "line 2: packages: the packages folder .*none does not exist"),
        ('\npasswords = "none"\n', "line 3: passwords .*none: No such file"),
        ('sendfile_header = "X-Accel-Redirect=/x:/none"\n', "line 2: sendfile_header: /none holds none"),
        ('[index."/"]\ntitle = "x"\n', 'line 2: index."/": what is said of the index at the root'),
        ('[index.team.dev]\ntitle = "x"\n', 'line 2: index.team.dev: .*an index of two words is .index."team/dev".'),
        ('[policy.x]\nsize = "1"\n', "line 2: policy.x: the rules of an index stand in .index.x.policy."),
        ('[index.x]\nbases = "y"\n\n[index.y]\npackages = "none"\n', "^[^:]*line 5: index.y: the packages folder"),
    ],
)
def test_what_an_index_cannot_use_is_said_with_its_line(folder: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        built(folder, text)


def test_stores_are_named_in_the_order_in_which_they_win(folder: Path) -> None:
    for name in "abcd":
        (folder / name).mkdir()
    bases = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
    text = "".join(f'[index.{name}]\npackages = "{name}"\nbases = {some}\n' for name, some in bases.items())
    sites = site.build_all(read(folder, f'cache_dir = "cache"\n{text}'))
    wins = [sites.by_name[name].store for name in ("a", "b", "d", "c")]
    try:
        assert list(sites.by_name["a"].index.stores()) == wins
    finally:
        sites.close()
