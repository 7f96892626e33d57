"""Several indexes as one application: ``/`` is the root's, ``/NAME/`` and ``/USER/NAME/`` those of the others.

The settings can be read again while it runs. What is under way then ends as
it began; what comes later meets the new indexes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from .. import site
from ..config.indexes import ROOT
from ..config.settings import Config
from . import answers
from .app import PypiServerLite
from .entry import stand_under

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_log = logging.getLogger("pypiserver_lite")


class _Indexes(NamedTuple):
    """All of one reading of the settings."""

    sites: site.Sites
    apps: Mapping[str, PypiServerLite]
    base_path: str


class Front:
    """The indexes of the settings that `load` returns, as a WSGI application.

    Raises ConfigError for what cannot be used.
    """

    def __init__(self, load: Callable[[], Config]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._is_bound = False
        self._now = self._made(load())

    @property
    def config(self) -> Config:
        """The settings in force."""
        return self._now.sites.config

    def _made(self, config: Config) -> _Indexes:
        sites = site.build_all(config)
        try:
            apps = {name: PypiServerLite(site=one, front=self) for name, one in sites.by_name.items()}
        except BaseException:
            sites.close()
            raise
        return _Indexes(sites, apps, urlsplit(config.server.server_base_url).path.rstrip("/"))

    def reload(self) -> None:
        """Read the settings again, and serve what they say from now on.

        Raises ConfigError for what cannot be used; then everything stays as it is.
        """
        with self._lock:
            made = self._made(self._load())
            if self._is_bound:
                for app in made.apps.values():
                    app.bound()
            before, self._now = self._now, made
        # Requests under way still read what they need of these.
        before.sites.close()
        _log.warning("the settings were read again: %s", made.sites.config.file)

    def app(self, name: str) -> PypiServerLite:
        """The application of one index by its name. Raises KeyError."""
        return self._now.apps[name]

    def site_of(self, name: str) -> site.Site:
        """One index by its name. Raises KeyError."""
        return self._now.sites.by_name[name]

    def bound(self) -> None:
        """To be called by whoever has this application served on the address that its settings name."""
        self._is_bound = True
        for app in self._now.apps.values():
            app.bound()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        return self._asked(environ)(environ, start_response)

    def refuse_early(self, environ: dict[str, Any]) -> tuple[str, answers.Headers, bytes] | None:
        """The refusal of a request with a body, decided from its headers alone; ``None`` lets it come."""
        environ = environ.copy()
        return self._asked(environ).refuse_early(environ)

    def _asked(self, environ: WSGIEnvironment) -> PypiServerLite:
        """The index that a request is for; what names it in the path becomes a part of where it stands."""
        _, apps, base_path = self._now
        stand_under(environ, base_path)
        parts = environ.get("PATH_INFO", "").split("/", 3)[1:3]
        for name in ("/".join(parts), *parts[:1]):
            if name in apps and name != ROOT:
                environ["SCRIPT_NAME"] = f"{environ.get('SCRIPT_NAME', '')}/{name}"
                rest = environ["PATH_INFO"][len(name) + 1 :]
                # An upload's address is as good without its last slash; a page's is not, for links lead on from it.
                environ["PATH_INFO"] = rest or ("/" if environ["REQUEST_METHOD"] == "POST" else "")
                return apps[name]
        return apps[ROOT]

    def close(self) -> None:
        """Stop background work and close what is open."""
        self._now.sites.close()
