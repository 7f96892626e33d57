"""Settings: `settings` has one row for each, `values` says how each is read, `load` and `file` where they come from."""

from .load import from_environ, from_settings
from .settings import Config

__all__ = ["Config", "from_environ", "from_settings"]
