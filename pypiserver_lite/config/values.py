"""What the values of settings look like as text, and what they become.

Each function takes what a flag, a variable or a caller gave: text, or the
value itself. It raises ValueError with the reason, for `config` to say which
setting it was.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from packaging.specifiers import SpecifierSet

ACTIONS = ("update", "download", "list")
RIGHTS = ("list", "download", "upload", "yank", "remove", "push", "admin")
"""What rules speak of; the first of `ACTIONS` means several of these."""
NO_PASSWORDS = Path()
"""`passwords` after ``-P .``: nobody can log in, and nothing needs to."""

_DIGITS, _SIZE_DIGITS = 12, 28  # that numbers have at most
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def masked(value: object, most: int = 50) -> str:
    """A value in quotes for a message: `most` characters, without user and password if it may be an address.

    Whoever puts an address under another key than its own must not read its password in a log.
    """
    text = re.sub(r"^((?:[^@]*?//)?).*@", r"\1***@", str(value), flags=re.DOTALL)
    # Of one that was taken to pieces, as where a password holds a comma, only the first part may be here.
    text = re.sub(r"//[^/@:]*:(?![0-9]{0,5}(/|$)).*", "//***", text, flags=re.DOTALL)
    return repr(text[:most])


def parse_port(value: object) -> int:
    """A TCP port, 0 (any free one) to 65535."""
    port = _integer(value)
    if not 0 <= port <= 65535:
        raise ValueError("a port lies between 0 and 65535")
    return port


def parse_count(value: object) -> int:
    """A whole number, 1 or more."""
    count = _integer(value)
    if count < 1:
        raise ValueError("a whole number of 1 or more is needed")
    return count


def parse_threads(value: object) -> int:
    """How many threads, 1 to 1000."""
    threads = _integer(value)
    if not 1 <= threads <= 1000:
        raise ValueError("a number of threads lies between 1 and 1000")
    return threads


def parse_seconds(value: object) -> int:
    """A whole number of seconds, 0 or more."""
    seconds = _integer(value)
    if seconds < 0:
        raise ValueError("a number of seconds cannot be negative")
    return seconds


def _integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= 10**_DIGITS:
            raise ValueError("it is too large a number")
        return value
    text = str(value).strip()
    if not re.fullmatch(r"-?[0-9]+", text, re.ASCII):
        raise ValueError(f"{masked(text)} is not a whole number")
    if len(text) > _DIGITS:
        raise ValueError(f"{text[:50]} is too large a number")
    return int(text)


def parse_size(value: object) -> int:
    """Bytes: a whole number, or one with a unit as in ``500MB``, ``10GB``, ``2GiB``."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < 10**_SIZE_DIGITS:
            raise ValueError("a size cannot be negative" if value < 0 else "it is too large a size")
        return value
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)\s*([kmgt]i?)?b?", str(value).strip().lower(), re.ASCII)
    if match is None:
        raise ValueError(f"{masked(value)} is not a size such as 500MB or 2GiB")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def shown_size(count: int | None) -> str:
    """Bytes as people read them; empty if unknown."""
    if count is None:
        return ""
    amount = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{count} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"


def parse_switch(value: object) -> bool:
    """On or off."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("", "0", "false", "no", "off"):
        return False
    raise ValueError(f"{masked(value)} is neither yes nor no")


def parse_text(value: object) -> str:
    """Any text but an empty one."""
    text = str(value)
    if not text or "\0" in text:
        raise ValueError("it is empty" if not text else "it holds a NUL character")
    return text


def parse_path(value: object) -> Path:
    """A path; ``~`` is the user's home."""
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(f"{masked(value)} is not a path")
    try:
        text = parse_text(value)
        if re.match("[a-z]+://", text, re.IGNORECASE):
            raise ValueError("it is an address, and no path")
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{masked(value, 200)}: there is no such home; name the folder in full") from error


def parse_paths(value: object) -> tuple[Path, ...]:
    """One or several paths."""
    paths = tuple(parse_path(item) for item in _listed(value))
    if not paths:
        raise ValueError("name a folder at least")
    return paths


def _listed(value: object) -> Iterable[object]:
    return value if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else (value,)


def parse_words(value: object) -> tuple[str, ...]:
    """One or several words, listed or separated by commas or white space."""
    return tuple(word for item in _listed(value) for word in re.split(r"[,\s]+", str(item)) if word)


