"""The rules of who may import whom: read from the source, so that a breach is seen before it is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "pypiserver_lite"
ROOT = Path(__file__).resolve().parent.parent / PACKAGE

LAYERS = (
    ("errors", "dists", "metadata", "model", "kept"),  # values: no input, no output
    ("config",),  # settings
    (
        "patterns",
        "archives",
        "releases",
        "simple",
        "emptied",
        "refusing",
        "index",
        "seen",
        "search",
    ),  # pure: data in, data out
    (
        "digests",
        "disk",
        "rewrite",
        "database",
        "upload",
        "observe",
        "records",
        "rights",
        "policy",
        "folder",
        "upstream",
    ),  # edges: files, network, clocks
    ("site",),  # the one place that names concrete classes
    ("jobs", "web", "servers"),  # what works on a site
    ("cli",),  # the one place that prints
    ("__init__", "wsgi", "__main__"),  # doors
)
"""A unit imports units of earlier rows, and in its own row those to its left. A folder is one unit."""

PLACES = {unit: (row, column) for row, units in enumerate(LAYERS) for column, unit in enumerate(units)}

# What only one unit or module may touch, so that it can be replaced, or reasoned about, in one place.
KEPT_TO = {
    "bottle": {"web"},
    "requests": {"upstream"},
    "urllib3": {"upstream"},
    "waitress": {"servers"},
    "passlib": {"rights"},
    "sqlite3": {"database", "records"},
    "multipart": {"upload"},
    "twine": {"jobs.push"},
    "os.environ": {"cli", "wsgi", "config.load", "upstream.ways"},
    "print": {"cli"},
}

MODULES = sorted(path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in ROOT.rglob("*.py"))


def unit(module: str) -> str:
    """The unit of a module such as ``web.app``, by its name inside the package."""
    return module.split(".", 1)[0]


def source(module: str) -> str:
    return (ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8")


def imported(module: str, text: str) -> Iterator[str]:
    """Absolute names of what a module imports, anywhere in it: ``bottle``, ``pypiserver_lite.errors.Invalid`` …"""
    package = [PACKAGE, *module.split(".")[:-1]]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def own_units(module: str, text: str) -> set[str]:
    """The other units of the package that a module imports; the package's own names are those of ``__init__``."""
    found = set()
    for name in imported(module, text):
        first, _, rest = name.partition(".")
        if first == PACKAGE:
            found.add(unit(rest) if unit(rest) in PLACES or (ROOT / f"{unit(rest)}.py").exists() else "__init__")
    return found - {unit(module)}


def breaches(module: str, text: str) -> list[str]:
    """Every rule that `text`, standing as `module`, breaks."""
    here = unit(module)
    if here not in PLACES:
        return [f"{module} has no place in LAYERS"]
    found = [
        f"{module} imports {other}, which stands above or beside it"
        for other in sorted(own_units(module, text))
        if PLACES.get(other, (99, 99)) > PLACES[here]
    ]
    tree = ast.parse(text)
    used = {name.split(".")[0] for name in imported(module, text)}
    used |= {"os.environ" for name in imported(module, text) if name in ("os.environ", "os.getenv")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            used |= {"os.environ"} if node.attr in ("environ", "environb", "getenv") else set()
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            used.add("print")
    kept = sorted(used & KEPT_TO.keys())
    return found + [f"{module} uses {thing}" for thing in kept if not KEPT_TO[thing] & {here, module}]


def test_the_picture_of_the_house_has_each_unit_in_its_layer() -> None:
    text = (ROOT.parent / "CONTRIBUTING.rst").read_text(encoding="utf-8")
    picture = text.split("::\n\n", 1)[1].split("\n\n", 1)[0]
    names = [line.split("  ")[2].replace("/", "").split() for line in picture.splitlines() if line[4] != " "]
    shown = [name for some in names for name in some]
    assert sorted(shown) == sorted(PLACES)
    layers = [PLACES[name][0] for name in shown]
    assert layers == sorted(layers, reverse=True)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_stands_below_it(module: str) -> None:
    assert breaches(module, source(module)) == []


def test_inside_a_unit_no_modules_import_each_other_in_a_circle() -> None:
    inner: dict[str, set[str]] = {module: set() for module in MODULES}
    for module in MODULES:
        for name in imported(module, source(module)):
            parts = name.split(".")[1:] if name.startswith(PACKAGE + ".") else []
            targets = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
            inner[module] |= {target for target in targets[:2] if target in inner and target != module}
    while inner:
        free = {module for module, others in inner.items() if not others & inner.keys()}
        assert free, f"these import each other: {sorted(inner)}"
        inner = {module: others for module, others in inner.items() if module not in free}


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("errors", "from .web import app"),
        ("model", "def f():\n    from .config import Config"),
        ("dists", "import pypiserver_lite.disk"),
        ("disk", "from .upload import receive"),
        ("index", "from . import make_app"),
        ("folder.store", "from ..site import build"),
        ("site", "import bottle"),
        ("web.app", "import requests.adapters"),
        ("site", "import urllib3.util"),
        ("upstream.client", "import os\nos.environ['A']"),
        ("observe", "import os\nos.environ['A']"),
        ("servers", "from os import getenv"),
        ("jobs.warm", "print('done')"),
        ("helpers", ""),
    ],
)
def test_these_rules_notice_a_breach(module: str, text: str) -> None:
    assert len(breaches(module, text)) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("web.app", "import bottle\nfrom .. import site, upload\nfrom ..errors import Invalid\nfrom . import send"),
        ("folder.store", "from ..upload import receive\nfrom .. import disk"),
        ("cli", "import os\nfrom .web import make_app\nprint(os.environ)"),
        ("wsgi", "import os\nfrom . import make_app\nos.environ"),
        ("upstream.ways", "import os\nos.environ"),
    ],
)
def test_these_rules_allow_what_is_meant(module: str, text: str) -> None:
    assert breaches(module, text) == []
