"""An application for servers that want an import name: ``pypiserver_lite.wsgi:application``.

Its settings are the environment variables ``PYPISERVER_LITE_<NAME>``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from .config.load import from_environ
from .web import Front, PypiServerLite
from .web import application as made_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_lock = threading.Lock()
_made: list[PypiServerLite | Front] = []


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The index described by the environment, made at the first request so that importing has no effect.

    Raises ConfigError if a variable is unknown or cannot be used.
    """
    return made()(environ, start_response)


def made() -> PypiServerLite | Front:
    """The one application of this process."""
    if not _made:
        with _lock:
            if not _made:
                _made.append(made_of(from_environ(os.environ), partial(from_environ, os.environ)))
    return _made[0]


def refuse_early(environ: WSGIEnvironment) -> tuple[str, list[tuple[str, str]], bytes] | None:
    """The refusal of a request from its headers alone, for servers that can ask before they read the body."""
    return made().refuse_early(environ)