def parse_hosts(value: object) -> tuple[str, ...]:
    """One or several host names without a port, listed or separated by commas or white space; ``*`` is any."""
    names = parse_words(value)
    for name in names:
        if not re.fullmatch(r"\*|[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", name, re.ASCII):
            raise ValueError(f"{masked(name)} is not a host's name, without http:// and port")
    return names


def parse_passwords(value: object) -> Path:
    """The htpasswd file, or ``.`` for none."""
    return NO_PASSWORDS if str(value) == "." else parse_path(value)


def parse_actions(value: object) -> frozenset[str]:
    """Actions, listed or separated by commas or white space; ``.`` is none."""
    words = [word for item in _listed(value) for word in re.split(r"[,\s]+", str(item).strip().lower()) if word]
    if words in ([], ["."]):
        return frozenset()
    for word in words:
        if word not in ACTIONS:
            raise ValueError(f"{masked(word)} is none of {', '.join(ACTIONS)}, or '.' for none of them")
    return frozenset(words)


def parse_rights(value: object) -> frozenset[str]:
    """Actions that a rule is about, listed or separated by commas or white space; ``*`` is all of them."""
    words = [word.lower() for word in parse_words(value)]
    for word in words:
        if word not in (*RIGHTS, "*"):
            hint = f"; did you mean {close[0]!r}?" if (close := get_close_matches(word, RIGHTS, 1)) else ""
            several = "; 'update' of -a is upload, yank, remove, push here" if word == "update" else ""
            raise ValueError(f"{masked(word)} is none of {', '.join(RIGHTS)}, or '*' for all{several or hint}")
    if not words:
        raise ValueError("it names no action")
    return frozenset(RIGHTS) if "*" in words else frozenset(words)


def parse_people(value: object) -> tuple[str, ...]:
    """Names of users, each a text of its own: they may hold spaces."""
    return _people(value, groups=False)


def parse_members(value: object) -> tuple[str, ...]:
    """Names of users, or none at all."""
    return parse_people(value) if tuple(_listed(value)) else ()


def parse_whom(value: object) -> tuple[str, ...]:
    """Names of users, groups as ``@NAME``, and the words ``*``, ``users`` and ``owner``."""
    return _people(value, groups=True)


def _people(value: object, *, groups: bool) -> tuple[str, ...]:
    names = tuple(str(item).strip() for item in _listed(value))
    for name in names:
        if name in ("", "@") or ":" in name or not name.isprintable():
            raise ValueError(f"{masked(name)} is no name of a user: those have no colon and no control character")
        if not groups and name.startswith("@"):
            raise ValueError("a group is no name of a user; name each user")
        if not groups and (name.startswith("#") or name in ("*", "users", "owner")):
            raise ValueError(f"{masked(name)} is no name of a user here; name each user")
    if not names:
        raise ValueError("it names nobody")
    return names


class Url(str):
    """An address that may hold a user and a password; its ``repr`` shows neither."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(re.sub(r"//[^/]*@", "//***@", str(self)))


def public(url: str) -> str:
    """An address without a password that may be in it, for everybody's eyes."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def parse_urls(value: object) -> tuple[Url, ...]:
    """One or several http(s) addresses, listed or separated by white space; each ends in a slash afterwards.

    Other letters than those of ASCII are percent-encoded, as browsers do (RFC 3987 section 3.1).
    """
    urls = [word for item in _listed(value) for word in str(item).split() or ("",)]
    for url in urls:
        if not re.fullmatch(r"https?://([^/@\s]*@)?[^/@\s]+(/[^?#]*)?", url, re.IGNORECASE) or re.search(
            r"[\x00-\x20\x7f\"<>\\]", url
        ):
            raise ValueError("an address that begins with http:// or https:// is needed")
        if "@" in url.split("/", 3)[-1] and url.count("/") > 2:  # what of it is a password is anybody's guess
            raise ValueError("an @ in a path is written %40, and a / in a password %2F")
        if not _is_host(url):
            raise ValueError("an address that begins with http:// or https:// is needed, with a number as its port")
        if not url.split("/")[2].rpartition("@")[2].isascii():  # of which there is more than one reading (IDNA)
            raise ValueError("a host with other letters than those of ASCII is needed as it is looked up, xn--…")
    return tuple(Url(re.sub(r"[^\x00-\x7f]+", _percent, url.rstrip("/") + "/")) for url in urls)


def _percent(letters: re.Match[str]) -> str:
    return quote(letters[0], errors="surrogateescape")


