"""A small, fast and safe private Python package index.

`make_app` gives a WSGI application over folders of wheels and sdists,
`PypiServerLite` is the same as a class to subclass, and
``pypiserver_lite.wsgi:application`` reads its settings from the environment.
"""

from .errors import ConfigError, PypiServerLiteError
from .site import VERSION
from .web import PypiServerLite, make_app

__version__ = VERSION

__all__ = ["ConfigError", "PypiServerLite", "PypiServerLiteError", "__version__", "make_app"]
