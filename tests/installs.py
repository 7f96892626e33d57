"""Environments that hold this project, what it declares to need, and nothing else."""

from __future__ import annotations

import importlib.metadata
import shutil
import venv
from collections.abc import Iterable
from pathlib import Path

import tomli
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NEEDED: list[str] = PYPROJECT["project"]["dependencies"]
FAST: list[str] = PYPROJECT["project"]["optional-dependencies"]["fast"]
BACKEND: list[str] = PYPROJECT["build-system"]["requires"]

_NOT_OURS = shutil.ignore_patterns(
    *(".git", ".venv*", "build", "dist", "packages", "node_modules", "*.egg-info", "__pycache__", ".*_cache"),
    ".hypothesis",
)


def copy_project(destination: Path) -> Path:
    """A copy of the whole project without what git ignores, since building leaves traces in the folder it builds."""
    return Path(shutil.copytree(ROOT, destination, ignore=_NOT_OURS))


def closure(requirements: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """What `requirements` need, and what that needs, as it is installed here, by normalized name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    seen = set()
    waiting = [(requirement, "") for requirement in requirements]
    while waiting:
        text, extra = waiting.pop()
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        distribution = importlib.metadata.distribution(requirement.name)
        found[canonicalize_name(requirement.name)] = distribution
        for wanted in ("", *requirement.extras):
            if (requirement.name, wanted) not in seen:
                seen.add((requirement.name, wanted))
                waiting += [(line, wanted) for line in distribution.requires or ()]
    return found


def provide(folder: Path, requirements: Iterable[str]) -> Path:
    """A folder for ``sys.path`` with `requirements` and all they need: links, so that nothing is fetched."""
    folder.mkdir(parents=True)
    for distribution in closure(requirements).values():
        files = distribution.files
        assert files, f"{distribution} does not say which files it has"
        for name in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            (folder / name).symlink_to(Path(str(distribution.locate_file(name))).resolve())
    return folder


def add_path(environment: Path, folder: Path) -> None:
    """Let a virtual environment see the modules in `folder`."""
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "needed.pth").write_text(f"{folder}\n", encoding="utf-8")


def make_environment(folder: Path) -> Path:
    """An empty virtual environment that sees what this project declares to need; its Python."""
    venv.create(folder, symlinks=True)
    add_path(folder, provide(folder / "needed", NEEDED))
    return folder / "bin" / "python"
