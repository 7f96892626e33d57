"""Digests of files, several in one pass."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_CHUNK = 2**20


_BLAKE2 = {"blake2_256": 32, "blake2_512": 64}  # bytes


class Digester:
    """Several digests in one pass. ``blake2_256`` and ``blake2_512`` are BLAKE2b with so many bits."""

    def __init__(self, algorithms: Iterable[str]) -> None:
        self._hashes = {
            name: hashlib.blake2b(digest_size=_BLAKE2[name])
            if name in _BLAKE2
            else hashlib.new(name, usedforsecurity=False)
            for name in algorithms
        }

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        for digest in self._hashes.values():
            digest.update(data)

    def hexdigests(self) -> dict[str, str]:
        """Algorithm → lower-case hex digest of all bytes so far."""
        return {name: digest.hexdigest() for name, digest in self._hashes.items()}


def of_file(path: Path, algorithms: Iterable[str]) -> dict[str, str]:
    """Digests of a file, read in pieces of 1 MB. Raises OSError."""
    digester = Digester(algorithms)
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            digester.update(data)
    return digester.hexdigests()