def parse_base_url(value: object) -> str:
    """The address at which clients see this index, ``https://HOST/PATH/``, or its path alone; it ends in a slash."""
    match = re.fullmatch(r"(https?://[A-Za-z0-9.\[\]:-]+(?=/|$))?/*([A-Za-z0-9._~/-]*?)/*", str(value), re.ASCII)
    if match is None or re.search(r"(^|/)(\.{0,2})/|(^|/)\.{1,2}$", match[2]) or not _is_host(match[1] or ""):
        raise ValueError(
            f"{masked(value)} is neither a path such as /python/ nor an address such as https://HOST/python/"
        )
    return f"{match[1] or ''}/{match[2]}/" if match[2] else f"{match[1] or ''}/"


def _is_host(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.port is None or (parts.hostname is not None or not address)
    except ValueError:  # brackets without an address of IPv6 in them, a port that is none
        return False


def parse_patterns(value: object) -> tuple[str, ...]:
    """Names of projects, or patterns of them with ``*``, ``?`` and ``[abc]``."""
    words = parse_words(value)
    if not all(map(parse_words, _listed(value))):
        raise ValueError("it is empty")
    for word in words:
        if not re.fullmatch(r"([A-Za-z0-9._*?-]|\[!?[A-Za-z0-9._-]+\])+", word, re.ASCII):
            raise ValueError(f"{masked(word)} is no name of a project, nor a pattern of names such as 'acme-*'")
    return words


def parse_url(value: object) -> Url:
    """One address, as `parse_urls` has them."""
    urls = parse_urls(value)
    if len(urls) != 1:
        raise ValueError("exactly one address is needed")
    return urls[0]


def parse_hash_algo(value: object) -> str | None:
    """The name of a hash that hashlib has with a fixed length, or ``no``, ``off``, ``0`` or ``false`` for none."""
    name = "no" if value is None else str(value).strip().lower()
    if name in ("no", "off", "0", "false"):
        return None
    if name not in hashlib.algorithms_available or not hashlib.new(name, usedforsecurity=False).digest_size:
        raise ValueError(f"this Python has no hash called {masked(name)}; sha256 is what clients check")
    return name


def parse_cache_control(value: object) -> int | None:
    """Seconds that clients may use a file without asking again; ``no-cache`` is none."""
    return None if value is None else 0 if value == "no-cache" else parse_seconds(value)


def parse_endpoint(value: object) -> str:
    """A path on this server, beginning with a slash."""
    path = str(value)
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path, re.ASCII):
        raise ValueError(f"{masked(path)} is not a path such as /health")
    return path


@dataclass(frozen=True, slots=True)
class Sendfile:
    """How a web server in front is told to send a file by itself.

    `header` names the response header that it obeys. Where `mappings` are
    given, a file below one of their folders is named by the address prefix
    in place of the folder, and no other file is handed over; without them
    every file is, by its path.
    """

    header: str
    mappings: tuple[tuple[str, Path], ...] = ()

    def __str__(self) -> str:
        mapped = ",".join(f"{prefix}:{folder}" for prefix, folder in self.mappings)
        return f"{self.header}={mapped}" if mapped else self.header


def parse_sendfile(value: object) -> Sendfile:
    """``X-Sendfile``, or ``X-Accel-Redirect=/prefix:FOLDER``; several mappings are separated by commas."""
    if isinstance(value, Sendfile):
        return value
    header, _, rest = str(value).partition("=")
    if not re.fullmatch(r"[A-Za-z0-9-]{1,50}", header, re.ASCII):
        raise ValueError(f"{masked(header)} is not the name of a header, such as X-Accel-Redirect or X-Sendfile")
    mappings = []
    for mapping in rest.split(",") if rest else ():
        prefix, _, folder = mapping.partition(":")
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+/?", prefix, re.ASCII) or not folder:
            raise ValueError(f"{masked(mapping, 100)} is not a mapping such as /_files:/srv/packages")
        mappings.append((prefix, parse_path(folder)))
    if header.lower() == "x-accel-redirect" and not mappings:
        raise ValueError("nginx needs an address: X-Accel-Redirect=/_files:FOLDER, and an internal location /_files/")
    return Sendfile(header, tuple(mappings))


def parse_line(value: object) -> str:
    """One line of text, which may be empty."""
    text = str(value).strip()
    if not text.isprintable():
        raise ValueError("it is one line of text, without control characters")
    return text


def parse_texts(value: object) -> tuple[str, ...]:
    """One or several texts, none of them empty."""
    texts = tuple(parse_line(item) for item in _listed(value))
    if not all(texts):
        raise ValueError("it is empty")
    return texts


def parse_names(value: object) -> tuple[str, ...]:
    """Names of upstreams, each once."""
    return _once(parse_words(value))


