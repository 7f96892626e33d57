"""A release from one index to another as it is.

What an index has itself can be pushed, as with devpi: not what it is based on,
which is pushed from there. Nor is an upstream's, for one file of it in a folder
would make the whole name ours, which no upstream is asked for again. What the
index's policy hides cannot be pushed either.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from packaging.utils import NormalizedName

from ..errors import ConfigError, Invalid, Missing, TooLarge, Unavailable, Undecided
from ..model import Piece
from ..site import Site


class Pushed(NamedTuple):
    """What a push did."""

    files: tuple[str, ...]
    """All files of the release."""
    new: tuple[str, ...]
    """Those that the other index did not have."""


def push(source: Site, target: Site, name: NormalizedName, version: str) -> Pushed:
    """Publish the files of a release of `source` itself in `target`, with all that belongs to them, all or none.

    Raises Invalid for an index and itself, TooLarge for a file that `target`
    would not take as an upload, Missing if there is no such release
    or its files are hidden, Conflict if `target` has other bytes, Unavailable
    if a disk refuses; then nothing has changed.
    """
    if source.name == target.name:
        raise Invalid("a push goes from one index to another")
    pieces = find(source, name, version)
    limit = target.settings.max_upload
    for piece in pieces:
        if limit is not None and piece.body.size > limit:
            raise TooLarge(
                f"{piece.filename} is larger than the {limit} bytes that are taken there; nothing was pushed"
            )
    return Pushed(tuple(piece.filename for piece in pieces), target.store.take(pieces))


def find(source: Site, name: NormalizedName, version: str) -> Sequence[Piece]:
    """The files of a release that an index itself has. Raises Missing if there are none, or any is hidden."""
    pieces = source.store.pieces(name, version)
    policy, project = source.index.policy, source.store.project(name)
    if policy is None or project is None:
        return pieces
    if verdict := policy.hides(name):
        raise Missing(f"{name} is hidden here, and not pushed: {verdict}")
    hidden = policy.verdicts(project, source.store)
    for piece in pieces:
        if piece.filename in hidden:
            verdict = hidden[piece.filename][0]
            if verdict.undecided:
                raise Undecided(f"{piece.filename} is not pushed by {verdict}; try again shortly")
            raise Missing(f"{piece.filename} is hidden here, so its release is not pushed: {verdict}")
    return pieces


def push_outside(source: Site, address: str, name: NormalizedName, version: str, *, may_ask: bool) -> tuple[str, ...]:
    """Upload the files of a release of `source` itself to another index by twine; their names.

    Signatures go with them; marks of a yank do not, for twine knows none. Who
    asks is for twine to find: in its variables, in ``.pypirc``, or where it
    `may_ask`, at the terminal.
    Raises ConfigError if it is not installed, Missing as `find` does,
    Unavailable if the other index refuses one; those before it are there then.
    """
    try:
        from twine.commands import upload
        from twine.exceptions import TwineException
    except ImportError as error:
        raise ConfigError(
            "twine is not installed, which uploads to indexes elsewhere: pip install 'pypiserver-lite[push]'"
        ) from error
    pieces = find(source, name, version)
    with tempfile.TemporaryDirectory(prefix="pypiserver-lite-") as folder:
        # By the names that they are listed under, wherever links led.
        files = [(piece.filename, piece.body) for piece in pieces]
        files += [(piece.filename + ".asc", piece.sides[".asc"]) for piece in pieces if ".asc" in piece.sides]
        for filename, state in files:
            Path(folder, filename).symlink_to(state.path)
        try:
            options = ["--repository-url", address, "--disable-progress-bar"]
            options += [] if may_ask else ["--non-interactive"]
            upload.main([*options, *(f"{folder}/{filename}" for filename, _ in files)])
        except (TwineException, OSError) as error:  # requests' own errors are OSErrors
            raise Unavailable(f"twine: {error}") from error
    return tuple(piece.filename for piece in pieces)
