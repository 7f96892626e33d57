"""The XML-RPC calls that old clients and mirrors still make, bounded.

The request is looked through with entities, external references and document
types forbidden before anything else reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from packaging.utils import NormalizedName

from ..dists import normalize, try_normalize
from ..errors import Invalid, Missing
from ..kept import Kept
from ..model import File, Project, Source, State
from ..releases import release
from ..search import MOST_WORDS, Catalogue
from . import legacy_json

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from .catalogue import Overview

LONGEST = 64 * 1024  # bytes of a request
MOST_HITS = 100
_DEEPEST = 12  # nested elements; a search needs eight
_MOST_ELEMENTS = 1000
_MOST = 2**31 - 1
_NO_METHOD, _BAD_PARAMETERS = -32601, -32602


class Calls:
    """What can be called, over `index` while its folders are in `state`; links begin with the index's own `address`.

    Answers that name every project are `kept`.
    """

    def __init__(self, index: Source, overview: Overview, state: State, address: str, kept: Kept[bytes]) -> None:
        self._index, self._overview, self._state, self._address, self._kept = index, overview, state, address, kept
        self._methods: Mapping[str, tuple[Callable[..., Any], tuple[type, ...], int]] = {
            "search": (self.search, (object, str), 1),
            "list_packages": (self.list_packages, (), 0),
            "list_packages_with_serial": (self.list_packages_with_serial, (), 0),
            "changelog_last_serial": (self.changelog_last_serial, (), 0),
            "changelog_since_serial": (self.changelog_since_serial, (int,), 1),
            "package_releases": (self.package_releases, (str, object), 1),
            "release_urls": (self.release_urls, (str, str), 2),
            "release_data": (self.release_data, (str, str), 2),
        }
        """Each with the types of its parameters, and how many of them it must be given."""

    def answer(self, body: bytes) -> bytes:
        """The XML answer to an XML-RPC request. Raises Invalid for anything that is not one, and Unavailable."""
        import xmlrpc.client  # here, for hardly anyone calls, and everyone would wait for it at each start

        name, parameters = _parse(body)
        if name not in self._methods:
            fault = xmlrpc.client.Fault(_NO_METHOD, f"this index knows {', '.join(sorted(self._methods))}")
            return xmlrpc.client.dumps(fault, methodresponse=True).encode()
        method, types, needed = self._methods[name]
        if not needed <= len(parameters) <= len(types) or not all(map(isinstance, parameters, types)):
            fault = xmlrpc.client.Fault(_BAD_PARAMETERS, f"{name} takes other parameters")
            return xmlrpc.client.dumps(fault, methodresponse=True).encode()
        result = method(*parameters)
        return result if isinstance(result, bytes) else _written(result)

    def search(self, fields: Any, operator: str = "and") -> list[dict[str, object]]:
        """Projects that have all words (or with ``or`` any of them) in their name or summary."""
        words = list(dict.fromkeys(_words(fields)))[:MOST_WORDS]
        catalogue = self._overview.catalogue()
        queries = words if operator == "or" else [" ".join(words)]
        names = dict.fromkeys(name for query in queries if query for name in catalogue.find(query)[:MOST_HITS])
        found = ((name, self._shown(name)) for name in list(names)[:MOST_HITS])
        hits = [(name, project) for name, project in found if project is not None]
        return [self._hit(catalogue, *hit, number) for number, hit in enumerate(hits)]

    def _hit(self, catalogue: Catalogue, name: NormalizedName, project: Project, number: int) -> dict[str, object]:
        version = project.versions[-1] if project.versions else ""
        # pypiserver answers the version as summary where there is none; clients print it beside the name.
        summary = catalogue.hit(name).summary or version
        return {"_pypi_ordering": number, "name": name, "version": version, "summary": summary}

    def list_packages(self) -> bytes:
        """Every project."""
        return self._listed("list_packages", list)

    def list_packages_with_serial(self) -> bytes:
        """Every project, and the serial to remember for it."""
        return self._listed("list_packages_with_serial", lambda names: dict.fromkeys(names, self._state.serial))

    def changelog_last_serial(self) -> int:
        """The serial of the index."""
        return self._state.serial

    def changelog_since_serial(self, serial: int) -> bytes | list[object]:
        """Name, version, time, action and serial of what may have changed; a folder does not tell more."""
        if serial >= self._state.serial:
            return []
        moment, last = self._state.moment, self._state.serial
        return self._listed("changelog", lambda names: [[name, None, moment, "change", last] for name in names])

    def _listed(self, what: str, make: Callable[[Sequence[str]], object]) -> bytes:
        names = self._index.names()
        return self._kept.get((what,), (names, self._state), lambda: _written(make(names)))

    def package_releases(self, name: str, show_hidden: object = False) -> list[str]:
        """The releases of a project, the newest first."""
        project = self._project(name)
        return list(reversed(project.versions)) if project else []

    def release_urls(self, name: str, version: str) -> list[dict[str, object]]:
        """The files of a release."""
        project, spelled = self._release(name, version)
        return [_file(file, self._address) for file in project.files if file.version == spelled] if project else []

    def release_data(self, name: str, version: str) -> dict[str, object]:
        """What a release says of itself."""
        project, spelled = self._release(name, version)
        return legacy_json.release_info(project, spelled, self._index, self._address) if project else {}

    def _project(self, name: str) -> Project | None:
        return self._shown(normalize(name)) if try_normalize(name) else None

    def _shown(self, name: NormalizedName) -> Project | None:
        """A project; ``None`` for one that is not here, hidden, or one that nobody is asked for: all look the same."""
        try:
            return self._index.project(name)
        except Missing:
            return None

    def _release(self, name: str, version: str) -> tuple[Project | None, str]:
        project = self._project(name)
        try:
            return project, release(project, version) if project else ""
        except Missing:
            return None, ""


def _file(file: File, address: str) -> dict[str, object]:
    # XML-RPC's whole numbers have 32 bits; a larger one comes as a float, which has 53.
    size = file.size
    return {**legacy_json.file_json(file, address), "size": size if size is None or size <= _MOST else float(size)}


def _parse(body: bytes) -> tuple[str, tuple[Any, ...]]:
    """The method and its parameters."""
    import xmlrpc.client

    import defusedxml.ElementTree

    try:
        root = defusedxml.ElementTree.fromstring(body, forbid_dtd=True)
        if root.tag == "methodCall" and _small(root):
            parameters, name = xmlrpc.client.loads(body)
            return name or "", parameters
    except Exception as error:  # the two parsers raise what they like at what strangers wrote
        raise Invalid("the XML of the call is broken or unsafe") from error
    raise Invalid("an XML-RPC methodCall is needed")


def _small(root: Element) -> bool:
    level = [root]
    seen = 0
    for _ in range(_DEEPEST):
        seen += len(level)
        level = [child for element in level for child in element]
    return not level and seen <= _MOST_ELEMENTS


def _words(fields: Any) -> list[str]:
    """What is looked for: a text, or texts under whatever fields they are to be in."""
    if isinstance(fields, Mapping):
        fields = list(fields.values())
    if isinstance(fields, list):
        return [word for field in fields for word in _words(field)]
    return str(fields).lower().split()


def _written(result: Any) -> bytes:
    import xmlrpc.client

    return xmlrpc.client.dumps((result,), methodresponse=True, allow_none=True).encode()
