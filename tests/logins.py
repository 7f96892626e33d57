"""Password files, and logins as clients send them."""

from __future__ import annotations

import base64
import math
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from pypiserver_lite.errors import Denied
from pypiserver_lite.kept import Turnstile
from pypiserver_lite.rights.gate import Gate
from pypiserver_lite.rights.rules import RuleBook
from pypiserver_lite.rights.who import Book, Passwords

# Written by Apache's htpasswd and openssl passwd for the password "secret"; {SHA} follows from RFC 3174.
SECRET = {
    "apr1": "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/",
    "sha512": "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.",
    "sha256": "$5$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM.",
    "sha1": "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
}


SHA_SECRET = SECRET["sha1"]


def basic(user: str, password: str, encoding: str = "utf-8") -> str:
    """The header of a login."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode(encoding)).decode()


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, *lines: str) -> Path:
    """A file of these lines."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(name="file")
def file_of_ann(tmp_path: Path) -> Path:
    """A password file with one user."""
    return write(tmp_path / "htpasswd", f"ann:{SHA_SECRET}")


@pytest.fixture(name="gate")
def gate_of_ann(file: Path) -> Gate:
    """Uploads are for ann alone."""
    return Gate(Passwords(file), RuleBook.of_flags(frozenset({"update"})))


def enters(gate: Gate, user: str, password: str, address: str = "192.0.2.1") -> bool:
    """Whether this login may upload."""
    try:
        found = gate.check("update", basic(user, password), address)
    except Denied as error:
        assert error.challenge
        return False
    assert found is not None and found.name == user
    return True


class Counting(Turnstile):
    """A turnstile that knows how many are through."""

    def __init__(self, places: int) -> None:
        super().__init__(places)
        self.inner = 0

    def enter(self, most: float = math.inf) -> None:
        """Get through, and be counted. One thread at a time enters or leaves, or the count is wrong."""
        super().enter(most)
        self.inner += 1

    def leave(self) -> None:
        """Make way, and be counted no more."""
        super().leave()
        self.inner -= 1


class Counted(Book):
    """A book that counts what it verifies, and does so only when it may.

    `asked` are the users of logins that were verified; `waiting` counts who has one of the gate's places.
    """

    def __init__(self, hashes: Mapping[str, str | None], workers: int = 100) -> None:
        super().__init__(hashes)
        self.asked: list[str] = []
        self.may = threading.Event()
        self.may.set()
        self.waiting = Counting(workers)
        self.gate = Gate(Shown(self), RuleBook.of_flags(frozenset({"update"})), workers=workers, within=self.waiting)

    def verify(self, user: str, password: bytes) -> bool:
        """As a book does, once it may."""
        self.asked.append(user)
        assert self.may.wait(30)
        return super().verify(user, password)


class Shown(Passwords):
    """A password file that is always this book."""

    def __init__(self, book: Book) -> None:
        self.shown = book

    def book(self) -> Book:
        """The book that is shown."""
        return self.shown
