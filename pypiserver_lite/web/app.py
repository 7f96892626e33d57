"""The Bottle application: every route a method.

A route reads the request, asks one question and sends the answer. What
happens before and around it is `entry`'s.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast
from urllib.parse import urlsplit

import bottle
from packaging.utils import NormalizedName

from .. import site, upload
from ..config.indexes import ROOT
from ..config.load import from_settings
from ..config.settings import Config
from ..errors import ConfigError, Denied, Invalid, Missing, PypiServerLiteError, TooLarge
from ..index import Elsewhere
from ..kept import Kept, Turnstile
from ..model import Project, User
from ..releases import release
from ..rights.rules import View
from ..seen import Seen
from ..simple import render
from ..simple.negotiate import Form, negotiate
from ..upload.body import RequestBody
from ..upstream import hops
from . import answers, api, changes, entry, hiding, legacy_json, pages, rpc, sessions, templates
from .downloads import Downloads
from .people import segment
from .views import Views

_PATIENCE = 5.0  # seconds that somebody else's reading of the settings is waited for


class PypiServerLite(api.Api):
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
        front, ready = settings.pop("front", None), settings.pop("site", None)
        self.site = ready if isinstance(ready, site.Site) else site.build(_config(settings))
        checked, name = self.site.config, self.site.name
        # In front of several indexes somebody else sees to the way in.
        self._base_path = "" if front is not None else urlsplit(checked.server.server_base_url).path.rstrip("/")
        self._place = "" if name == ROOT else f"{name}/"
        self.front = cast("entry.Several | None", front)
        passwords = self.site.gate.passwords
        if passwords is not None:
            place = os.path.abspath(passwords.path)
            records = self.site.records
            self.sessions = sessions.Sessions(
                lambda: records.secret("sessions"),
                lambda user: passwords.book().line(user),
                place,
                ended=records.sign_outs.has,
            )
        try:
            self._set_up()
        except BaseException:
            self.site.close()
            raise
        self.site.reading.start()

    def _set_up(self) -> None:
        checked = self.site.config
        settings = self.site.settings
        if self.front is not None:
            self.templates = self.front.templates(settings)
        else:
            self.templates = templates.Templates(folder=settings.templates, welcome=settings.welcome)
        # Some of what is told of a project may have to come from an upstream first.
        waiting = Turnstile(max(1, site.threads(checked) // 4), room=site.threads(checked), patience=0.5)
        self._pages = Kept[answers.Page](lambda page: page.weight, waiting=waiting)
        self._lists = Kept[bytes](len)
        self._downloads = Downloads(self.site)
        self.set_up_desks()
        self.human = pages.HumanPages(self.site, self.templates, waiting)
        self._open = self.site.gate.book.open
        self._views = Views(self._as_seen)
        self._add_routes()

    def _as_seen(self, view: View) -> PypiServerLite:
        """This application as somebody sees it who may list a part of the index alone."""
        index = Seen(self.site.index, view.shows, nobody=view.nobody)
        seen = copy.copy(self)  # a subclass is one, and has what it set
        site = replace(self.site, index=index, whole=False)
        # Bottle lets nobody set what is set.
        seen.__dict__.update(
            site=site,
            human=self.human.as_seen(site, view),
            _pages=self._pages.part(view),
            _lists=self._lists.part(view),
        )
        return seen

    def seen_by(self, user: User | None) -> PypiServerLite:
        """This application as `user`, whom `admit` let list, sees it (``None``: nobody who logged in)."""
        view = self.site.gate.book.view(user)
        return self if view is None else self._views.of(view)

    def forget(self) -> None:
        """Let go of the pages that are kept: others are asked from now on."""
        self._views.clear()
        self._pages.clear()
        self._lists.clear()
        self.human.forget()

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
        self._route("GET", "/-/sign-in", None, self.sign_in_page, people=True)
        self._route("POST", "/-/sign-in", None, self.sign_in, people=True, form=True)
        self._route("POST", "/-/sign-out", None, self.sign_out, people=True, form=True)
        self._add_forms(entry.UPLOAD_PAGE, "upload", self.upload_page, self.upload_files)
        for path, look in (
            ("/-/admin/", self.admin_page),
            ("/-/admin/trail", self.trail_page),
            ("/-/admin/names", self.names_page),
        ):
            self._route("GET", path, "admin", look, people=True)
        self._route("GET", "/-/admin", "admin", self.add_slash, people=True)
        self._add_forms("/-/admin/names/<name>", "admin", self.release_page, self.release_name)
        self._route("GET", "/-/admin/owners/<name>", "admin", self.owners_page, people=True)
        self._add_forms("/-/admin/owners/<name>/add", "admin", self.add_owner_page, self.add_owner)
        self._add_forms("/-/admin/owners/<name>/remove", "admin", self.remove_owner_page, self.remove_owner)
        if self.site.name == ROOT:
            self._route("GET", "/-/admin/users", "admin", self.users_page, people=True)
            self._add_forms("/-/admin/password", "admin", self.password_page, self.set_password)
            self._add_forms("/-/admin/delete", "admin", self.delete_page, self.delete_user)
            self._route("GET", "/-/admin/tokens", "admin", self.all_tokens_page, people=True)
        self._route("GET", "/-/tokens", None, self.tokens_page, people=True)
        self._add_forms("/-/tokens/new", None, self.new_token_page, self.create_token)
        self._add_forms("/-/tokens/<number:re:[0-9]{1,15}>", None, self.revoke_page, self.revoke_token)
        for method, path, right, call in self._api_routes():
            self._route(method, f"/-/api/{path}", right, call, api=True)
        self._add_forms("/-/change/<act>/<name>/<version>", "list", self.act_page, self.change_release)
        self._route("GET", "/-/<filename>", None, self.asset)
        self._route("GET", "/-/api/explain", "list", self.explain)
        if self.site.name == ROOT:
            self._route("POST", "/-/api/reload", "reload", self.reload_settings)
        self._route("GET", "/favicon.ico", None, self.nothing)
        self._route("GET", "/robots.txt", None, self.nothing)
        self._route("GET", "/<name>/json", "list", self.project_json)
        self._add_health(self.site.config.server.health_endpoint)
        # The widest patterns last: they would match the others.
        self._route("GET", "/<name>", "list", self.to_simple)
        self._route("GET", "/<name>/", "list", self.to_simple)

    def _api_routes(self) -> Iterator[tuple[str, str, str | None, Callable[..., object]]]:
        yield "GET", "openapi.json", None, self.api_document
        yield "GET", "me", None, self.api_me
        yield "GET", "overview", "admin", self.api_overview
        yield "GET", "audit", "admin", self.api_audit
        yield "GET", "names", "admin", self.api_names
        yield "DELETE", "names/<name>", "admin", self.api_release
        yield "GET", "owners/<name>", "admin", self.api_owners
        yield "PUT", "owners/<name>/<user:path>", "admin", self.api_add_owner
        yield "DELETE", "owners/<name>/<user:path>", "admin", self.api_remove_owner
        yield "GET", "projects/<name>/<version>", "list", self.api_release_page
        yield "POST", "projects/<name>/<version>/<act>", "list", self.api_act
        yield "GET", "tokens", None, self.api_tokens
        yield "POST", "tokens", None, self.api_create_token
        yield "DELETE", "tokens/<number:re:[0-9]{1,15}>", None, self.api_revoke_token
        if self.site.name == ROOT:
            yield "GET", "users", "admin", self.api_users
            yield "PUT", "users/<user:path>", "admin", self.api_set_password
            yield "DELETE", "users/<user:path>", "admin", self.api_delete_user

    def _add_forms(
        self, path: str, action: str | None, look: Callable[..., object], send: Callable[..., object]
    ) -> None:
        """Route a page with a form of ours, and the form itself, which is sent to the page's own address."""
        self._route("GET", path, action, look, people=True)
        self._route("POST", path, action, send, people=True, form=True)

    def _add_health(self, path: str) -> None:
        """Where monitoring asks. Raises ConfigError for a path that has another use."""
        with suppress(bottle.HTTPError):
            self.router.match({"REQUEST_METHOD": "GET", "PATH_INFO": path})
            raise ConfigError(f"--health-endpoint: {path!r} is a page of the index; take another path")
        self._route("GET", path, None, self.health)

    def _route(
        self,
        method: str,
        path: str,
        action: str | None,
        call: Callable[..., object],
        *,
        people: bool = False,
        form: bool = False,
        api: bool = False,
    ) -> None:
        """Route what needs the right to `action`; `people` look at it; a `form` of ours brings the session's token.

        Refusals of an `api` are JSON.
        """
        home = (method, path) == ("GET", "/")
        foreign = getattr(call, "__module__", "").rpartition(".")[0] != __package__
        name = call.__name__
        if foreign:
            call = _foreign(call)

        in_part = action == "list" and "list" not in self._open
        """Whether somebody may see a part of the index alone."""

        def called(user: User | None) -> Callable[..., object]:
            """The route as `user` sees the index."""
            seen = self.seen_by(user)
            if seen is self:
                return call
            theirs: Callable[..., object] = getattr(seen, name)
            return _foreign(theirs) if foreign else theirs

        def answer(environ: dict[str, Any], arguments: Mapping[str, str]) -> object:
            try:
                self._guard.check(action if method == "GET" else "update", environ)
                if method != "GET" and not form:
                    self.check_form(self.session(environ), environ.get("HTTP_X_CSRF_TOKEN"))
                if action is not None:
                    right = action if action != "update" else self.before_body(action, environ)
                    user = environ[entry.USER] = self.admit(right, environ)
                if home and not environ["bottle.raw_path"]:
                    # Links of the page would lead out of the place that the application is mounted at.
                    return answers.redirect(self._address().rstrip("/").rsplit("/", 1)[-1] + "/", 302)
                theirs = called(user) if in_part else call
                if not self.site.remotes:
                    return theirs(**arguments)
                # What goes up says whom the request has passed; one that has passed us is refused.
                with hops.carrying(environ.get("HTTP_VIA")):
                    return theirs(**arguments)
            except PypiServerLiteError as error:
                environ[entry.ACTION] = action or ""
                if api and not entry.walks(environ):
                    return answers.refusal_as_json(self._refuse_script(error))
                return self._refuse(error, people=people)

        self.answer_with(method, path, answer, foreign=foreign)

    def simple_names(self) -> answers.Answer:
        """The list of all projects (PEP 503, 691)."""
        state, names, environ = self.site.index.state(), self.site.index.names(), bottle.request.environ
        form = _form(environ)
        page = self._pages.get(
            ("simple", form.value),
            (names, state) if form is Form.JSON else (names,),
            lambda: self._page(render.render_names(names, form, state.serial), form.content_type),
        )
        return page.answer(environ, _numbers(state.serial))

    def simple_project(self, name: str) -> answers.Answer:
        """A project's page (PEP 503, 691); a redirect to the upstream's if no folder has it."""
        project_name = self._name(name)
        if project_name != name:
            return answers.redirect(f"../{project_name}/", 301)
        state, project = self.site.index.state(), self.site.index.find(project_name)
        if project is None:
            raise Missing(f"no project {project_name} here")
        if isinstance(project, Elsewhere):
            return answers.redirect(project.address, 302)
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
            return self._page(render.render_project(project, form), form.content_type)

        return self._pages.get((form, project.name), (project,), made)

    def package_files(self) -> answers.Answer:
        """A page with a link to each file of this index, as ``pip install --find-links`` reads it."""
        state, index = self.site.index.state(), self.site.index
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
        environ = bottle.request.environ
        if "download" in self._open:
            return self._downloads.answer(path, environ)
        user = environ.get(entry.USER)
        return self._downloads.answer(path, environ, lambda name: self.allow(user, "download", name))

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
        state, project, address = self.site.index.state(), self._project(name), self._address()
        spelled = None if version is None else release(project, version)

        def made() -> answers.Page:
            facts = legacy_json.project_json(project, spelled, self.site.index, address)
            return self._plain(json.dumps({**facts, "last_serial": state.serial}), "application/json")

        # The address is what the client wrote: it makes the page anew, and never one more.
        page = self._pages.get(("json", name, spelled), (project, state, sys.intern(address)), made)
        return page.answer(bottle.request.environ, () if _is_elsewhere(project) else _numbers(state.serial))

    def change(self) -> answers.Answer:
        """The legacy upload API: a new file, or the removal, yank or push of a release (`:action`)."""
        environ = bottle.request.environ
        asked_already = self.before_body("update", environ) == "update"
        try:
            received = upload.receive(
                changes.request_body(environ),
                environ.get("CONTENT_TYPE"),
                changes.content_length(environ),
                stage=self.site.store.stage,
                limit=self.site.settings.max_upload,
            )
        except PypiServerLiteError:
            if not asked_already:
                self.admit("update", environ)  # who may do nothing here learns no more than that
            raise
        return answers.text(self.carry_out(received, environ))

    def carry_out(self, received: upload.Received, environ: Mapping[str, Any]) -> str:
        """Do what somebody asks for who passed the way in, and still would; a short text that says what was done."""
        if received.action == "push":
            return self._push(received, environ)
        user = self.admit_again("update", environ)
        return changes.carry_out(received, self, user, self.by(user, environ))

    def _push(self, received: upload.Received, environ: Mapping[str, Any]) -> str:
        """Publish a release of this index in another, for who may download it here and publish it there."""
        user = self.admit_again("download", environ)
        target = changes.other_index(received, self.front)
        self.allow(user, "download", changes.named(received))
        assert self.front is not None  # or there is no other index
        there = self.front.app(target.name)
        if self.is_borrowed(there):
            raise Denied(f"a sign-in at {target.name}, which has other users, pushes nothing; send a password")
        user = there.admit("update", environ)
        return changes.push(received, self.site, there, user, self.by(user, environ))

    def xml_rpc(self) -> answers.Answer:
        """Old clients' XML-RPC calls, `search` above all."""
        length = changes.content_length(bottle.request.environ)
        if length is not None and length > rpc.LONGEST:
            raise TooLarge(f"an XML-RPC call has at most {rpc.LONGEST} bytes")
        body = RequestBody(changes.request_body(bottle.request.environ), length, None).read(rpc.LONGEST + 1)
        if len(body) > rpc.LONGEST:
            raise TooLarge(f"an XML-RPC call has at most {rpc.LONGEST} bytes")
        state, address = self.site.index.state(), self._address()
        calls = rpc.Calls(self.site.index, self.human.overview, state, address, self._lists)
        return answers.content(calls.answer(body), "text/xml; charset=utf-8")

    def explain(self) -> answers.Answer:
        """Whose ``?name=`` is, and every file of it with what hides it; of ``&version=`` alone, for ``&python=`` …"""
        query = {key: bottle.request.query.getunicode(key, "") for key in hiding.QUESTIONS}
        if not query["name"]:
            raise Invalid("say of what: ?name=PROJECT, and if you like &version=, &python= and &platform=")
        name = self._name(query.pop("name"))
        self.site.index.expect(name)
        return answers.as_json(self.human.hiding.explained(name, **query))

    def only_called(self) -> answers.Answer:
        """XML-RPC's address, for those who do not call but look."""
        answer = answers.text("this address takes XML-RPC calls by POST", [("Allow", "POST")])
        return answers.Answer(status="405 Method Not Allowed", headers=answer.headers, body=answer.body)

    def reload_settings(self) -> answers.Answer:
        """Read the file of settings again, as SIGHUP does, and have the other processes do so. 400 if it cannot be."""
        if self.front is None:
            raise Missing("this server has no file of settings that it could read again")
        environ = bottle.request.environ
        by = self.by(cast("User | None", environ.get(entry.USER)), environ)
        try:
            with self.site.records.trail.change(replace(by, action="reload")):
                self.front.reload(patience=_PATIENCE)
        except ConfigError as error:
            self.site.log.error("the settings stay as they are: %s", error)
            raise Invalid(f"the settings stay as they are: {error}") from error
        self.front.others()
        return answers.text("the settings were read again")

    def health(self) -> answers.Answer:
        """``Ok`` for monitoring; with ``Accept: application/json`` more, for those who may list."""
        if "application/json" not in bottle.request.environ.get("HTTP_ACCEPT", ""):
            return answers.content(b"Ok", "text/plain; charset=utf-8")
        try:
            seen = self.seen_by(self.admit("list", bottle.request.environ))
        except PypiServerLiteError:
            return answers.as_json({"status": "ok"})
        facts = {"status": "ok", "version": site.VERSION, "uptime": int(self.site.uptime())}
        return answers.as_json({**facts, **seen.site.state()})

    def nothing(self) -> answers.Answer:
        """Files that browsers and crawlers ask for and that no project may answer."""
        raise Missing("nothing here")

    def add_slash(self, name: str = "", version: str = "") -> answers.Answer:
        """From a page's address without its last slash to the one with it (PEP 503)."""
        last = self._name(name) if name else self._path().rsplit("/", 1)[-1]
        return answers.redirect(segment(version) or f"{last}/", 301)

    def to_simple(self, name: str) -> answers.Answer:
        """From an index URL without ``simple/`` to the project's page."""
        up = "../" if bottle.request.path.endswith("/") else ""
        return answers.redirect(f"{up}simple/{self._name(name)}/", 302)


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


@lru_cache(maxsize=64)
def _numbers(serial: int) -> answers.More:
    """The header that mirrors go by: the very same object for the same serial."""
    return (("X-PyPI-Last-Serial", str(serial)),)


def _is_elsewhere(project: Project) -> bool:
    """Whether a project is an upstream's, of which our serials say nothing."""
    return bool(project.files) and bool(project.files[0].url)


def _config(settings: Mapping[str, object]) -> Config:
    """The settings as a `Config`, which ``config`` alone may be already. Raises ConfigError."""
    given = settings.get("config")
    if isinstance(given, Config) and len(settings) == 1:
        return given
    if given is not None:
        raise ConfigError("a file of settings describes several applications: make_app(config=...) makes them")
    return from_settings(settings)
