"""An upstream's page becomes a `Project`.

Lenient where indexes differ, and strict where a wrong page could pass for an
empty one. Pure: bytes and values, no network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from html.parser import HTMLParser
from typing import cast, get_args
from urllib.parse import quote, unquote, urljoin, urlsplit

from packaging.utils import NormalizedName

from ..dists import parse_filename, project_of, try_normalize, version_key
from ..errors import Unavailable
from ..model import NO_HASHES, File, Project, Status
from .negotiate import FORMS, Form
from .render import shown

PAGE_LIMIT = 64 * 2**20
"""Bytes of the longest page, unpacked."""
LARGE_PAGE = 4 * 2**20
"""Bytes of a page of which not many should be in memory at once."""

_MOST_TAGS = _MOST_BRACKETS = 250_000
_MOST_ATTRIBUTES = _MOST_COMMAS = 1_000_000
"""Each costs up to a hundred bytes and microseconds, however short it is. A file has 4 brackets and some 12 commas."""

_MOST_FILES = 100_000
"""Of one project; with all that can be said of them, brackets allow 60,000. Each takes up to a kilobyte."""
_TEXT_LIMIT = 2_000
_URL_LIMIT = 8_000
_CHARSETS = {"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "latin1", "windows-1252"}
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):?([0-9]{2}))",
    re.ASCII,
)
_LINE_ENDS = re.compile(r"\r\n|[\t-\r\x85\u2028\u2029]")
_ALGORITHM = re.compile(r"[a-z0-9][a-z0-9_-]{0,19}", re.ASCII)
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}){8,64}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DIGEST_CHARACTERS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}


def parse_project(data: bytes, content_type: str, base_url: str, name: NormalizedName) -> Project:
    """A project from an upstream's page, read from `base_url` (the address after all redirects).

    `File.url` is absolute, http or https, without user, password and
    fragment. Files of other projects (pages that list a whole folder),
    unknown kinds of files and links that lead nowhere sensible are passed
    over; so is every value that is not of its type, too long, or holds
    control characters. `versions` are those of the files.

    Raises Unavailable for anything that is not a page of the simple API:
    another type, another major version, another shape, another project.
    A page of plain ``text/html`` must show what it is, or a log-in page
    would pass for a project without files: by the meta element of PEP 629,
    by a link to any distribution, or by a title "Links for ...".
    """
    form = _form_of(data, content_type)
    if form is Form.JSON:
        page = _json_page(data)
        if "name" in page and (not isinstance(page["name"], str) or try_normalize(page["name"]) != name):
            raise Unavailable(f"the upstream answered with another project's page when asked for {name}")
        found = (_file_of_object(entry, base_url, name) for entry in _taken(_listed(page, "files")))
        marker = page.get("project-status")
        status, reason = (marker.get("status"), marker.get("reason")) if isinstance(marker, dict) else (None, None)
    else:
        reader = _read_html(data, content_type, base_url)
        linked = [(anchor, *_target(anchor["href"], reader.base)) for anchor in reader.anchors]
        plausible = reader.title.startswith("links for") or any(project_of(filename) for _, _, filename, _ in linked)
        if form is Form.TEXT and not reader.versioned and not plausible:
            raise Unavailable(f"the upstream answered with some web page instead of the files of {name}")
        found = (_file_of_link(anchor, url, filename, hashes, name) for anchor, url, filename, hashes in linked)
        status, reason = reader.metas.get("pypi:project-status"), reader.metas.get("pypi:project-status-reason")
    known = status in get_args(Status)
    files = _in_order(file for file in found if file is not None)
    return Project(
        name=name,
        files=files,
        versions=tuple(dict.fromkeys(file.version for file in files)),
        status=cast(Status, status) if known else "active",
        reason=_reason(reason) if known else None,
    )


def _form_of(data: bytes, content_type: str) -> Form:
    media = content_type.partition(";")[0].strip().lower()
    if media not in FORMS:
        raise Unavailable(f"the upstream answered with {media[:100]!r}, which is no page of the simple API")
    if len(data) > PAGE_LIMIT:
        raise Unavailable("the upstream's page is too long")
    return FORMS[media]


def _check_version(version: object) -> None:
    if not isinstance(version, str) or not re.fullmatch(r"1\.[0-9]{1,6}", version.strip(), re.ASCII):
        raise Unavailable("the upstream's page is of another version of the simple API than 1")


def _in_order(files: Iterable[File]) -> tuple[File, ...]:
    """Oldest version first; within a version in the order of the page; the first of a name counts."""
    named: dict[str, File] = {}
    for file in files:
        named.setdefault(file.filename, file)
        if len(named) > _MOST_FILES:
            raise Unavailable("the upstream's page has too many files")
    keys = {version: version_key(version) for version in {file.version for file in named.values()}}
    return tuple(sorted(named.values(), key=lambda file: keys[file.version]))


# Values, each ``None`` unless it is what it should be.


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) <= _TEXT_LIMIT and value.isprintable() else None


def _reason(value: object) -> str | None:
    """Text for people: line ends become spaces, what cannot be shown is left out."""
    return None if not isinstance(value, str) else shown(_LINE_ENDS.sub(" ", value))[:_TEXT_LIMIT]


def _hashes(value: object) -> Mapping[str, str]:
    """Well-formed digests, sha256 first: that is the one an HTML link will show."""
    if not value or not isinstance(value, dict):
        return NO_HASHES
    # What nearly every file of a page has.
    digest = value.get("sha256") if len(value) == 1 else None
    if isinstance(digest, str) and _SHA256.fullmatch(digest):
        return {"sha256": digest}
    found: dict[str, str] = {}
    for algorithm, digest in value.items():
        name = algorithm.strip().lower()
        if (
            _ALGORITHM.fullmatch(name)
            and isinstance(digest, str)
            and _HEX.fullmatch(digest)
            and _DIGEST_CHARACTERS.get(name, len(digest)) == len(digest)
        ):
            found[name] = digest.lower()
    return {"sha256": found["sha256"]} | found if "sha256" in found else found


def _written_hash(text: str) -> Mapping[str, str]:
    """The digest of ``ALGORITHM=HEX``, as a dictionary with one entry or none."""
    algorithm, _, digest = text.partition("=")
    return _hashes({algorithm: digest.strip()})


def _time(value: object) -> datetime | None:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    try:
        year, month, day, hour, minute, second = (int(part) for part in match.group(1, 2, 3, 4, 5, 6))
        fraction = int((match[7] or "0").ljust(6, "0")[:6])
        local = datetime(year, month, day, hour, minute, second, fraction, timezone.utc)
        if match[8] is None:
            return local
        away = timedelta(hours=int(match[9] or 0), minutes=int(match[10] or 0))
        return local + away if match[8] == "-" else local - away
    except (ValueError, OverflowError):
        return None


# Links that are what they will be, with nothing to resolve or to quote; and, in two parts, those beside others.
_PLAIN = re.compile(
    r"https?://[a-z0-9.-]+(?::[1-9][0-9]{0,3})?/[A-Za-z0-9._~/%+!-]*(?:#[a-z0-9]+=[0-9a-fA-F]+)?", re.ASCII
)
_BESIDE = re.compile(r"((?:\.\./)*(?:[A-Za-z0-9_~-][A-Za-z0-9._~-]*/)*)([A-Za-z0-9_~-][A-Za-z0-9._~+!-]*)", re.ASCII)


def _url(link: str, base: str) -> str | None:
    """The absolute address of a link, with its fragment; ``None`` if it is not one that we would follow."""
    # A page has thousands of links, and the general way takes longer than everything else about them.
    if len(link) <= _URL_LIMIT:
        if _PLAIN.fullmatch(link):
            return link
        if beside := _BESIDE.fullmatch(link):
            folder = _folder(beside[1] or "./", base)
            return folder and folder + beside[2]
    return _resolved(link, base)


@lru_cache(maxsize=256)
def _folder(link: str, base: str) -> str | None:
    return _resolved(link, base)


def _resolved(link: str, base: str) -> str | None:
    link = link.strip()
    if not link or len(link) > _URL_LIMIT or not link.isprintable():
        return None
    try:
        url = urljoin(base, link)
        parts = urlsplit(url)
        # Reading the port checks it.
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.port == 0:
            return None
    except ValueError:
        return None
    return quote(url, safe="%/:=&?~#+!$,;'@()*[]")


def _target(link: str, base: str) -> tuple[str, str, Mapping[str, str]]:
    """Address without fragment, file name and digest of a link; empty if it leads nowhere sensible."""
    url = _url(link, base)
    if url is None:
        return "", "", NO_HASHES
    url, _, fragment = url.partition("#")
    hashes: Mapping[str, str] = NO_HASHES
    for part in fragment.split("&")[:10]:
        hashes = hashes or _written_hash(part)
    return url, unquote(urlsplit(url).path.rpartition("/")[2]), hashes


def _provenance(value: object) -> str | None:
    url = _url(value, "") if isinstance(value, str) else None
    return url if url is not None and url.startswith("https://") else None


# JSON


def _json_page(data: bytes) -> dict[str, object]:
    if data.count(b"{") + data.count(b"[") > _MOST_BRACKETS or data.count(b",") > _MOST_COMMAS:
        raise Unavailable("the upstream's page has too many parts")
    if data.count(b'"filename"') > _MOST_FILES:  # before it takes memory; `_in_order` counts them all
        raise Unavailable("the upstream's page has too many files")
    try:
        page = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Unavailable("the upstream's page is not valid JSON") from error
    meta = page.get("meta") if isinstance(page, dict) else None
    if not isinstance(meta, dict):
        raise Unavailable("the upstream's JSON is no page of the simple API")
    _check_version(meta.get("api-version"))
    return cast("dict[str, object]", page)


def _listed(page: Mapping[str, object], key: str) -> list[object]:
    entries = page.get(key)
    if not isinstance(entries, list):
        raise Unavailable(f"the upstream's JSON has no list of {key}")
    return entries


def _taken(entries: list[object]) -> Iterator[object]:
    """Each in its order; what has been taken is nowhere any more, so that a page is not there twice."""
    entries.reverse()
    while entries:
        yield entries.pop()


def _file_of_object(entry: object, base: str, name: NormalizedName) -> File | None:
    if not isinstance(entry, dict):
        return None
    filename, link = entry.get("filename"), entry.get("url")
    parsed = parse_filename(filename, name) if isinstance(filename, str) else None
    url = _url(link, base) if isinstance(link, str) else None
    if parsed is None or url is None:
        return None
    size, yanked, signed = entry.get("size"), entry.get("yanked"), entry.get("gpg-sig")
    metadata = entry.get("core-metadata", entry.get("dist-info-metadata"))
    return File(
        filename=parsed.filename,
        project=name,
        version=parsed.version,
        size=size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63 else None,
        hashes=_hashes(entry.get("hashes")),
        requires_python=_text(entry.get("requires-python")),
        uploaded=_time(entry.get("upload-time")),
        yanked="" if yanked is True else _reason(yanked or None),
        core_metadata=_hashes(metadata) if metadata is True or isinstance(metadata, dict) else None,
        has_signature=signed if isinstance(signed, bool) else None,
        provenance=_provenance(entry.get("provenance")),
        url=url.partition("#")[0],
    )


# HTML


_WANTED = {
    "href",
    "data-core-metadata",
    "data-dist-info-metadata",
    "data-gpg-sig",
    "data-provenance",
    "data-requires-python",
    "data-yanked",
}
"""The attributes of a link that say something of its file; what else stands there is not kept."""


class _Reader(HTMLParser):
    """Picks the links, the base, the metas and the title out of a page."""

    def __init__(self, base: str) -> None:
        super().__init__(convert_charrefs=True)
        self.anchors: list[dict[str, str]] = []
        self.base = base
        self.metas: dict[str, str] = {}
        self.title = ""
        self._based = self._titled = False
        self._attributes = 0

    @property
    def versioned(self) -> bool:
        """Whether the page says that it is one of the simple API (PEP 629)."""
        return "pypi:repository-version" in self.metas

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of an element that matters. Raises Unavailable if there are too many attributes."""
        self._attributes += len(attrs)
        if self._attributes > _MOST_ATTRIBUTES:
            raise Unavailable("the upstream's page has too many attributes")
        attributes = {name: value or "" for name, value in reversed(attrs)}  # the first of a name counts
        if tag == "a" and "href" in attributes:
            self.anchors.append({name: attributes[name] for name in _WANTED & attributes.keys()})
        elif tag == "meta" and "name" in attributes:
            self.metas.setdefault(attributes["name"].strip().lower(), attributes.get("content", ""))
        elif tag == "base" and attributes.get("href") and not self._based:
            self.base = _url(attributes["href"], self.base) or self.base
            self._based = True
        self._titled = tag == "title"

    def handle_endtag(self, tag: str) -> None:
        """Take note of where text no longer matters."""
        self._titled = False

    def handle_data(self, data: str) -> None:
        """Keep the text of the title."""
        if self._titled and len(self.title) < _TEXT_LIMIT:
            self.title = (self.title + data).lstrip().lower()


