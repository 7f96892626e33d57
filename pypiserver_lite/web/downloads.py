"""Files: which one a path names, and how it is sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from packaging.utils import NormalizedName

from ..dists import parse_filename, project_of, try_normalize
from ..errors import Missing
from ..model import LocalFile, Redirect, Side
from . import plain, send

if TYPE_CHECKING:
    from ..site import Site

SIDES: tuple[Side, ...] = (".metadata", ".asc", ".provenance")
"""Endings of what belongs to a file, in the order in which they are looked for."""


def answer(site: Site, path: str, environ: Mapping[str, Any]) -> send.Answer:
    """The file that `path` names below ``/packages/``, or what belongs to it.

    The last segment is the file's name; one before it may name its project.
    Raises Missing, and Unavailable when an upstream fails.
    """
    *folders, filename = path.split("/")
    if not filename or any(folder in ("", ".", "..") for folder in folders):
        raise Missing("no such file here")
    side: Side = next((side for side in SIDES if filename.endswith(side)), "")
    filename = filename.removesuffix(side)
    for name in _owners(folders, filename):
        try:
            content = site.index.open(name, filename, side)
        except Missing:
            continue
        if content is not None:
            break
    else:
        raise Missing(f"no file {filename + side} here")
    control = site.file_cache_control
    if isinstance(content, LocalFile):
        rule = site.sendfile
        handed = rule and send.handed_over(rule, content, filename=filename + side, cache_control=control)
        return handed or send.local_file(environ, content, filename=filename + side, cache_control=control)
    if isinstance(content, Redirect):
        return plain.redirect(content.url, 302)
    return send.stream(environ, content, filename=filename + side, cache_control=control)


def _owners(folders: Sequence[str], filename: str) -> Iterator[NormalizedName]:
    """The projects that a file may belong to.

    Any folder may stand before it, as in pypiserver's links; it counts only
    where it fits the name of the file, or folders would be looked for
    upstream.
    """
    named = try_normalize(folders[-1]) if folders else None
    guessed = project_of(filename)
    if named is not None and named != guessed and parse_filename(filename, named) is not None:
        yield named
    if guessed is not None:
        yield guessed