def parse_bases(value: object) -> tuple[str, ...]:
    """Names of indexes, each once; ``/`` is the one at the root."""
    return _once(tuple(word if word == "/" else word.strip("/") for word in parse_words(value)))


def _once(words: tuple[str, ...]) -> tuple[str, ...]:
    twice = [word for word in words if words.count(word) > 1]
    if twice:
        raise ValueError(f"{masked(twice[0])} is named twice")
    return words


_LONGEST_SPAN = 100 * 366 * 86400
_SPANS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_duration(value: object) -> int:
    """Seconds: a whole number, or one with a unit as in ``90s``, ``30m``, ``12h``, ``7d``, ``2w``."""
    match = re.fullmatch(r"([0-9]{1,12}) *(s|m|min|h|d|w)?", str(value).strip().lower(), re.ASCII)
    if match is None:
        raise ValueError(f"{masked(value)} is not a span of time such as 7d or 12h")
    seconds = int(match[1]) * _SPANS[match[2] or ""]
    if seconds > _LONGEST_SPAN:
        raise ValueError(f"{masked(value)} is longer than a hundred years")
    return seconds


def parse_moment(value: object) -> datetime:
    """A date, whose beginning in UTC is meant, or a date with a time; in UTC unless it says another zone."""
    if isinstance(value, date) and not isinstance(value, datetime):
        value = value.isoformat()
    try:
        text = str(value).strip()
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
    except ValueError as error:
        raise ValueError(f"{masked(value)} is not a date such as 2026-10-01") from error
    if not 1970 <= moment.year < 9999:  # what the zones make of it, or the next day, must be one too
        raise ValueError("a date lies between the years 1970 and 9998")
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


@dataclass(frozen=True, slots=True)
class Choice:
    """Some projects, or some of their releases."""

    pattern: str
    """A normalised name, or a pattern of such."""
    specifier: SpecifierSet
    """Of the releases that are meant; an empty one means all."""
    until: datetime | None = None
    """The moment it ends, in UTC."""

    def __str__(self) -> str:
        return f"{self.pattern}{self.specifier}" + (
            f" until {self.until - timedelta(days=1):%Y-%m-%d}" if self.until else ""
        )


def parse_choices(value: object) -> tuple[Choice, ...]:
    """Names or patterns of projects, or requirements such as ``numpy>=2.3``, one in each text."""
    return tuple(_choice(str(item).strip()) for item in _listed(value))


def _choice(text: str) -> Choice:
    match = re.fullmatch(r"([A-Za-z0-9._*?\[\]!-]*[A-Za-z0-9*?\]])\s*((?:[<>=!~].*)?)", text, re.ASCII)
    try:
        (pattern,) = parse_patterns([match[1]]) if match else ("",)
        specifier = SpecifierSet(match[2] if match else "")
    except ValueError:  # InvalidSpecifier is one
        match = None
    if match is None:
        raise ValueError(
            f"{masked(text)} is neither a name or pattern of a project nor a requirement such as 'numpy<3'"
        )
    if re.search(r"[A-Za-z0-9]\[[A-Za-z0-9._-]+\]$", pattern):
        # As a set of characters it would mean other projects than whoever writes it means, and hide nothing.
        plain = pattern.partition("[")[0]
        raise ValueError(f"{masked(text)} names an extra, which is nothing that can be hidden; write {plain!r}")
    return Choice(re.sub(r"[-_.]+", "-", pattern).lower(), specifier)


def parse_exemptions(value: object) -> tuple[Choice, ...]:
    """As `parse_choices`, each with the last day it holds: ``urllib3==2.7.1 until 2026-12-31``."""
    found = []
    for item in _listed(value):
        text, until, day = str(item).partition(" until ")
        if not until:
            raise ValueError(f"{masked(text)} has no end; write 'NAME==VERSION until DATE'")
        if not re.fullmatch(r"\s*[0-9]{4}-[0-9]{2}-[0-9]{2}\s*", day, re.ASCII):
            raise ValueError(f"{masked(day.strip())} is not a date such as 2026-12-31")
        found.append(replace(_choice(text.strip()), until=parse_moment(day) + timedelta(days=1)))
    return tuple(found)


def choice(*words: str, also: Iterable[str] = ()) -> Callable[[object], str]:
    """A parser that accepts just these words, in upper or lower case; `also` others, of which it does not speak."""

    def parse(value: object) -> str:
        word = str(value).lower()
        if word not in words and word not in also:
            raise ValueError(f"{masked(value)} is none of {', '.join(words)}")
        return word

    return parse
