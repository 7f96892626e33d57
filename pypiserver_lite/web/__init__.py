"""The Bottle application over a `site.Site`: machine routes, human pages, and the table of status numbers."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, overload

from ..config import load
from ..errors import ConfigError
from .app import PypiServerLite
from .front import Front

if TYPE_CHECKING:
    from ..config.settings import Config

__all__ = ["Front", "PypiServerLite", "application", "make_app"]


@overload
def make_app(  # type: ignore[overload-overlap]  # `config` is said by name, and decides
    *packages: object, config: str | os.PathLike[str], **settings: object
) -> Front: ...


@overload
def make_app(*packages: object, **settings: object) -> PypiServerLite: ...


def make_app(*packages: object, **settings: object) -> PypiServerLite | Front:
    """The index over the folders `packages` as a WSGI application; settings are named as the flags.

    ``config="index.toml"`` names a file of settings; then it is all indexes of
    that file. Raises ConfigError if a setting is unknown or cannot be used.
    """
    named = settings.get("config")
    if not isinstance(named, (str, os.PathLike)):
        return PypiServerLite(*packages, **settings)
    if packages and "packages" in settings:
        raise ConfigError("the packages folders are given twice")
    if packages:
        settings["packages"] = packages[0] if len(packages) == 1 else packages
    return Front(partial(load.of_file, Path(named).absolute(), settings))


def application(config: Config, read: Callable[[Path], Config], *, anew: bool = False) -> PypiServerLite | Front:
    """The application of these settings: one index, or all of their file, which `read` reads again.

    That file stays the one, and what was made without a file stays without: one that comes or goes in the working
    folder must not turn this into another index. `anew`: they are in force in the process that started this one.
    Raises ConfigError.
    """
    if config.file is None:
        return PypiServerLite(config=config)
    load_again = partial(read, config.file.absolute())
    return Front(load_again, config) if anew else Front(load_again, read=config)
