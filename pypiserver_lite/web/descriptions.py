"""Descriptions as HTML for the pages, each rendered once, in a process that has two seconds for it.

Renderers are made for texts of well-meaning people: a few kilobytes can keep
one busy for minutes, or crash it. In a process of its own, which `readme` is,
that ends by the clock and takes no thread of the server along.
"""

from __future__ import annotations

import hashlib
import html
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ..kept import Kept, Turnstile
from ..metadata import About
from . import readme

LONGEST = 50 * 2**10
"""Bytes of a description that are rendered, or shown; a longer one is shown as text, up to there."""
_AGAIN = 300.0  # seconds
_FAILURES = 2 * 2**20  # bytes of what is remembered of failures, some 3,000
_AT_ONCE = 2  # processes; each holds a thread of the server, and a processor if it can

# -I: neither the environment nor the folder in which the server was started bring modules in.
_RUN = "import runpy, sys; sys.path[:] = sys.argv[3:]; runpy.run_path(sys.argv[1], run_name='__main__')"


def plain(text: str) -> str:
    """A description as HTML without any markup of its own: the text, cut with a note if it is long."""
    data = text.encode("utf-8", "replace")
    shown = html.escape(data[:LONGEST].decode("utf-8", "ignore"))
    cut = f'<p class="note">This is cut after {LONGEST >> 10} KB: the files of the release hold all of it.</p>'
    return f'<pre class="plain">{shown}</pre>' + (cut if len(data) > LONGEST else "") if text.strip() else ""


class _Failed(Exception):
    """It cannot be rendered, or could not this time."""


class Descriptions:
    """Renders descriptions; what failed, perhaps because the machine was busy, is tried again after five minutes.

    Each has so many `seconds`, which `clock` counts.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, seconds: float = 2.0) -> None:
        self._clock, self._seconds = clock, seconds
        self._failures = Kept[float](lambda moment: 0, most_bytes=_FAILURES)
        # Nobody waits for another's rendering: the text is there to be shown meanwhile.
        self._kept = Kept[str](lambda shown: 2 * len(shown), waiting=Turnstile(0))
        self._processes = Turnstile(_AT_ONCE)

    def html(self, what: About) -> str:
        """The description as HTML that is safe inside a page: rendered, or else `plain`.

        Takes at most those seconds. Raises Busy, at once, where this one is
        under way for somebody else, or too many are.
        """
        text, kind = what.description, what.description_type or "text/x-rst"
        data = text.encode("utf-8", "replace")
        if kind not in readme.KINDS or not text.strip() or len(data) > LONGEST:
            return plain(text)

        key = hashlib.sha256(f"{kind}\0".encode() + data).digest()
        failed = self._failures.find(key)
        if failed is not None and self._clock() < failed + _AGAIN:
            return plain(text)

        def made() -> str:
            with self._processes.inside():
                rendered = _rendered(data, kind, self._seconds)
            if rendered is None:
                raise _Failed
            return rendered

        try:
            return self._kept.get((kind, text), (), made)
        except _Failed:
            self._failures.put(key, self._clock())
            return plain(text)


def _rendered(data: bytes, kind: str, seconds: float) -> str | None:
    """What `readme` says in a process of its own; ``None`` if that fails, or takes longer and is ended."""
    python = _interpreter()
    if python is None:
        return None
    command = [python, "-I", "-c", _RUN, readme.__file__, kind, *filter(None, sys.path)]
    try:
        done = subprocess.run(  # noqa: S603 - our own file in our own interpreter
            command,
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
        return done.stdout.decode("utf-8") if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None  # the text itself can be shown


def _interpreter() -> str | None:
    """A Python with our modules; servers that embed one (uWSGI) say that they are it themselves."""
    for path in (Path(sys.executable), Path(sys.exec_prefix, "bin", "python3")):
        if path.name.startswith(("python", "pypy")) and path.is_file():
            return str(path)
    return None
