"""Figures as a table: medians with their range, what was to be reached, and whether it was."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_MEETS = {"≤": operator.le, "≥": operator.ge, "<": operator.lt}


@dataclass(frozen=True)
class Target:
    """What a figure should be: ``Target("≤", 1.1)`` of the ratio, ``Target("≤", 0.2, "s")`` of our own figure."""

    sign: str
    limit: float
    unit: str = "×"

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:g} {self.unit}"

    def verdict(self, figures: Sequence[float]) -> str:
        """``ok`` or ``MISS`` by the median; a ``?`` says that single rounds saw it otherwise."""
        met = [_MEETS[self.sign](figure, self.limit) for figure in figures]
        good = _MEETS[self.sign](statistics.median(figures), self.limit)
        return ("ok" if good else "MISS") + ("" if all(value == good for value in met) else " ?")


@dataclass(frozen=True)
class Row:
    """One line: our figures, a peer's of the same rounds, and their ratio."""

    what: str
    ours: Sequence[float] = ()
    unit: str = ""
    peer: str = ""
    theirs: Sequence[float] = ()
    as_rate: bool = False
    """Costs whose ratio is shown as that of rates, as the target speaks of rates."""
    target: Target | None = None
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        """Ours to theirs, round by round."""
        pairs = zip(self.ours, self.theirs, strict=False)
        return [theirs / ours if self.as_rate else ours / theirs for ours, theirs in pairs if ours and theirs]

    def cells(self) -> tuple[str, ...]:
        """What stands in the columns."""
        judged = self.ratios if self.target and self.target.unit == "×" else self.ours
        verdict = self.note or (self.target.verdict(judged) if self.target and judged else "")
        peer = f"{self.peer}: {spread(self.theirs)}" if self.theirs else self.peer
        ratio = f"{spread(self.ratios)} ×" if self.ratios else ""
        return self.what, f"{spread(self.ours)} {self.unit}".strip(), peer, ratio, str(self.target or ""), verdict


HEAD = ("what", "ours", "peer", "ours : peer", "target", "")


def spread(figures: Sequence[float]) -> str:
    """The median, and in brackets the least and the most."""
    if not figures:
        return ""
    if len(figures) == 1:
        return short(figures[0])
    return f"{short(statistics.median(figures))} ({short(min(figures))}–{short(max(figures))})"


def short(figure: float) -> str:
    """A figure with about three digits."""
    if figure >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.3g}" if figure >= 10 else f"{figure:.2f}" if figure >= 0.1 else f"{figure:.3f}"


def lines(rows: Sequence[Row]) -> list[str]:
    """The table, ready to print."""
    cells = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    made = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return [made[0], "  ".join("-" * width for width in widths), *made[1:]]
