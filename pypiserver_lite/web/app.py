"""The Bottle application: every route a method.

A route reads the request, asks one question and sends the answer. What
happens before and around it is `entry`'s.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, cast
from urllib.parse import quote, urlsplit

import bottle
from packaging.utils import NormalizedName

from .. import site, upload
from ..config.settings import Config, from_settings
from ..dists import NAME_LIMIT, try_normalize
from ..errors import ConfigError, Missing, PypiServerLiteError, TooLarge
from ..kept import Kept, Turnstile
from ..model import Project, User
from ..releases import release
from ..search import LONGEST_QUERY
from ..simple import render
from ..simple.negotiate import Form, negotiate
from ..upload.body import RequestBody
from ..upstream import hops
from . import answers, changes, entry, legacy_json, pages, rpc, templates
from .downloads import Downloads

_LONGEST_VERSION = 255  # bytes of the file name that it would be a part of


class PypiServerLite(entry.Entry):
    """The index as a WSGI application over the folders `packages`, with settings named as the flags.

    Subclass it to change a page: every route is a method. The home page is
    `root`; `render` fills a template. Raises ConfigError if the settings
    name something that cannot be used.
    """

    def __init__(self, *packages: object, **settings: object) -> None:
        super().__init__()
        if packages and "packages" in settings:
            raise ConfigError("the packages folders are given twice")
        if packages:
            settings["packages"] = packages[0] if len(packages) == 1 else packages
        given = settings.get("config")
        alone = isinstance(given, Config) and len(settings) == 1
        checked = cast("Config", given) if alone else from_settings(settings)
        self._base_path = urlsplit(checked.server.server_base_url).path.rstrip("/")
        self.templates = templates.Templates(folder=checked.index.templates, welcome=checked.index.welcome)
        self.site = site.build(checked)
        # Some of what is told of a project may have to come from an upstream first.
        waiting = Turnstile(max(1, site.threads(checked) // 4), room=site.threads(checked), patience=0.5)
        self._pages = Kept[answers.Page](lambda page: page.weight, waiting=waiting)
        self._lists = Kept[bytes](len)
        self._downloads = Downloads(self.site)
        try:
            self.human = pages.HumanPages(self.site, self.templates, waiting)
            self._add_routes()
        except BaseException:
            self.site.close()
            raise
        self.site.reading.start()

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
        for path in entry.UPLOAD_PATHS:
            self._route("POST", path, "update", self.change)
        for path in ("/RPC2", "/pypi", "/pypi/"):
            self._route("POST", path, "list", self.xml_rpc)
        self._route("GET", "/RPC2", "list", self.only_called)
        self._route("GET", "/", "list", self.root, people=True)
        self._route("GET", "/search", "list", self.search, people=True)
        self._route("GET", "/project/<name>", "list", self.add_slash, people=True)
        self._route("GET", "/project/<name>/", "list", self.project_page, people=True)
        self._route("GET", "/project/<name>/<version>", "list", self.add_slash, people=True)
        self._route("GET", "/project/<name>/<version>/", "list", self.project_page, people=True)
        self._route("GET", "/-/<filename>", None, self.asset)
        self._route("GET", "/favicon.ico", None, self.nothing)
        self._route("GET", "/robots.txt", None, self.nothing)
        self._route("GET", "/<name>/json", "list", self.project_json)
        self._add_health(self.site.config.server.health_endpoint)
        # The widest patterns last: they would match the others.
        self._route("GET", "/<name>", "list", self.to_simple)
        self._route("GET", "/<name>/", "list", self.to_simple)

    def _add_health(self, path: str) -> None:
        """Where monitoring asks. Raises ConfigError for a path that has another use."""
        with suppress(bottle.HTTPError):
            self.router.match({"REQUEST_METHOD": "GET", "PATH_INFO": path})
            raise ConfigError(f"--health-endpoint: {path!r} is a page of the index; take another path")
        self._route("GET", path, None, self.health)

    def _route(
        self, method: str, path: str, action: str | None, call: Callable[..., object], *, people: bool = False
    ) -> None:
        home = (method, path) == ("GET", "/")
        foreign = getattr(call, "__module__", None) != __name__
        if foreign:
            call = _foreign(call)

        def answer(environ: dict[str, Any], arguments: Mapping[str, str]) -> object:
            try:
                self._guard.check(action, environ)
                if action is not None:
                    environ["pypiserver_lite.user"] = self.admit(action, environ)
                if home and not environ["bottle.raw_path"]:
                    # Links of the page would lead out of the place that the application is mounted at.
                    return answers.redirect(self._address().rstrip("/").rsplit("/", 1)[-1] + "/", 302)
                if not self.site.remotes:
                    return call(**arguments)
                # What goes up says whom the request has passed; one that has passed us is refused.
                with hops.carrying(environ.get("HTTP_VIA")):
                    return call(**arguments)
            except PypiServerLiteError as error:
                return self._refuse(error, people=people)

        self.answer_with(method, path, answer, foreign=foreign)

    def root(self) -> object:
        """The home page. Override it to give the index another one; text is sent as HTML."""
        return self.human.home(self._address()).answer(bottle.request.environ)

    def search(self) -> object:
        """The projects that have all words of ``?q=`` in their name or summary, some on each page."""
        number = bottle.request.query.getunicode("page", "1")
        query = " ".join(bottle.request.query.getunicode("q", "").split())[:LONGEST_QUERY]
        page = self.human.search(query, int(number) if re.fullmatch("[0-9]{1,6}", number, re.ASCII) else 1)
        return page.answer(bottle.request.environ)

    def project_page(self, name: str, version: str | None = None) -> object:
        """A project with its newest release, or one of its releases, for people."""
        project_name = self._name(name)
        if project_name != name:
            return answers.redirect("../" * (1 if version is None else 2) + f"{project_name}/{_segment(version)}", 301)
        project = self._project(project_name)
        spelled = None if version is None else release(project, version)
        if spelled != version:
            return answers.redirect(f"../{_segment(spelled)}", 301)
        return self.human.project(project, spelled, self._address()).answer(bottle.request.environ)

    def asset(self, filename: str) -> answers.Answer:
        """The style sheet, the script, and what else lies beside the templates."""
        page = self.templates.asset(filename, bottle.request.query.get("v", ""))
        return page.answer(bottle.request.environ)

    def render(self, template: str, **variables: object) -> str:
        """The text of the page `template` (a name without ``.tpl``) with these variables, and those of every page."""
        return self.templates.render(template, {**self.human.common(self._root()), **variables})

    def simple_names(self) -> answers.Answer:
        """The list of all projects (PEP 503, 691)."""
        state, names, environ = self.site.store.state(), self.site.index.names(), bottle.request.environ
        form = _form(environ)
        page = self._pages.get(
            ("simple", form.value),
            (names, state) if form is Form.JSON else (names,),
            lambda: self._simple(render.render_names(names, form, state.serial), form),
        )
        return page.answer(environ, _numbers(state.serial))

    def simple_project(self, name: str) -> answers.Answer:
        """A project's page (PEP 503, 691); a redirect to the upstream's if no folder has it."""
        project_name = self._name(name)
        if project_name != name:
            return answers.redirect(f"../{project_name}/", 301)
        state, project = self.site.store.state(), self.site.index.project(project_name)
        if project is None:
            address = self.site.fallback(project_name)
            if address is None:
                raise Missing(self.site.reserved.refuses(project_name) or f"no project {project_name} here")
            return answers.redirect(address, 302)
        environ = bottle.request.environ
        form = _form(environ)
        page = self._pages.find((form, project_name), (project,)) or self._page_of(project, form)
        numbers = _numbers(state.serial)
        return page.answer(environ, self._more(project, numbers) if self.site.remotes else numbers)

    def _more(self, project: Project, numbers: answers.More) -> answers.More:
        """The headers of a page that may be an upstream's: our serials say nothing of that, but it may be stale."""
        age = self.site.stale(project.name)
        if age is not None:
            return (("Age", str(int(age))), ("Warning", '110 - "Response is Stale"'))
        return () if _is_elsewhere(project) else numbers

    def _page_of(self, project: Project, form: Form) -> answers.Page:
        def made() -> answers.Page:
            return self._simple(render.render_project(project, form), form)

        return self._pages.get((form, project.name), (project,), made)

    def _simple(self, body: bytes, form: Form) -> answers.Page:
        control = self.site.page_cache_control
        return answers.Page(body, form.content_type, cache_control=control, vary="Accept, Accept-Encoding")

    def package_files(self) -> answers.Answer:
        """A page with a link to each file of this index, as ``pip install --find-links`` reads it."""
        state, index = self.site.store.state(), self.site.index
        page = self._pages.get(
            ("packages",),
            (index.names(), state),
            lambda: self._plain("".join(legacy_json.file_links(index)), "text/html; charset=utf-8"),
        )
        return page.answer(bottle.request.environ)

    def _plain(self, text: str, content_type: str) -> answers.Page:
        body = text.encode("utf-8", "replace")
        return answers.Page(body, content_type, cache_control=self.site.page_cache_control, vary="Accept-Encoding")

    def package(self, path: str) -> answers.Answer:
        """A file, or what belongs to it. The last segment names the file; one before it may name its project."""
        return self._downloads.answer(path, bottle.request.environ)

    def project_json(self, name: str) -> answers.Answer:
        """Facts about a project and its latest release, in the shape of PyPI's JSON API."""
        project_name = self._name(name)
        if project_name != name:
            return answers.redirect(f"../{project_name}/json", 301)
        return self._facts(project_name, None)

    def release_json(self, name: str, version: str) -> answers.Answer:
        """Facts about one release, in the shape of PyPI's JSON API."""
        return self._facts(self._name(name), version)

    def _facts(self, name: NormalizedName, version: str | None) -> answers.Answer:
        state, project, address = self.site.store.state(), self._project(name), self._address()
        spelled = None if version is None else release(project, version)

        def made() -> answers.Page:
            facts = legacy_json.project_json(project, spelled, self.site.index, address)
            return self._plain(json.dumps({**facts, "last_serial": state.serial}), "application/json")

        # The address is what the client wrote: it makes the page anew, and never one more.
        page = self._pages.get(("json", name, spelled), (project, state, sys.intern(address)), made)
        return page.answer(bottle.request.environ, () if _is_elsewhere(project) else _numbers(state.serial))

    def change(self) -> answers.Answer:
        """The legacy upload API: a new file, or the removal or yank of a release (`:action`)."""
        environ = bottle.request.environ
        received = upload.receive(
            changes.request_body(environ),
            environ.get("CONTENT_TYPE"),
            changes.content_length(environ),
            stage=self.site.store.stage,
            limit=self.site.config.index.max_upload,
        )
        user = cast("User | None", environ.get("pypiserver_lite.user"))
        return answers.text(changes.carry_out(received, self.site, user.name if user else "anonymous"))

    def xml_rpc(self) -> answers.Answer:
        """Old clients' XML-RPC calls, `search` above all."""
        length = changes.content_length(bottle.request.environ)
        if length is not None and length > rpc.LONGEST:
            raise TooLarge(f"an XML-RPC call has at most {rpc.LONGEST} bytes")
        body = RequestBody(changes.request_body(bottle.request.environ), length, None).read(rpc.LONGEST + 1)
        if len(body) > rpc.LONGEST:
            raise TooLarge(f"an XML-RPC call has at most {rpc.LONGEST} bytes")
        state, address = self.site.store.state(), self._address()
        calls = rpc.Calls(self.site.index, self.human.overview, state, address, self._lists)
        return answers.content(calls.answer(body), "text/xml; charset=utf-8")

    def only_called(self) -> answers.Answer:
        """XML-RPC's address, for those who do not call but look."""
        answer = answers.text("this address takes XML-RPC calls by POST", [("Allow", "POST")])
        return answers.Answer(status="405 Method Not Allowed", headers=answer.headers, body=answer.body)

    def health(self) -> answers.Answer:
        """``Ok`` for monitoring; with ``Accept: application/json`` more, for those who may list."""
        if "application/json" not in bottle.request.environ.get("HTTP_ACCEPT", ""):
            return answers.content(b"Ok", "text/plain; charset=utf-8")
        try:
            self.admit("list", bottle.request.environ)
        except PypiServerLiteError:
            return answers.as_json({"status": "ok"})
        facts = {"status": "ok", "version": site.VERSION, "uptime": int(self.site.uptime())}
        return answers.as_json({**facts, **self.site.state()})

    def nothing(self) -> answers.Answer:
        """Files that browsers and crawlers ask for and that no project may answer."""
        raise Missing("nothing here")

    def add_slash(self, name: str = "", version: str = "") -> answers.Answer:
        """From a page's address without its last slash to the one with it (PEP 503)."""
        last = self._name(name) if name else self._path().rsplit("/", 1)[-1]
        return answers.redirect(_segment(version) or f"{last}/", 301)

    def to_simple(self, name: str) -> answers.Answer:
        """From an index URL without ``simple/`` to the project's page."""
        up = "../" if bottle.request.path.endswith("/") else ""
        return answers.redirect(f"{up}simple/{self._name(name)}/", 302)

    def _name(self, name: str) -> NormalizedName:
        normalized = _normalized(name) if len(name) <= NAME_LIMIT else None
        if normalized is None:
            raise Missing("no such project: a name has letters, digits and . _ - between them")
        return normalized

    def _project(self, name: NormalizedName) -> Project:
        project = self.site.index.project(name)
        if project is None:
            elsewhere = "; installers are sent to the upstream for it" if self.site.fallback(name) else ""
            raise Missing(self.site.reserved.refuses(name) or f"no project {name} here{elsewhere}")
        return project


