"""What a release says about itself: its core metadata in full, for people and for the JSON API.

Everything here was written by whoever made the distribution. It is bounded,
and free of control characters; that it is text and not markup is for those
to see to who show it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import getaddresses
from typing import Any

from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName

from . import dists

LONGEST_DESCRIPTION = 2**20
"""Bytes of a description that are kept."""
_LONGEST_HEADER, _MOST_LINES = 64 * 2**10, 1_000
"""What the library's parser gets of a header, its description left out: its time is quadratic in distinct names."""
_LONGEST = 2_000  # characters of any other text
_MOST = 500  # values of a field that may repeat

_LINE = re.compile(rb"[^\r\n]*(\r\n|\r|\n|\Z)")
_ONCE = ("metadata-version", "name", "version", "requires-python", "summary")
_EXTRA = re.compile(r"""\bextra\s*==\s*['"]([A-Za-z0-9._-]{1,100})['"]""")
_EXTRA_ONLY = re.compile(r"""(^| and )extra == ["'][A-Za-z0-9._-]{1,100}["']$""")
_URL = re.compile(r"https?://[^\s<>\"'\\]{1,2000}", re.IGNORECASE)
_MAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,253}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who made or keeps the project; either text may be empty."""

    name: str
    mail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """One requirement (PEP 508)."""

    name: NormalizedName
    text: str
    """What follows the name: extras, versions, marker."""
    extra: str = ""
    """The extra that asks for it; empty if it is always needed."""


def _addresses(text: str) -> list[tuple[str, str]]:
    """Names and addresses in a field (RFC 5322); none where comments are nested deeper than the reader can go."""
    try:
        return getaddresses([text])
    except RecursionError:
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The core metadata of a release; an absent text is empty. `fields` are named as in PyPI's JSON API."""

    fields: Mapping[str, Any]
    description: str = ""
    description_type: str = ""
    """Media type without parameters, lower-case: ``text/markdown``, ``text/x-rst``, ``text/plain`` or empty."""

    def text(self, field: str) -> str:
        """A field that has one value."""
        return self.fields.get(field) or ""

    def listed(self, field: str) -> tuple[str, ...]:
        """A field that may repeat."""
        return self.fields.get(field) or ()

    @property
    def requires_python(self) -> str | None:
        """The specifier, if it is ASCII as specifiers are (PEP 440)."""
        text = " ".join(self.text("requires_python").split())
        return text if re.fullmatch(r"[ -~]+", text) and len(text) < _LONGEST else None

    @property
    def summary(self) -> str:
        """One line of printable text, or nothing."""
        text = " ".join(self.text("summary").split())
        return text if text.isprintable() and len(text) < _LONGEST else ""

    def holds_for(self, kind: dists.Kind) -> bool:
        """Whether ``FILE.metadata`` may be offered: what is in the file must hold for whatever is installed from it.

        True of wheels; of sdists only if nothing in them is dynamic (PEP 643,
        658). Installers believe it without building.
        """
        if kind == "wheel":
            return True
        match = re.fullmatch(r"([0-9]{1,3})\.([0-9]{1,3})", self.text("metadata_version"), re.ASCII)
        recent = match is not None and (int(match[1]), int(match[2])) >= (2, 2)
        return kind == "sdist" and recent and not self.listed("dynamic")

    @property
    def weight(self) -> int:
        """Bytes this takes in memory, nearly."""
        return 4 * len(self.description) + sum(len(str(value)) for value in self.fields.values()) + 2000

    def people(self) -> tuple[Person, ...]:
        """Authors, then maintainers, each once."""
        found: dict[tuple[str, str], Person] = {}
        for role in ("author", "maintainer"):
            names, mails = self.text(role), self.text(f"{role}_email")
            addresses = [(name.strip(), mail) for name, mail in _addresses(mails) if name or mail]
            if names and len(addresses) == 1 and not addresses[0][0]:
                addresses = [(names, addresses[0][1])]
            elif names and names not in {name for name, _ in addresses}:
                addresses.insert(0, (names, ""))
            for name, mail in addresses:
                mail = mail if _MAIL.fullmatch(mail) else ""
                if name or mail:
                    found.setdefault((name, mail), Person(name=name, mail=mail))
        return tuple(found.values())

    def licence(self) -> str:
        """The SPDX expression, else the licence's name, else what the classifiers say."""
        named = self.text("license_expression") or self.text("license").split("\n", 1)[0].strip()
        if named and len(named) <= 100:
            return named
        kinds = [line.rsplit(" :: ", 1)[-1] for line in self.listed("classifiers") if line.startswith("License :: ")]
        return ", ".join(kinds)

    def links(self) -> tuple[tuple[str, str], ...]:
        """Label and address of the project's own pages; http and https only."""
        urls = dict(self.fields.get("project_urls") or {})
        for label, field in (("Homepage", "home_page"), ("Download", "download_url")):
            if self.text(field) not in urls.values():
                urls.setdefault(label, self.text(field))
        return tuple((label or url, url) for label, url in urls.items() if _URL.fullmatch(url))

    def dependencies(self) -> tuple[Dependency, ...]:
        """What it requires, in its own order; what cannot be read is left out."""
        return tuple(_dependencies(self.listed("requires_dist")))


