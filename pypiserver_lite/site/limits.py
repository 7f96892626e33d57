"""How much of a server's work may wait, and where it keeps what may be lost."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from ..config.settings import Config
from ..errors import ConfigError
from .routes import asked


def threads(config: Config) -> int:
    """Requests worked on at once. uv alone asks for fifty, each may wait for an upstream, and half may wait."""
    return config.server.threads or (104 if asked(config) else 16)


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
