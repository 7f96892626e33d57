"""Bottle without what it does around a GET whose route it found before.

Finding the route and packing the answer take Bottle longer than most answers
take us. What a route does is asked for every request all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

import bottle

from ..kept import Kept
from .answers import Answer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_BYTES = 4 * 2**20  # of paths whose routes are remembered
_RESULT = "pypiserver_lite.result"

Answering = Callable[[dict[str, Any], Mapping[str, str]], object]
"""What answers a request, given its environment and what of its path the route names."""


@dataclass(frozen=True, slots=True)
class _Way:
    """How a path is answered, as Bottle's router found it."""

    answer: Answering
    foreign: bool
    route: bottle.Route
    arguments: Mapping[str, str]


class Direct(bottle.Bottle):  # type: ignore[misc]  # bottle has no types
    """A Bottle with routes that return an `Answer`, or anything that Bottle can send.

    `plugin` is for the routes that others add.
    """

    def __init__(self, plugin: Callable[[Callable[..., object]], Callable[..., object]]) -> None:
        super().__init__()
        self.install(plugin)
        self._own_plugins = len(self.plugins)
        self._answers: dict[Callable[..., object], tuple[Answering, bool]] = {}
        self._ways = Kept[_Way](lambda way: 0, most_bytes=_BYTES)

    def answer_with(self, method: str, path: str, answer: Answering, *, foreign: bool) -> None:
        """Route a method and a path, as Bottle spells paths, to `answer`.

        `foreign`: it is written elsewhere, and may use Bottle's response as it likes.
        """

        def callback(**arguments: str) -> object:
            environ = bottle.request.environ
            result = environ.pop(_RESULT)() if _RESULT in environ else answer(environ, arguments)
            return (
                bottle.HTTPResponse(result.body, result.status, result.headers)
                if isinstance(result, Answer)
                else result
            )

        self.route(path, method, callback=callback)
        self._answers[callback] = answer, foreign

    def add_route(self, route: bottle.Route) -> None:
        """Bottle's own way in for every route: it may lie in the way of one that was found before."""
        super().add_route(route)
        self._ways.clear()

    def respond(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333), as Bottle's `wsgi` would."""
        answer = self._directly(environ)
        if answer is None:
            if not _clean_path(environ.get("PATH_INFO", "")):
                # Bottle would drop what is not UTF-8 and answer for another path.
                environ["PATH_INFO"] = "/\N{REPLACEMENT CHARACTER}/-".encode().decode("latin-1")
            return cast("Iterable[bytes]", super().wsgi(environ, start_response))
        # A copy: the answer is kept for others, and middleware may add to what it is given.
        start_response(answer.status, answer.headers.copy())
        body = answer.body
        if isinstance(body, bytes):
            # A list: granian sends one as it is, and walks through anything else.
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
        if hasattr(body, "read"):
            return cast("Iterable[bytes]", environ.get("wsgi.file_wrapper", bottle.WSGIFileWrapper)(body))
        return body

    def _directly(self, environ: WSGIEnvironment) -> Answer | None:
        """The answer to a GET by the route that Bottle found for this path before; ``None``: Bottle is to answer.

        Plug-ins and hooks are Bottle's to call.
        """
        hooks = self._hooks
        if hooks["before_request"] or hooks["after_request"] or len(self.plugins) != self._own_plugins:
            return None
        path = environ.get("PATH_INFO", "")
        way = self._ways.find((path, environ["REQUEST_METHOD"])) or self._find_way(environ)
        if way is None:
            return None
        environ["bottle.app"], environ["bottle.raw_path"] = self, path
        environ["bottle.route"], environ["route.url_args"] = way.route, way.arguments
        # All that `bottle.request.bind` does, at two thirds of what it costs.
        environ["bottle.request"], bottle.request.environ = bottle.request, environ
        if way.foreign:
            bottle.response.bind()
        try:
            result = way.answer(environ, way.arguments)
        except Exception as error:
            environ[_RESULT] = partial(_raise, error)
            return None
        if isinstance(result, Answer):
            return result
        environ[_RESULT] = _packed(result)
        return None

    def _find_way(self, environ: WSGIEnvironment) -> _Way | None:
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD"):
            return None
        if not path.isascii() or not _clean_path(path):
            return None  # Bottle's router takes texts, and has its own way with bytes
        try:
            route, arguments = self.router.match(environ)
        except bottle.HTTPError:
            return None  # no such route: Bottle says the same, and has words for it
        found = self._answers.get(route.callback)
        if found is None:
            return None
        way = _Way(*found, route, arguments)
        self._ways.put((path, method), way)
        return way


def _packed(result: object) -> Callable[[], bottle.HTTPResponse]:
    """What an overridden route returned, for Bottle to send, with what it said on Bottle's response."""
    packed = bottle.response.copy(bottle.HTTPResponse)
    packed.body = result
    return lambda: packed


def _raise(error: Exception) -> NoReturn:
    raise error


def _clean_path(path: str) -> bool:
    """Whether a path, bytes as Latin-1 as WSGI has it, is strict UTF-8 without control characters and backslashes."""
    if path.isascii():
        return path.isprintable() and "\\" not in path
    try:
        text = path.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return False
    return not re.search(r"[\x00-\x1f\x7f-\x9f\\]", text)