NOTHING = About(fields={})
"""Of a release that says nothing, or whose files cannot be read."""


def parse(metadata: bytes) -> About:
    """All of a METADATA or PKG-INFO that is understood; of a field that must not repeat, the first. Never raises."""
    head, body = _divided(metadata[: 2 * LONGEST_DESCRIPTION])
    raw: Mapping[str, Any]
    try:
        raw, unread = parse_email(head)
    except Exception:  # the e-mail parser raises what it likes at what strangers wrote
        return NOTHING
    raw = {**{name.replace("-", "_"): unread[name][0] for name in _ONCE if unread.get(name)}, **raw}
    fields: dict[str, Any] = {}
    for key, value in raw.items():
        if isinstance(value, str):
            fields[key] = _clean(value)
        elif isinstance(value, Mapping):
            fields["project_urls"] = {_clean(str(k)): _clean(str(v)) for k, v in list(value.items())[:_MOST]}
        else:
            fields[key] = tuple(_clean(str(item)) for item in list(value)[:_MOST])
    # The form of metadata 1.x: the continuation lines of a header.
    description = re.sub(r"\n {7}[ |]", "\n", body[:LONGEST_DESCRIPTION].decode("utf-8", "replace"))
    return About(
        fields=fields,
        description=dists.CONTROLS.sub("\N{REPLACEMENT CHARACTER}", description.replace("\r\n", "\n")).strip("\n"),
        description_type=str(fields.get("description_content_type", "")).split(";")[0].strip().lower(),
    )


def _divided(data: bytes) -> tuple[bytes, bytes]:
    """As much of the header as the parser may see, and the description, which follows it or is one of its fields."""
    head, lines, begin, end, inside = bytearray(), 0, 0, 0, False
    for match in _LINE.finditer(data):
        line = match[0]
        if not line or match[1] == line:
            break
        if line[:1] not in (b" ", b"\t"):
            inside = not begin and line[:12].lower() == b"description:"
            begin = match.start() + 12 if inside else begin
        if inside:
            end = match.end()
            continue
        lines += 1
        if lines > _MOST_LINES or len(head) + len(line) > _LONGEST_HEADER:
            return bytes(head), data[begin:end].lstrip()
        head += line
    body = data[match.end() :]
    return bytes(head), body if body.strip() else data[begin:end].lstrip()


def _clean(text: str) -> str:
    return dists.CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text[:_LONGEST]).strip()


def _dependencies(lines: Iterable[str]) -> Iterator[Dependency]:
    for line in lines:
        try:
            requirement = Requirement(line)
        except (InvalidRequirement, RecursionError):
            continue
        name = dists.try_normalize(requirement.name)
        if name is None:
            continue
        extra = _EXTRA.search(str(requirement.marker or ""))
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        text = f"{extras} {requirement.specifier}".rstrip() if requirement.specifier else extras
        # What its group says already is not said again.
        condition = _EXTRA_ONLY.sub("", str(requirement.marker or ""))
        marker = f"; {condition}" if condition else ""
        yield Dependency(name=name, text=text + marker, extra=extra[1] if extra else "")
