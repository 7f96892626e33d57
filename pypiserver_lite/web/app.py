"""The Bottle application: every route a method, every refusal a status number.

A route reads the request, asks one question and sends the answer. Rights
are checked before a route runs, and before a body is read.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

import bottle
from packaging.utils import NormalizedName

from .. import about, config, observe, simple, site, upload
from ..dists import try_normalize
from ..errors import Missing, PypiServerLiteError, TooLarge
from ..model import Project, User
from ..search import LONGEST_QUERY
from ..upstream import hops
from . import api, human, pages, plain, rpc, send
from .downloads import Downloads
from .ready import ReadyPages

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger("pypiserver_lite")

UPLOAD_PATHS = ("/", "/legacy", "/legacy/", "/simple", "/simple/")
_SMALL = 64 * 1024  # bytes: the largest body anything but an upload has a use for


class PypiServerLite(bottle.Bottle):  # type: ignore[misc]  # bottle has no types
    """The index as a WSGI application over the folders `packages`, with settings named as the flags.

    Subclass it to change a page: every route is a method. The home page is
    `root`; `render` fills a template. Raises ConfigError if the settings
    name something that cannot be used.
    """

    def __init__(self, *packages: object, **settings: object) -> None:
        super().__init__()
        self._own_plugins = len(self.plugins)
        if packages:
            settings["packages"] = packages
        given = settings.pop("config", None)
        checked = given if isinstance(given, config.Config) else config.from_settings(settings)
        self._base_path = urlsplit(checked.server_base_url).path.rstrip("/")
        self.templates = pages.Templates(folder=checked.templates, welcome=checked.welcome)
        self.site = site.build(checked)
        self._pages: api.PageCache[send.Page] = api.PageCache()
        self._downloads = Downloads(self.site)
        self._ready = ReadyPages(self.site.index, self.site.gate, self.site.stale if self.site.remotes else None)
        try:
            self.human = human.HumanPages(self.site, self.templates)
        except BaseException:
            self.site.close()
            raise
        self._add_routes()
        self.site.folder.read_ahead()

    # -- routes ---------------------------------------------------------------------------------------------------

    def _add_routes(self) -> None:
        for prefix in ("/simple", "/+simple"):
            self._route("GET", prefix, "list", self.add_slash)
            self._route("GET", f"{prefix}/", "list", self.simple_names)
            self._route("GET", f"{prefix}/<name>", "list", self.add_slash)
            self._route("GET", f"{prefix}/<name>/", "list", self.simple_project)
        self._route("GET", "/packages", "list", self.add_slash)
        self._route("GET", "/packages/", "list", self.package_files)
        self._route("GET", "/packages/<path:path>", "download", self.package)
        self._route("GET", "/pypi/<name>/json", "list", self.project_json)
        self._route("GET", "/pypi/<name>/<version>/json", "list", self.release_json)
        for path in UPLOAD_PATHS:
            self._route("POST", path, "update", self.change)
        self._route("POST", "/RPC2", "list", self.xml_rpc)
        self._route("GET", self.site.config.health_endpoint, None, self.health)
        self._route("GET", "/", "list", "root", human=True)
        self._route("GET", "/search", "list", "search", human=True)
        self._route("GET", "/project/<name>", "list", self.add_slash, human=True)
        self._route("GET", "/project/<name>/", "list", "project_page", human=True)
        self._route("GET", "/project/<name>/<version>", "list", self.add_slash, human=True)
        self._route("GET", "/project/<name>/<version>/", "list", "project_page", human=True)
        self._route("GET", "/-/<filename>", None, self.asset)
        self._route("GET", "/favicon.ico", None, self.nothing)
        self._route("GET", "/robots.txt", None, self.nothing)
        # The widest patterns last: they would match the others.
        self._route("GET", "/<name>/json", "list", self.project_json)
        self._route("GET", "/<name>", "list", self.to_simple)
        self._route("GET", "/<name>/", "list", self.to_simple)

    def _route(
        self, method: str, path: str, action: str | None, handler: Callable[..., object] | str, *, human: bool = False
    ) -> None:
        call = getattr(self, handler) if isinstance(handler, str) else handler

        def guarded(**arguments: str) -> object:
            try:
                if action is not None:
                    bottle.request.environ["pypiserver_lite.user"] = self.admit(action, bottle.request.environ)
                # What goes up says whom the request has passed; one that has passed us is refused.
                via = bottle.request.environ.get("HTTP_VIA") if self.site.remotes else None
                with hops.carrying(via) if via else contextlib.nullcontext():
                    result = call(**arguments)
            except PypiServerLiteError as error:
                result = self.refusal(error)
                if human and api.prefers_html(bottle.request.environ.get("HTTP_ACCEPT", "")):
                    result = self.human.refusal(result, str(error), bottle.request.path)
            if isinstance(result, send.Answer):
                return bottle.HTTPResponse(result.body, result.status, result.headers)
            return result

        self.route(path, method, callback=guarded)

    def root(self) -> object:
        """The home page. Override it to give the index another one; text is sent as HTML."""
        environ = bottle.request.environ
        address = self._address()
        if not environ["bottle.raw_path"]:
            return plain.redirect(address.rstrip("/").rsplit("/", 1)[-1] + "/", 302)
        return self.human.answer(self.human.home(address), environ)

    def search(self) -> object:
        """The projects that have all words of ``?q=`` in their name or summary, some on each page."""
        number = bottle.request.query.getunicode("page", "1")
        query = " ".join(bottle.request.query.getunicode("q", "").split())[:LONGEST_QUERY]
        page = self.human.search(query, int(number) if re.fullmatch("[0-9]{1,6}", number, re.ASCII) else 1)
        return self.human.answer(page, bottle.request.environ)

    def project_page(self, name: str, version: str | None = None) -> object:
        """A project with its newest release, or one of its releases, for people."""
        project_name = self._name(name)
        if project_name != name:
            return plain.redirect("../" * (1 if version is None else 2) + f"{project_name}/{_segment(version)}", 301)
        project = self._project(project_name)
        spelled = None if version is None else about.release(project, version)
        if spelled != version:
            return plain.redirect(f"../{_segment(spelled)}", 301)
        return self.human.answer(self.human.project(project, spelled, self._address()), bottle.request.environ)

    def asset(self, filename: str) -> send.Answer:
        """The style sheet, the script, and what else lies beside the templates."""
        page = self.templates.asset(filename, bottle.request.query.get("v", ""))
        return self.human.answer(page, bottle.request.environ)

    def _address(self) -> str:
        """This index's address as the client sees it."""
        base = self.site.config.server_base_url
        if not base.startswith("/"):
            return base
        # A mount of Bottle's own leaves SCRIPT_NAME alone and keeps its prefix here.
        return pages.own_address(bottle.request.environ) + str(self.config.get("_mount.prefix", "")).lstrip("/")

    def render(self, template: str, **variables: object) -> str:
        """The text of the page `template` (a name without ``.tpl``) with these variables, and those of every page."""
        return self.templates.render(template, {**self.human.common(self._root()), **variables})

    def simple_names(self) -> send.Answer:
        """The list of all projects (PEP 503, 691)."""
        names = self.site.index.names()
        form = self._form()
        return self._page(names, None, form, lambda: simple.render_names(names, form))

    def simple_project(self, name: str) -> send.Answer:
        """A project's page (PEP 503, 691); a redirect to the upstream's if no folder has it."""
        project_name = self._name(name)
        if project_name != name:
            return plain.redirect(f"../{project_name}/", 301)
        project = self.site.index.project(project_name)
        if project is None:
            address = self.site.fallback(project_name)
            if address is None:
                raise Missing(self.site.reserved.refuses(project_name) or f"no project {project_name} here")
            return plain.redirect(address, 302)
        form = self._form()
        return self._page(project, project_name, form, lambda: simple.render_project(project, form))

    def package_files(self) -> send.Answer:
        """A page with a link to each file of this index, as ``pip install --find-links`` reads it."""
        return self._plain_page("".join(api.file_links(self.site.index)))

    def package(self, path: str) -> send.Answer:
        """A file, or what belongs to it. The last segment names the file; one before it may name its project."""
        return self._downloads.answer(path, bottle.request.environ)

    def project_json(self, name: str) -> send.Answer:
        """Facts about a project and its latest release, in the shape of PyPI's JSON API."""
        project_name = self._name(name)
        if project_name != name:
            return plain.redirect(f"../{project_name}/json", 301)
        return plain.as_json(self._facts(self._project(project_name), None))

    def release_json(self, name: str, version: str) -> send.Answer:
        """Facts about one release, in the shape of PyPI's JSON API."""
        return plain.as_json(self._facts(self._project(self._name(name)), version))

    def _facts(self, project: Project, version: str | None) -> dict[str, object]:
        chosen = about.latest(project) if version is None else about.release(project, version)
        described = about.read(project, chosen, self.site.index)
        return api.project_json(project, described, self._root(), chosen, whole=version is None)

    def change(self) -> send.Answer:
        """The legacy upload API: a new file, or the removal or yank of a release (`:action`)."""
        environ = bottle.request.environ
        received = upload.receive(
            api.request_body(environ),
            environ.get("CONTENT_TYPE"),
            api.content_length(environ),
            stage=self.site.store.stage,
            limit=self.site.config.max_upload,
        )
        user = cast("User | None", environ.get("pypiserver_lite.user"))
        return plain.text(api.carry_out(received, self.site, user.name if user else "anonymous"))

    def xml_rpc(self) -> send.Answer:
        """Old clients' XML-RPC calls, `search` above all."""
        length = api.content_length(bottle.request.environ)
        if length is not None and length > rpc.LONGEST:
            raise TooLarge(f"an XML-RPC call has at most {rpc.LONGEST} bytes")
        body = api.request_body(bottle.request.environ).read(rpc.LONGEST + 1)
        if len(body) > rpc.LONGEST:
            raise TooLarge(f"an XML-RPC call has at most {rpc.LONGEST} bytes")
        return plain.content(rpc.answer(body, self.site.index), "text/xml; charset=utf-8")

    def health(self) -> send.Answer:
        """``OK`` for monitoring; with ``Accept: application/json`` more, as far as the asker may list."""
        if "application/json" not in bottle.request.environ.get("HTTP_ACCEPT", ""):
            return plain.text("OK")
        facts: dict[str, object] = {"status": "ok", "version": site.VERSION, "uptime": int(self.site.uptime())}
        try:
            self.admit("list", bottle.request.environ)
        except PypiServerLiteError:
            return plain.as_json(facts)
        return plain.as_json({**facts, **self.site.state()})

    def nothing(self) -> send.Answer:
        """Files that browsers and crawlers ask for and that no project may answer."""
        raise Missing("nothing here")

    def add_slash(self, name: str = "", version: str = "") -> send.Answer:
        """From a page's address without its last slash to the one with it (PEP 503)."""
        last = version or (try_normalize(name) or name if name else bottle.request.path.rsplit("/", 1)[-1])
        return plain.redirect(f"{quote(last, safe='+')}/", 301)

    def to_simple(self, name: str) -> send.Answer:
        """From an index URL without ``simple/`` to the project's page."""
        up = "../" if bottle.request.path.endswith("/") else ""
        return plain.redirect(f"{up}simple/{self._name(name)}/", 302)

    # -- rights and refusals --------------------------------------------------------------------------------------

    def admit(self, action: str, environ: Mapping[str, Any]) -> User | None:
        """Who asks, if they may do `action`. Raises Denied, TooMany or Busy."""
        return self.site.gate.check(action, environ.get("HTTP_AUTHORIZATION"), environ.get("REMOTE_ADDR", ""))

    def refusal(self, error: PypiServerLiteError) -> send.Answer:
        """The answer that says what is wrong and what to do; our own failures go to the log too."""
        bottle.request.environ["pypiserver_lite.error"] = str(error)
        answer = plain.refusal(error)
        if answer.status.startswith("5"):
            log.error("%s %s: %s", answer.status[:3], observe.clean(bottle.request.path), observe.clean(error))
        return answer

    def default_error_handler(self, res: bottle.HTTPError) -> bytes:
        """Bottle's own errors (no such route, wrong method, a bug) as short plain text."""
        if res.exception is not None:
            log.error("%s %s failed", bottle.request.method, observe.clean(bottle.request.path), exc_info=res.exception)
        texts = {
            404: "nothing here",
            405: "this address does not take that method",
            500: "a fault of ours; see the log",
        }
        text = texts.get(res.status_code, "the request cannot be answered")
        bottle.request.environ["pypiserver_lite.error"] = text
        answer = plain.text(text)
        if api.prefers_html(bottle.request.environ.get("HTTP_ACCEPT", "")):
            answer = send.Answer(status=res.status_line, headers=answer.headers)
            answer = self.human.refusal(answer, text, bottle.request.path)
        for name, value in answer.headers:
            bottle.response.headers[name] = value
        return cast("bytes", answer.body)

    def refuse_early(self, environ: dict[str, Any]) -> tuple[str, send.Headers, bytes] | None:
        """The refusal of a request with a body, decided from its headers alone; ``None`` lets it come.

        Servers that can ask before they read the body do (see `servers`).
        """
        self._enter(environ)
        bottle.request.bind(environ)
        path = environ.get("PATH_INFO")
        length = api.content_length(environ)
        try:
            if environ["REQUEST_METHOD"] == "POST" and path in UPLOAD_PATHS:
                self.admit("update", environ)
                limit = self.site.config.max_upload
                if limit is not None and length is not None and length > limit:
                    raise TooLarge(f"this index takes at most {limit} bytes at once (--max-upload)")
            elif length is None or length > _SMALL:
                # Chunks have no length: whoever may send nothing here could fill the disk where bodies wait.
                raise TooLarge(f"only an upload to this index's / may have more than {_SMALL} bytes, or no length")
        except PypiServerLiteError as error:
            answer = self.refusal(error)
            if observe.access.isEnabledFor(logging.INFO):
                values = observe.request_values(environ)
                observe.note(self.site.config, values, answer.status, answer.headers, str(error), time.monotonic())
            return answer.status, answer.headers, cast("bytes", answer.body)
        return None

    # -- answers --------------------------------------------------------------------------------------------------

    def _name(self, name: str) -> NormalizedName:
        normalized = try_normalize(name)
        if normalized is None:
            raise Missing("no such project: a name has letters, digits and . _ - between them")
        return normalized

    def _project(self, name: NormalizedName) -> Project:
        project = self.site.index.project(name)
        if project is None:
            elsewhere = "; installers are sent to the upstream for it" if self.site.fallback(name) else ""
            raise Missing(self.site.reserved.refuses(name) or f"no project {name} here{elsewhere}")
        return project

    def _root(self) -> str:
        """From the page asked for up to the root of the index."""
        return "../" * (str(bottle.request.path).count("/") - 1)

    def _form(self) -> simple.Form:
        environ = bottle.request.environ
        wanted = bottle.request.query.get("format") if environ.get("QUERY_STRING") else None
        return simple.negotiate(environ.get("HTTP_ACCEPT"), wanted)

    def _page(
        self, source: object, name: NormalizedName | None, form: simple.Form, make: Callable[[], bytes]
    ) -> send.Answer:
        def rendered() -> send.Page:
            control = self.site.page_cache_control
            return send.Page(make(), form.content_type, cache_control=control, vary="Accept, Accept-Encoding")

        environ = bottle.request.environ
        page = self._pages.get((name, form), (source,), rendered)
        ready = page.encoded(environ.get("HTTP_ACCEPT_ENCODING", ""))
        age = self.site.stale(name) if name is not None else None
        if age is not None:
            answer = ready.answer(environ.get("HTTP_IF_NONE_MATCH"))
            stale = [("Age", str(int(age))), ("Warning", '110 - "Response is Stale"')]
            return send.Answer(status=answer.status, headers=[*answer.headers, *stale], body=answer.body)
        if self._unadorned():
            self._ready.keep(environ["bottle.raw_path"], environ, name, source, ready)
        return ready.answer(environ.get("HTTP_IF_NONE_MATCH"))

    def _unadorned(self) -> bool:
        """Whether pages are sent as our routes make them: nobody hooked in or overrode them."""
        kind = type(self)
        return (
            kind.simple_project is PypiServerLite.simple_project
            and kind.simple_names is PypiServerLite.simple_names
            and kind.admit is PypiServerLite.admit
            and len(self.plugins) == self._own_plugins
            and not any(self._hooks.values())
        )

    def _plain_page(self, body: str) -> send.Answer:
        content = body.encode("utf-8", "replace")
        page = send.Page(
            content, "text/html; charset=utf-8", cache_control=self.site.page_cache_control, vary="Accept-Encoding"
        )
        environ = bottle.request.environ
        return page.encoded(environ.get("HTTP_ACCEPT_ENCODING", "")).answer(environ.get("HTTP_IF_NONE_MATCH"))

    # -- WSGI -----------------------------------------------------------------------------------------------------

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        return self.wsgi(environ, start_response)

    def wsgi(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request; Bottle's own name for it."""
        if observe.access.isEnabledFor(logging.INFO):
            start_response = self._logged(environ, start_response)
        self._enter(environ)
        answer = self._ready.answer(environ)
        if answer is None:
            if not _clean_path(environ.get("PATH_INFO", "")):
                # Bottle would drop what is not UTF-8 and answer for another path.
                environ["PATH_INFO"] = "/\N{REPLACEMENT CHARACTER}/-".encode().decode("latin-1")
            answer = self._download(environ)
        if answer is None:
            return cast("Iterable[bytes]", super().wsgi(environ, start_response))
        # A copy: the answer is kept for others, and middleware may add to what it is given.
        start_response(answer.status, answer.headers.copy())
        body = answer.body
        if isinstance(body, bytes):
            return () if environ["REQUEST_METHOD"] == "HEAD" else (body,)
        if hasattr(body, "read"):
            return cast("Iterable[bytes]", environ.get("wsgi.file_wrapper", bottle.WSGIFileWrapper)(body))
        return body

    def _enter(self, environ: WSGIEnvironment) -> None:
        """Move the path of --server-base-url from the request's path to the prefix that the application stands under.

        A proxy in front may have taken it away already; then it is only named.
        """
        if not self._base_path:
            return
        path, prefix = environ.get("PATH_INFO", ""), environ.get("SCRIPT_NAME", "")
        if f"{path}/".startswith(f"{self._base_path}/"):
            environ["PATH_INFO"] = path.removeprefix(self._base_path)
        if not prefix.endswith(self._base_path):
            environ["SCRIPT_NAME"] = prefix + self._base_path

    def _download(self, environ: WSGIEnvironment) -> send.Answer | None:
        """The answer to a request for a file, ahead of the router, which costs more than the file.

        ``None`` sends it the plain way, errors and refusals too.
        """
        path = environ.get("PATH_INFO", "")
        if not path.startswith("/packages/") or not path.isascii() or environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return None
        gate = self.site.gate
        if gate.needs_login("download") and not gate.recognises(
            environ.get("HTTP_AUTHORIZATION"), environ.get("REMOTE_ADDR", "")
        ):
            return None
        if type(self).package is not PypiServerLite.package or not self._unadorned():
            return None
        try:
            return self._downloads.answer(path.removeprefix("/packages/"), environ)
        except PypiServerLiteError:
            return None

    def _logged(self, environ: WSGIEnvironment, start_response: StartResponse) -> StartResponse:
        """Log the request; what is returned logs the answer as it starts."""
        values = observe.request_values(environ)
        observe.access.info("%s", observe.fill(self.site.config.log_req_frmt, values))
        began = time.monotonic()

        def note(status: str, headers: send.Headers, exc_info: Any = None) -> Callable[[bytes], object]:
            observe.note(self.site.config, values, status, headers, environ.get("pypiserver_lite.error", "-"), began)
            return start_response(status, headers, exc_info)

        return cast("StartResponse", note)

    def close(self) -> None:
        """Stop background work and close what is open."""
        super().close()
        self.site.close()


def _segment(version: str | None) -> str:
    """The part of a relative address that names a release; none for ``None``."""
    return "" if version is None else f"{quote(version, safe='+!')}/"


def _clean_path(path: str) -> bool:
    """Whether a path, bytes as Latin-1 as WSGI has it, is strict UTF-8 without control characters and backslashes."""
    if path.isascii():
        return path.isprintable() and "\\" not in path
    try:
        text = path.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return False
    return not re.search(r"[\x00-\x1f\x7f-\x9f\\]", text)


def make_app(*packages: object, **settings: object) -> PypiServerLite:
    """The index over the folders `packages` as a WSGI application; settings are named as the flags.

    Raises ConfigError if a setting is unknown or cannot be used.
    """
    return PypiServerLite(*packages, **settings)
