"""Digests of files, several in one pass."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

_CHUNK = 2**20


class Digester:
    """Several digests in one pass. ``blake2_256`` is BLAKE2b with 32 bytes, as upload forms call it."""

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._hashes = {
            name: hashlib.blake2b(digest_size=32) if name == "blake2_256" else hashlib.new(name, usedforsecurity=False)
            for name in algorithms
        }

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        for digest in self._hashes.values():
            digest.update(data)

    def hexdigests(self) -> dict[str, str]:
        """Algorithm → lower-case hex digest of all bytes so far."""
        return {name: digest.hexdigest() for name, digest in self._hashes.items()}


def of_file(file: str | Path | BinaryIO, algorithms: Iterable[str]) -> dict[str, str]:
    """Digests of a file, from its present position if it is open, read in pieces of 1 MB. Raises OSError."""
    if isinstance(file, (str, Path)):
        with Path(file).open("rb") as opened:
            return of_file(opened, algorithms)
    digester = Digester(algorithms)
    while data := file.read(_CHUNK):
        digester.update(data)
    return digester.hexdigests()
