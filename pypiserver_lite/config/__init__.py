"""Settings: `settings` has one row for each, `values` says how each is read."""

from .settings import Config, from_environ, from_settings

__all__ = ["Config", "from_environ", "from_settings"]
