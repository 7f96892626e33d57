"""How much of a server's work may wait, and where it keeps what may be lost."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from ..config.settings import Config
from ..errors import ConfigError


def threads(config: Config) -> int:
    """Requests worked on at once. uv alone asks for fifty, each may wait for an upstream, and half may wait."""
    return config.server.threads or (104 if waits(config) else 16)


def largest_upload(config: Config) -> int | None:
    """The most bytes that any index takes at once; ``None`` for no limit."""
    limits = [index.max_upload for index in (config.index, *config.indexes.values())]
    return None if None in limits else max(limit for limit in limits if limit is not None)


def waits(config: Config) -> bool:
    """Whether this server asks an upstream for any of its indexes."""
    every = (config.index, *config.indexes.values())
    return any(upstream.mode != "redirect" or governs(config) for index in every for upstream in config.asked_by(index))


def governs(config: Config) -> bool:
    """Whether any index has a policy: what that governs is asked for, wherever clients are sent otherwise."""
    return any(index.policy is not None for index in (config.index, *config.indexes.values()))


def cache_dir(config: Config) -> Path:
    """The folder for digests, metadata and what comes from upstreams. Raises ConfigError for a user without a home."""
    if config.server.cache_dir is not None:
        return config.server.cache_dir
    try:
        return platformdirs.user_cache_path("pypiserver-lite").expanduser()  # older ones leave the ~
    except RuntimeError as error:
        raise ConfigError("--cache-dir: this user has no home to keep it in; name a folder") from error
