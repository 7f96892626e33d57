"""The human pages: templates in Bottle's own language, found once, compiled once, overridable one by one."""

from __future__ import annotations

import difflib
import hashlib
import importlib.resources
import logging
import re
import traceback
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING
from urllib.parse import quote

import bottle

from ..dists import CONTROLS
from ..errors import ConfigError, Missing
from . import answers

if TYPE_CHECKING:
    from importlib.abc import Traversable

log = logging.getLogger("pypiserver_lite")

_POLICY = (
    "default-src 'none'; style-src {styles}; script-src 'self'; img-src 'self' data:{pictures}; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_FOREVER = "max-age=31536000, immutable"
_ASSETS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}
"""What may lie beside templates and is served as it is, by its ending."""


def built_in() -> Traversable:
    """The folder of the built-in templates: in the installed package, zipped or not, or beside it in a checkout."""
    installed = importlib.resources.files("pypiserver_lite") / "templates"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[2] / "templates"


class Templates:
    """All human pages by name.

    A template is looked for in `folder`, then among the built-in ones;
    `welcome` is the home page's own file. Every one is compiled at once: a
    broken one raises ConfigError with its file and line. Templates include
    each other by name, and so get the one that replaces a built-in one.
    Style sheets, scripts and pictures beside them are served as they are, and
    replace built-in ones likewise.
    """

    def __init__(self, *, folder: Path | None = None, welcome: Path | None = None) -> None:
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"--templates {folder}: there is no such folder")
        self._compiled: dict[str, bottle.SimpleTemplate] = {}
        self._assets: dict[str, tuple[str, answers.Page, answers.Page]] = {}
        self._own: set[str] = set()
        self.rehearsed = False
        """Whether every page was rendered once, for show."""
        for place in (built_in(), folder):
            pages = set(self._compiled)
            for path in place.iterdir() if place is not None else ():
                if path.name.endswith(".tpl"):
                    name = path.name.removesuffix(".tpl")
                    self._compile(name, path, "--templates")
                    self._own |= {name} if place is folder else set()
                    if name not in pages and (near := difflib.get_close_matches(name, pages, 1, 0.75)):
                        log.warning("--templates: %s replaces no page; did you mean %s.tpl?", path, near[0])
                elif PurePath(path.name).suffix in _ASSETS and path.is_file():
                    self._load(path)
        if welcome is not None:
            self._compile("home", welcome, "--welcome")
            self._own.add("home")

    def _compile(self, name: str, path: Traversable, option: str) -> None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{option} {path}: {getattr(error, 'strerror', None) or error}") from error
        # A text ending in a newline is never taken for a file name.
        template = bottle.SimpleTemplate(source=text + "\n")
        template.filename = str(path)
        template.cache = self._compiled
        try:
            template.co  # noqa: B018 - compiles
        except SyntaxError as error:
            raise ConfigError(f"{path}, line {error.lineno}: {error.msg}") from error
        # Bottle looks here for what a template includes or rebases on, with or without the ending.
        self._compiled[name] = self._compiled[f"{name}.tpl"] = template

    def _load(self, path: Traversable) -> None:
        try:
            body = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"--templates {path}: {error.strerror}") from error
        kind = _ASSETS[PurePath(path.name).suffix]
        more = [("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")]
        asked, kept = (
            answers.Page(body, kind, cache_control=control, vary="Accept-Encoding", more=more)
            for control in ("no-cache", _FOREVER)
        )
        self._assets[path.name] = hashlib.sha256(body).hexdigest()[:12], asked, kept

    def asset(self, name: str, version: str) -> answers.Page:
        """A style sheet, script or picture; to be kept for ever under its present version. Raises Missing."""
        if name not in self._assets:
            raise Missing("nothing here")
        current, asked, kept = self._assets[name]
        return kept if version == current else asked

    def has_asset(self, name: str) -> bool:
        """Whether there is such a file beside the pages."""
        return name in self._assets

    def asset_link(self, name: str) -> str:
        """From the index's root to an asset, as it is now."""
        return f"-/{quote(name)}?v={self._assets[name][0]}" if name in self._assets else f"-/{quote(name)}"

    def security(self, name: str, pictures: str = "") -> list[tuple[str, str]]:
        """What a browser may do with the page `name`.

        Everything a page shows comes with the page, but for `pictures`, which
        may come from that origin too. No script is inline, nor is a style,
        but in the operator's own templates: they know what they put there.
        """
        styles = "'self' 'unsafe-inline'" if name in self._own else "'self'"
        policy = _POLICY.format(styles=styles, pictures=pictures and f" {pictures}")
        return [
            # Its script sends files one by one.
            ("Content-Security-Policy", policy + ("; connect-src 'self'" if name == "upload" else "")),
            ("Referrer-Policy", "same-origin"),
        ]

    def render(self, name: str, variables: Mapping[str, object]) -> str:
        """The page `name` with these variables; whatever they hold is escaped unless the template says otherwise."""
        text = str(self._compiled[name].render(**variables))
        return CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)

    def rehearse(self, name: str, variables: Mapping[str, object]) -> None:
        """Render once for show. Raises ConfigError with file and line if the template fails, at start, not at night."""
        try:
            self.render(name, variables)
        except Exception as error:
            files = {str(template.filename) for template in self._compiled.values()}
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
            # The innermost: a page may fail in the layout it stands in.
            where = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else self._compiled[name].filename
            raise ConfigError(f"{where}: {type(error).__name__}: {error}") from error


def own_address(environ: Mapping[str, str]) -> str:
    """This index's address as the client sees it, for text to copy; never for a link or a header.

    A Host that is not one reads as this machine's name would: pages quote nothing odd.
    """
    scheme = environ.get("wsgi.url_scheme", "http")
    host = environ.get("HTTP_HOST", "")
    if not re.fullmatch(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?", host, re.ASCII):
        host = f"{environ.get('SERVER_NAME', 'localhost')}:{environ.get('SERVER_PORT', '80')}"
    prefix = environ.get("SCRIPT_NAME", "").encode("latin-1", "replace").decode("utf-8", "replace")
    return f"{scheme}://{host}{prefix.rstrip('/')}/"
