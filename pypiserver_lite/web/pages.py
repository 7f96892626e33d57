"""The human pages: templates in Bottle's own language, found once, compiled once, overridable one by one."""

from __future__ import annotations

import html
import importlib.resources
import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import bottle

from ..errors import ConfigError

if TYPE_CHECKING:
    from importlib.abc import Traversable

# Everything a page shows comes with the page; a style sheet may be inline, a script may not.
SECURITY = [
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; script-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
]


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
    """

    def __init__(self, *, folder: Path | None = None, welcome: Path | None = None) -> None:
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"--templates {folder}: there is no such folder")
        self._compiled: dict[str, bottle.SimpleTemplate] = {}
        for place in (built_in(), folder):
            for path in place.iterdir() if place is not None else ():
                if path.name.endswith(".tpl"):
                    self._compile(path.name.removesuffix(".tpl"), path, "--templates")
        if welcome is not None:
            self._compile("home", welcome, "--welcome")

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

    def render(self, name: str, variables: Mapping[str, object]) -> str:
        """The page `name` with these variables; whatever they hold is escaped unless the template says otherwise."""
        return str(self._compiled[name].render(**variables))

    def rehearse(self, name: str, variables: Mapping[str, object]) -> None:
        """Render once for show. Raises ConfigError with file and line if the template fails, at start, not at night."""
        try:
            self.render(name, variables)
        except Exception as error:
            file = str(self._compiled[name].filename)
            lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
            where = f"{file}, line {lines[-1]}" if lines else file
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


def escape(text: str) -> str:
    """`text` for HTML, in text and in attributes."""
    return html.escape(text, quote=True)
