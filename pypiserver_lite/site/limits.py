"""How much of a server's work may wait, and where it keeps what may be lost, and what may not."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from ..config.indexes import ROOT
from ..config.settings import Config
from ..errors import ConfigError
from ..records import FILENAME, Records
from .routes import asked


def threads(config: Config) -> int:
    """Requests worked on at once. A uv asks for fifty, each may wait for an upstream, and half may wait: room for five.

    A thread that has nothing to do takes 14 KB of memory and no time.
    """
    return config.server.threads or (512 if asked(config) else 16)


def largest_upload(config: Config) -> int | None:
    """The most bytes that any index takes at once; ``None`` for no limit."""
    limits = [index.max_upload for index in (config.index, *config.indexes.values())]
    return None if None in limits else max(limit for limit in limits if limit is not None)


def cache_dir(config: Config) -> Path:
    """The folder for digests, metadata and what comes from upstreams. Raises ConfigError for a user without a home."""
    if config.server.cache_dir is not None:
        return config.server.cache_dir
    try:
        return platformdirs.user_cache_path("pypiserver-lite").expanduser()  # older ones leave the ~
    except RuntimeError as error:
        raise ConfigError("--cache-dir: this user has no home to keep it in; name a folder") from error


def records_file(config: Config) -> Path | None:
    """The file of the records; ``None`` where there is no folder for it."""
    if config.server.state_dir is not None:
        return config.server.state_dir / FILENAME
    folders = (config.of(name).packages for name in (ROOT, *config.indexes))
    first = next((packages[0] for packages in folders if packages), None)
    return None if first is None else first / ".pypiserver-lite" / FILENAME


def open_records(config: Config, *, changing: bool = True) -> Records:
    """The records that these settings name; only looked at where not `changing`. Raises ConfigError."""
    return Records(records_file(config), audit_log=config.server.audit_log, changing=changing)
