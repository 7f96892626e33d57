"""What a row of the settings is: the field of a dataclass that knows how it is spelled, read and explained."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Setting:
    """How a setting is spelled and read.

    `parse` takes what a flag, a variable or a caller gave, returns the
    field's value and raises ValueError with the reason if it cannot.
    """

    parse: Callable[[Any], Any]
    help: str
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    group: str = "server"
    switch: bool = False
    """The flag takes no value."""
    counted: bool = False
    """The flag takes no value and counts."""
    repeat: bool = False
    """The flag may be given more than once; a variable separates by white space."""
    in_file: bool = False
    """It is said in the file of settings alone: no flag and no variable can."""

    @property
    def takes_value(self) -> bool:
        """Whether a word follows the flag."""
        return not (self.switch or self.counted)


def row(
    default: Any, parse: Callable[[Any], Any], help: str, *flags: str, note: str = "", shown: bool = True, **more: Any
) -> Any:
    """The field of a setting. A `default` in text is read as any other value, and stands in the help with its `note`.

    ``None`` and empty ones do not; what they mean is for the help to say.
    """
    if shown and default:
        help += f" (default: {default}{note})"
    value = parse(default) if isinstance(default, str) else default
    return field(default=value, metadata={"setting": Setting(parse, help, flags, **more)})


def near(word: str, known: Iterable[str]) -> str:
    """The end of a message about a word that is not known: the nearest one that is."""
    found = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {found[0]!r}?" if found else ""
