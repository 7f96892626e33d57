"""What is read in the background of several folders, as of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..model import KeptUp, Note


class Together:
    """A `KeptUp` of several; whoever made those closes them."""

    def __init__(self, parts: Sequence[KeptUp]) -> None:
        self._parts = tuple(parts)

    def start(self) -> None:
        """Begin to read all of them."""
        for part in self._parts:
            part.start()

    def progress(self) -> tuple[int, int]:
        """How many files are known, of how many."""
        some = [part.progress() for part in self._parts]
        return sum(done for done, _ in some), sum(total for _, total in some)

    def notes(self) -> Iterator[Note]:
        """What is known of every file that was read; in no order."""
        for part in self._parts:
            yield from part.notes()

    def notes_state(self) -> object:
        """Something that changes whenever `notes` does."""
        return tuple(part.notes_state() for part in self._parts)

    def close(self) -> None:
        """Nothing: others may use the parts."""
