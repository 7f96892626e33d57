"""The XML-RPC calls that old clients still make (`search`, `list_packages`, `package_releases`), bounded.

The request is parsed with entities, external references and document types
forbidden, and only the few shapes these calls have are understood.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..dists import try_normalize
from ..errors import Invalid
from ..model import Source

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

LONGEST = 64 * 1024  # bytes of a request
MOST_HITS = 100
_DEEPEST = 12  # nested elements; a search needs eight
_MOST_ELEMENTS = 1000


def answer(body: bytes, index: Source) -> bytes:
    """The XML answer to an XML-RPC request. Raises Invalid for anything that is not one."""
    import xmlrpc.client  # here, for hardly anyone calls, and everyone would wait for it at each start

    method, words = _parse(body)
    if method == "search":
        result: Any = _search(index, words)
    elif method == "list_packages":
        result = list(index.names())
    elif method == "package_releases" and words:
        name = try_normalize(words[0])
        project = index.project(name) if name else None
        result = list(reversed(project.versions)) if project else []
    else:
        fault = xmlrpc.client.Fault(-32601, "this index knows search, list_packages and package_releases")
        return xmlrpc.client.dumps(fault, methodresponse=True).encode()
    return xmlrpc.client.dumps((result,), methodresponse=True).encode()


def _parse(body: bytes) -> tuple[str, list[str]]:
    """The method and all texts among its parameters, in order."""
    import defusedxml.ElementTree

    try:
        root = defusedxml.ElementTree.fromstring(body, forbid_dtd=True)
    except (defusedxml.DefusedXmlException, SyntaxError, ValueError, LookupError) as error:
        raise Invalid("the XML of the call is broken or unsafe") from error
    if root.tag != "methodCall" or not _small(root):
        raise Invalid("an XML-RPC methodCall is needed")
    method = (root.findtext("methodName") or "").strip()
    # Names of struct members are keywords of the call, not words to look for; so is the "and"/"or" at the end.
    texts = [value for value in root.iter("value") if not value.findall("struct") and not value.findall("array")]
    words = [(value.findtext("string") or value.text or "").strip()[:200] for value in texts]
    return method, [word for word in words if word]


def _small(root: Element) -> bool:
    level = [root]
    seen = 0
    for _ in range(_DEEPEST):
        seen += len(level)
        level = [child for element in level for child in element]
    return not level and seen <= _MOST_ELEMENTS


def _search(index: Source, words: Sequence[str]) -> list[dict[str, object]]:
    wanted = [word.lower() for word in words if word not in ("and", "or")]
    hits: list[dict[str, object]] = []
    for name in index.names():
        if len(hits) == MOST_HITS:
            break
        if any(word in name or try_normalize(word) == name for word in wanted):
            project = index.project(name)
            version = project.versions[-1] if project and project.versions else ""
            # pypiserver answers the version as summary; clients print it beside the name.
            hits.append({"_pypi_ordering": len(hits), "name": name, "version": version, "summary": version})
    return hits