_PIECE = 2**16
_TAG_LIMIT = 2**18


def _read_html(data: bytes, content_type: str, base: str) -> _Reader:
    if data.count(b"<") > _MOST_TAGS:
        raise Unavailable("the upstream's page has too many tags")
    # Only encodings that are one: Python also knows "charsets" that unpack and decode.
    match = re.search(r";\s*charset\s*=\s*\"?([A-Za-z0-9_-]{1,20})", content_type, re.ASCII | re.IGNORECASE)
    charset = match[1].lower() if match and match[1].lower() in _CHARSETS else "utf-8"
    text = data.decode(charset, "replace").removeprefix("\ufeff")
    reader = _Reader(base)
    try:
        for at in range(0, len(text), _PIECE):
            reader.feed(text[at : at + _PIECE])
            # html.parser reads an unfinished tag again with each piece, and older Pythons take quadratic
            # time over many of them at the end: hence the bound, and no close().
            if len(reader.rawdata) > _TAG_LIMIT:
                raise Unavailable("the upstream's page is not readable HTML")
    except (AssertionError, ValueError) as error:
        # Older Pythons raise these for odd declarations.
        raise Unavailable("the upstream's page is not readable HTML") from error
    if "<" in reader.rawdata:
        raise Unavailable("the upstream's page ends in the middle of a tag")
    if reader.versioned:
        _check_version(reader.metas["pypi:repository-version"])
    return reader


def _file_of_link(
    attributes: Mapping[str, str], url: str, filename: str, hashes: Mapping[str, str], name: NormalizedName
) -> File | None:
    parsed = parse_filename(filename, name)
    if parsed is None:
        return None
    metadata = attributes.get("data-core-metadata", attributes.get("data-dist-info-metadata", "")).strip()
    digest = _written_hash(metadata)
    return File(
        filename=filename,
        project=name,
        version=parsed.version,
        hashes=hashes,
        requires_python=_text(attributes.get("data-requires-python")) or None,
        yanked=_reason(attributes.get("data-yanked")),
        core_metadata=digest if digest or metadata.lower() == "true" else None,
        has_signature={"true": True, "false": False}.get(attributes.get("data-gpg-sig", "").strip().lower()),
        provenance=_provenance(attributes.get("data-provenance")),
        url=url,
    )
