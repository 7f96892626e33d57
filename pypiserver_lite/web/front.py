"""Several indexes as one application: ``/`` is the root's, ``/NAME/`` and ``/USER/NAME/`` those of the others.

The settings can be read again while it runs. What is under way then ends as
it began; what comes later meets the new indexes.
"""

from __future__ import annotations

import dataclasses
import gc
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from .. import site
from ..config.indexes import ROOT
from ..config.settings import Config, IndexSettings
from ..config.told import told
from ..errors import Busy, ConfigError
from . import answers
from .app import PypiServerLite
from .entry import ASKED, stand_under
from .templates import Templates

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_log = logging.getLogger("pypiserver_lite")

FIXED = (
    *("host", "port", "server", "workers", "tls_cert", "tls_key", "threads", "connection_limit", "idle_timeout"),
    *("grace", "max_header", "trusted_proxy", "verbose", "quiet", "log_file", "log_stream", "log_frmt"),
    *("log_req_frmt", "log_res_frmt", "log_err_frmt"),
)
"""Settings of the server that stay as they are while it runs."""


class _Indexes(NamedTuple):
    """All of one reading of the settings."""

    sites: site.Sites
    apps: Mapping[str, PypiServerLite]
    first: frozenset[str]
    """The first segments of the paths of all but the root one."""
    base_path: str


class Front:
    """The indexes of the settings that `load` returns, as a WSGI application; `read`: those that it returned already.

    `in_force` are the settings of another process that serves the same: what
    cannot change while that runs is as there, and if what `load` returns
    cannot be used, all is. Raises ConfigError for what cannot be used.
    """

    def __init__(
        self, load: Callable[[], Config], in_force: Config | None = None, *, read: Config | None = None
    ) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._is_bound = False
        self._is_alone = in_force is None  # else another process says what comes after a restart only
        self._templates: dict[object, Templates] = {}
        self.others: Callable[[], None] = lambda: None
        """Has the other processes that serve the same read the settings again; for a server to set."""
        try:
            config = read or load()
            self._first = in_force or config
            self._now = self._made(self._fixed(config), None)
        except ConfigError as error:
            if in_force is None:
                raise
            _log.error("the settings in force are taken: %s", error)
            self._first = in_force
            self._now = self._made(in_force, None)

    @property
    def config(self) -> Config:
        """The settings in force."""
        return self._now.sites.config

    def _made(self, config: Config, before: site.Sites | None) -> _Indexes:
        sites = site.build_all(config, before)
        self._templates = {}
        try:
            apps = {}
            for name, one in sites.by_name.items():
                with told(config, name):
                    apps[name] = PypiServerLite(site=one, front=self)
        except BaseException:
            sites.close(but=before)
            raise
        first = frozenset(name.partition("/")[0] for name in apps if name != ROOT)
        return _Indexes(sites, apps, first, urlsplit(config.server.server_base_url).path.rstrip("/"))

    def templates(self, settings: IndexSettings) -> Templates:
        """The pages of an index, compiled once for all whose are the same. Raises ConfigError."""
        key = settings.templates, settings.welcome
        if key not in self._templates:
            self._templates[key] = Templates(folder=settings.templates, welcome=settings.welcome)
        return self._templates[key]

    def _fixed(self, config: Config) -> Config:
        """These settings, but with those of the start where they cannot change while the server runs."""
        kept = {name: getattr(self._first.server, name) for name in FIXED}
        kept["threads"] = site.threads(self._first)  # the server's, whatever upstreams are asked now
        return dataclasses.replace(config, server=dataclasses.replace(config.server, **kept))

    def reload(self, *, patience: float = -1) -> None:
        """Read the settings again, and serve what they say from now on.

        Raises ConfigError for what cannot be used, and then everything stays
        as it is; Busy if others have them read for longer than `patience`
        seconds (default: without an end).
        """
        if not self._lock.acquire(timeout=patience):
            raise Busy("the settings are being read at this moment; ask again shortly")
        try:
            read = self._load()
            made = self._made(self._fixed(read), self._now.sites)
            if self._is_bound:
                for app in made.apps.values():
                    app.bound()
            before, self._now = self._now, made
        finally:
            self._lock.release()
        # Requests under way still read what they need of these.
        before.sites.close(but=made.sites)
        for app in before.apps.values():
            app.forget()
        _log.warning("the settings were read again: %s", made.sites.config.file)
        for remark in _later(self._first, read) if self._is_alone else ():
            _log.warning("%s", remark)
        del before
        if self._is_bound:
            _collect()

    def hangup(self) -> bool:
        """Read the settings again, as SIGHUP asks for; whether they can be used. If not, the log says why."""
        try:
            self.reload()
        except ConfigError as error:
            _log.error("the settings stay as they are: %s", error)
            return False
        except Exception:
            _log.exception("the settings stay as they are, for they cannot be read now")
            return False
        return True

    def app(self, name: str) -> PypiServerLite:
        """The application of one index by its name. Raises KeyError."""
        return self._now.apps[name]

    def site_of(self, name: str) -> site.Site:
        """One index by its name. Raises KeyError."""
        return self._now.sites.by_name[name]

    @property
    def sites(self) -> Mapping[str, site.Site]:
        """All indexes by name, in the order of the settings."""
        return self._now.sites.by_name

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
        _, apps, first, base_path = self._now
        path = environ[ASKED] = environ.get("PATH_INFO", "")
        if base_path:
            stand_under(environ, base_path)
            path = environ.get("PATH_INFO", "")
        user, _, below = path[1:].partition("/")
        if user in first:
            for name in (f"{user}/{below.partition('/')[0]}", user):
                if name in apps:
                    environ["SCRIPT_NAME"] = f"{environ.get('SCRIPT_NAME', '')}/{name}"
                    rest = path[len(name) + 1 :]
                    # An upload's address is as good without its last slash; a page's is not: links lead on from it.
                    environ["PATH_INFO"] = rest or ("/" if environ["REQUEST_METHOD"] == "POST" else "")
                    return apps[name]
        return apps[ROOT]

    def close(self) -> None:
        """Stop background work and close what is open."""
        self._now.sites.close()


def _later(first: Config, now: Config) -> Iterable[str]:
    """What of the settings that were read has an effect only after a restart, in sentences."""
    changed = [name for name in FIXED if getattr(first.server, name) != getattr(now.server, name)]
    if changed:
        yield f"{', '.join(changed)}: not changed while the server runs; restart it"
    if now.server.threads is None and site.threads(now) > site.threads(first):
        yield f"upstreams are asked now, which {site.threads(now)} threads would do better; restart the server"
    most, before = site.largest_upload(now), site.largest_upload(first)
    if before is not None and (most is None or most > before):
        yield f"max_upload: more than {before} bytes are taken after a restart only"


def _collect() -> None:
    """Let go of what only the old indexes held. Much of the rest is there to stay, and need not be looked at again."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