def _foreign(call: Callable[..., object]) -> Callable[..., object]:
    """A route of a subclass: answers of ours that it returns are its own, and go with what it said to Bottle."""

    def called(**arguments: str) -> object:
        bottle.request.environ[answers.CHANGED] = True
        result = call(**arguments)
        if not isinstance(result, answers.Answer):
            return result
        response = bottle.response  # its list has a type that nobody set
        said = [
            (name, value) for name, value in response.headerlist if name == "Set-Cookie" or name in response.headers
        ]
        return answers.with_said(result, said) if said else result

    return called


def _form(environ: Mapping[str, Any]) -> Form:
    """Which form of a page the request in hand wants."""
    wanted = bottle.request.query.get("format") if environ.get("QUERY_STRING") else None
    return negotiate(environ.get("HTTP_ACCEPT"), wanted)


_normalized = lru_cache(maxsize=4096)(try_normalize)  # clients ask for the same names again and again


@lru_cache(maxsize=64)
def _numbers(serial: int) -> answers.More:
    """The header that mirrors go by: the very same object for the same serial."""
    return (("X-PyPI-Last-Serial", str(serial)),)


def _is_elsewhere(project: Project) -> bool:
    """Whether a project is an upstream's, of which our serials say nothing."""
    return bool(project.files) and bool(project.files[0].url)


def _segment(version: str | None) -> str:
    """The part of a relative address that names a release; none for none. Raises Missing for what is too long."""
    if version and len(version) > _LONGEST_VERSION:
        raise Missing("there is no such release")
    return f"{quote(version, safe='+!')}/" if version else ""


def make_app(*packages: object, **settings: object) -> PypiServerLite:
    """The index over the folders `packages` as a WSGI application; settings are named as the flags.

    Raises ConfigError if a setting is unknown or cannot be used.
    """
    return PypiServerLite(*packages, **settings)
