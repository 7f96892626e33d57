"""The packages folders that the settings name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..config.indexes import ROOT
from ..config.settings import Config, IndexSettings
from ..config.values import Sendfile
from ..errors import ConfigError
from ..folder.memory import Memory
from ..folder.store import Folder
from ..kept import Turnstile
from .limits import cache_dir, threads


def build_folder(config: Config, name: str = ROOT) -> Folder:
    """The packages folders of an index alone. Raises ConfigError for one that cannot be served."""
    settings = config.of(name)
    if not settings.packages:
        raise ConfigError(f"the index {name} has no packages folder")
    return make_folder(config, settings, None)


def make_folder(config: Config, settings: IndexSettings, slow: Turnstile | None, *, recording: bool = True) -> Folder:
    """The packages folders of these settings; who waits long passes `slow`. Raises ConfigError.

    Where not `recording`, nothing is written in them of which names they have.
    """
    return Folder(
        [_folder(path) for path in settings.packages],
        Memory(cache_dir(config) / "facts.sqlite3"),
        hash_algo=settings.hash_algo,
        workers=threads(config),
        within=slow,
        follow_links=settings.follow_links,
        copies=cache_dir(config) / "names",
        recording=recording,
    )


def check_apart(config: Config) -> None:
    """Raise ConfigError for a folder of one index inside a folder of another, unless that one is based on it anyway.

    Folders are served with all below them: the outer index would show, and its readers and whoever is based on it
    would be given, what the inner one is there to hold back. Two indexes over the very same folder say so plainly.
    """
    indexes: dict[Path, list[str]] = {}
    for name in (ROOT, *config.indexes):
        for path in config.of(name).packages:
            indexes.setdefault(Path(os.path.realpath(path)), []).append(name)
    for path, inner in indexes.items():
        for around in path.parents:
            for outer in indexes.get(around, ()):
                apart = [name for name in inner if name not in config.chain(outer)]
                if apart:
                    told = config.places.get(apart[0]) or config.places.get(outer) or "--packages"
                    named = config.origins.get((outer, "packages"))
                    raise ConfigError(
                        f"{told}: the folder {path} of the index {apart[0]} lies inside {around} of the index {outer}, "
                        + (f"which {named} names, " if named and config.places.get(apart[0]) else "")
                        + "which would show its files too; put it elsewhere or, if that is meant, say "
                        f"bases = [{apart[0]!a}] there"
                    )


class Changeable:
    """Which folders hold files that may be replaced, or removed and published anew, over HTTP: by whatever index."""

    def __init__(self, config: Config) -> None:
        every = (config.index, *config.indexes.values())
        writable = (index for index in every if index.overwrite or index.passwords is not None)
        self._folders = {Path(os.path.realpath(path)) for index in writable for path in index.packages}
        self._around = {parent for path in self._folders for parent in path.parents}

    def has(self, folder: Path) -> bool:
        """Whether a folder, or one in it, is such a one or lies in one."""
        real = Path(os.path.realpath(folder))
        return real in self._folders or real in self._around or not self._folders.isdisjoint(real.parents)


def _folder(path: Path) -> Path:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(
            f"the packages folder {path} does not exist; make it (mkdir -p {path}) or name another"
        ) from error
    except OSError as error:
        raise ConfigError(f"the packages folder {path} cannot be reached by this user: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise ConfigError(f"the packages folder {path} is not a folder")
    if not os.access(path, os.R_OK | os.X_OK):
        raise ConfigError(f"the packages folder {path} cannot be read by this user")
    return path


def find_sendfile(config: Config, settings: IndexSettings) -> Sendfile | None:
    """Who sends files in our place, its folders resolved; ``None``: nobody does. Raises ConfigError."""
    if config.server.sendfile_header is None:
        return None
    every = (config.index, *config.indexes.values())
    roots = [path.resolve() for index in every for path in index.packages]
    mappings = [(prefix, folder.resolve()) for prefix, folder in config.server.sendfile_header.mappings]
    for _, folder in mappings:
        if not any(folder == root or folder in root.parents or root in folder.parents for root in roots):
            raise ConfigError(f"--sendfile-header: {folder} holds none of the packages folders, nor lies in one")
    return Sendfile(config.server.sendfile_header.header, tuple(mappings))
