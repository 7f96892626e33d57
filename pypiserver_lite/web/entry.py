"""The way in to every route: where the index stands, who may pass, what a refusal says, and the lines of the log.

Rights are checked before a route runs, and before a body is read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import quote

import bottle
from packaging.utils import NormalizedName

from .. import observe
from ..errors import Denied, Missing, PypiServerLiteError, TooLarge, Unavailable, Unseen
from ..model import User
from ..records import Event, sent_by
from . import answers, changes, forms, ready, templates
from .browsers import Guard, refuse_foreign
from .sessions import Session, Sessions, is_right
from .viewers import Viewer, sign_in_link

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from ..config.settings import IndexSettings
    from ..rights.rules import Decision
    from ..site import Site
    from .pages import HumanPages

log = logging.getLogger("pypiserver_lite")

UPLOAD_PATHS = ("/", "/legacy", "/legacy/", "/simple", "/simple/")
UPLOAD_PAGE = "/-/upload"
API = "/-/api/"
ASKED = "pypiserver_lite.asked"
"""In the environment of a request to one of several indexes: the path that was asked for, with all that leads there."""
ACTION = "pypiserver_lite.action"
"""In the environment of a request that is refused: the right that its route asks for."""
USER = "pypiserver_lite.user"
"""In the environment of a request: who asks, as `admit` said."""
_NOTED = "pypiserver_lite.noted"  # in the environment of a request whose answer is a line of the log
_SESSION = "pypiserver_lite.session."  # in the environment: whose session the request comes with, if it holds


class Several(changes.Together, Protocol):
    """What several indexes stand behind."""

    others: Callable[[], None]
    """Has the other processes that serve the same read the settings again."""

    def reload(self, *, patience: float) -> None:
        """Read the settings again. Raises Busy if others have them read for longer than `patience` seconds.

        Raises ConfigError for what cannot be used; then everything stays as it is.
        """

    @property
    def sites(self) -> Mapping[str, Site]:
        """All indexes by name, in the order of the settings."""

    def app(self, name: str) -> Entry:
        """The application of an index by its name. Raises KeyError."""

    def templates(self, settings: IndexSettings) -> templates.Templates:
        """The pages of an index. Raises ConfigError."""


def stand_under(environ: WSGIEnvironment, base_path: str) -> None:
    """Move `base_path` (no last slash) from the request's path to the prefix that the application stands under.

    A proxy in front may have taken it away already, and says so, or says nothing.
    """
    if not base_path:
        return
    path, prefix = environ.get("PATH_INFO", ""), environ.get("SCRIPT_NAME", "")
    if prefix.endswith(base_path):
        return  # what the path begins with is ours, even if it reads the same
    if f"{path}/".startswith(f"{base_path}/"):
        environ["PATH_INFO"] = path.removeprefix(base_path)
    environ["SCRIPT_NAME"] = prefix + base_path


def walks(environ: Mapping[str, Any]) -> bool:
    """Whether a browser goes to an address by itself, and can be led to another, rather than a program or a script.

    Without that, the challenge of a 401 would open its dialog, and what is
    typed there comes with every request from then on, whoever signs in or out.
    """
    mode = environ.get("HTTP_SEC_FETCH_MODE")  # which browsers say only over TLS and on their own machine
    if mode or environ["REQUEST_METHOD"] != "GET":
        return bool(mode == "navigate")
    accept = environ.get("HTTP_ACCEPT", "")
    # Programs in Java prefer HTML too, and send their login after a 401 alone; XHTML is a word of browsers.
    return answers.prefers_html(accept) and "application/xhtml+xml" in accept


class Entry(ready.Direct):
    """What every route of an index has in common. Whoever derives from it sets the attributes named here."""

    site: Site
    human: HumanPages
    sessions: Sessions | None = None
    """Of those who may sign in here; ``None`` where nobody can."""
    front: changes.Together | None
    """Where the other indexes are, if there are others."""
    _base_path: str
    """The path of --server-base-url, without a last slash; empty where that is seen to already."""
    _place: str
    """Of this index below the server's address: ``prod/``, or nothing for the one at the root."""

    def __init__(self) -> None:
        super().__init__(self._refusing)
        self._guard = Guard()
        self.itself = self
        """What requests come to; of an application as somebody sees it, the one that they see a part of."""

    def bound(self) -> None:
        """To be called by whoever has this application served on the address that its settings name.

        On a loopback address it then answers to that machine's names alone, and to those of ``--allow-host``.
        """
        self._guard.bound(self.site.config.server)

    def session(self, environ: Mapping[str, Any]) -> Session | None:
        """The session that a request comes with, if it brings no other credentials."""
        if self.sessions is None or "HTTP_COOKIE" not in environ or "HTTP_AUTHORIZATION" in environ:
            return None
        key = _SESSION + self.sessions.cookie  # another index may have other users
        if key not in environ:
            # Whatever the mapping is called, it is the request's own, and is asked for its user more than once.
            cast("dict[str, Any]", environ)[key] = self.sessions.of(environ["HTTP_COOKIE"])
        return cast("Session | None", environ[key])

    def check_form(self, session: Session | None, token: str | None) -> None:
        """See that what a session has changed was asked for by a form of ours. Raises Denied."""
        if session is not None and not is_right(session, token):
            raise Denied("this form is not of your sign-in, so nothing was changed; open its page again and repeat it")

    def cookie_path(self) -> str:
        """Where all indexes of this server stand, as a cookie has it."""
        prefix = str(bottle.request.environ.get("SCRIPT_NAME", "")).removesuffix("/")
        prefix = prefix.removesuffix(f"/{self._place}"[:-1]).encode("latin-1", "replace").decode("utf-8", "replace")
        return quote(prefix, safe="/%") + (self._mounted() or "/")

    def admit(self, action: str, environ: Mapping[str, Any]) -> User | None:
        """Who asks, if they may do `action`. Raises Denied, TooMany or Busy."""
        session = self.session(environ)
        if session is not None:
            return self.site.gate.enter(User(name=session.user), action)
        return self.site.gate.check(action, environ.get("HTTP_AUTHORIZATION"), environ.get("REMOTE_ADDR", ""))

    def admit_again(self, action: str, environ: Mapping[str, Any]) -> User | None:
        """The same when the body is there, which may take hours: a token may have been revoked, or a user deleted."""
        if self.sessions is not None:
            cast("dict[str, Any]", environ).pop(_SESSION + self.sessions.cookie, None)
        return self.admit(action, environ)

    def known(self, environ: Mapping[str, Any]) -> User | None:
        """Who asks, whatever they may do; ``None`` if they do not say. Raises Denied, TooMany or Busy."""
        session = self.session(environ)
        if session is not None:
            return User(name=session.user)
        return self.site.gate.who(environ.get("HTTP_AUTHORIZATION"), environ.get("REMOTE_ADDR", ""))

    def recall(self, environ: Mapping[str, Any]) -> User | None:
        """Who asks, if that is known without verifying a password: by a session, or a login that was right before."""
        session = self.session(environ)
        return self.site.gate.recall(environ.get("HTTP_AUTHORIZATION")) if session is None else User(name=session.user)

    def may(self, user: User | None, action: str, project: NormalizedName) -> bool:
        """Whether `allow` would let a user do that; no, while that is for owners and nobody can tell who they are."""
        try:
            self.allow(user, action, project)
        except (Denied, Missing, Unavailable):
            return False
        return True

    def by(self, user: User | None, environ: Mapping[str, Any]) -> Event:
        """Who changes something here (``None``: somebody who did not log in), for the audit trail."""
        return Event(
            action="update",
            who="" if user is None else user.shown,
            token="" if user is None or user.token is None else user.token.name,
            address=environ.get("REMOTE_ADDR", ""),
            client=environ.get("HTTP_USER_AGENT", ""),
            index=self.site.name,
        )

    def allow(self, user: User | None, action: str, project: NormalizedName) -> Decision:
        """What lets `user`, whom `admit` let in, do an action of rules with a project. Raises Denied or Missing.

        The actions are ``list download upload yank remove push``. Every route that is about a project asks this, but
        for those that show an index of which they see what they may list alone.
        """
        return self.site.gate.allow(user, action, project)

    def before_body(self, action: str, environ: Mapping[str, Any]) -> str:
        """The right that is asked for before the body of a request for `action` is read.

        What a push changes is another index: of a short form, which leaves nothing on the disk, `change` asks for the
        right to what it turns out to want.
        """
        length = changes.content_length(environ)
        kind = environ.get("CONTENT_TYPE", "").split(";")[0].strip().lower()
        short = length is not None and length <= forms.MOST and kind == "application/x-www-form-urlencoded"
        return "form" if action == "update" and short and self.front is not None else action

    def refusal(self, error: PypiServerLiteError) -> answers.Answer:
        """The answer that says what is wrong and what to do; our own failures go to the log, if no answer does."""
        environ = bottle.request.environ
        environ["pypiserver_lite.error"] = str(error)
        # Wrong logins are told by the gate, and no login at all is how most clients begin.
        if isinstance(error, Unseen) or (isinstance(error, Denied) and not error.challenge):
            by = self.by(self.recall(environ), environ)
            action = error.action or environ.get(ACTION) or by.action
            self.site.records.trail.refused(replace(by, action=action, project=error.project, reason=str(error)))
        answer = answers.refusal(error)
        if answer.status.startswith("5") and not environ.get(_NOTED):
            log.error("%s %s: %s", answer.status[:3], observe.clean(_whole_path()), observe.clean(error))
        return answer

    def _refuse_script(self, error: PypiServerLiteError) -> answers.Answer:
        """The refusal of what may be a script of ours: the challenge would open the browser's own dialog."""
        if isinstance(error, Denied) and error.challenge and "HTTP_X_CSRF_TOKEN" in bottle.request.environ:
            error = Denied("your sign-in is over; sign in again, and then repeat this")
        return self.refusal(error)

    def _refuse(self, error: PypiServerLiteError, *, people: bool) -> answers.Answer:
        environ = bottle.request.environ
        refusal = self._refuse_script(error)
        looks = people and answers.prefers_html(environ.get("HTTP_ACCEPT", ""))
        leads = (looks or walks(environ)) and self.sessions and "HTTP_AUTHORIZATION" not in environ
        if leads and refusal.status.startswith("401"):
            # The page of a form has the form's address, so it is there again afterwards.
            query = environ.get("QUERY_STRING", "")
            onward = quote(self._path()[1:], safe="/") + (f"?{query}" if query else "")
            return answers.see_other(self._root() + sign_in_link(onward))
        if looks:
            return self.human.refusal(refusal, str(error), self._path(), self.viewer(environ))
        return refusal

    def viewer(self, environ: Mapping[str, Any]) -> Viewer | None:
        """Whom a page is for, if they signed in."""
        session = self.session(environ)
        if session is None:
            return None
        admin = self.site.gate.book.reaches(User(name=session.user), "admin")
        return Viewer(name=session.user, csrf=session.form_token, admin=admin)

    def _refusing(self, callback: Callable[..., object]) -> Callable[..., object]:
        """A plug-in of Bottle's: what a route that others add raises of ours is answered as in a route of ours."""

        @wraps(callback)
        def answer(*args: object, **arguments: object) -> object:
            environ = bottle.request.environ
            try:
                if environ["REQUEST_METHOD"] not in ("GET", "HEAD") and self.session(environ) is not None:
                    refuse_foreign(environ)  # the cookie comes with what another port of this host asks for too
                return callback(*args, **arguments)
            except PypiServerLiteError as error:
                refusal = self._refuse(error, people=True)
                return bottle.HTTPResponse(refusal.body, refusal.status, refusal.headers)

        return answer

    def default_error_handler(self, res: bottle.HTTPError) -> bytes:
        """Bottle's own errors (no such route, wrong method, a bug) as short plain text."""
        if res.exception is not None:
            log.error("%s %s failed", bottle.request.method, observe.clean(_whole_path()), exc_info=res.exception)
        texts = {
            404: "nothing here",
            405: "this address does not take that method",
            500: "a fault of ours; see the log",
        }
        text = texts.get(res.status_code, "the request cannot be answered")
        route = bottle.request.environ.get("bottle.route")
        if res.exception is None and res.body and isinstance(res.body, str) and getattr(route, "app", None) is self:
            # A route's own words: Bottle has some of its own only where there is none.
            text = res.body
        bottle.request.environ["pypiserver_lite.error"] = text
        answer = answers.text(text)
        if self._path().startswith(API):
            answer = answers.refusal_as_json(answer)
        elif answers.prefers_html(bottle.request.environ.get("HTTP_ACCEPT", "")):
            answer = answers.Answer(status=res.status_line, headers=answer.headers)
            answer = self.human.refusal(answer, text, self._path(), self.viewer(bottle.request.environ))
        for name, value in answer.headers:
            bottle.response.headers[name] = value
        return cast("bytes", answer.body)

    def refuse_early(self, environ: dict[str, Any]) -> tuple[str, answers.Headers, bytes] | None:
        """The refusal of a request with a body, decided from its headers alone; ``None`` lets it come.

        Servers that can ask before they read the body do (see `servers`).
        """
        self._enter(environ)
        environ["bottle.app"] = self
        bottle.request.bind(environ)
        path = environ.get("PATH_INFO")
        try:
            length = changes.content_length(environ)
            if environ["REQUEST_METHOD"] == "POST" and path in (*UPLOAD_PATHS, UPLOAD_PAGE):
                self._guard.check("update", environ)
                with sent_by(environ.get("HTTP_USER_AGENT", "")):
                    self.admit("upload" if path == UPLOAD_PAGE else self.before_body("update", environ), environ)
                limit = self.site.settings.max_upload
                if limit is not None and length is not None and length > limit:
                    raise TooLarge(f"this index takes at most {limit} bytes at once (--max-upload)")
            elif length is None or length > forms.MOST:
                # Chunks have no length: whoever may send nothing here could fill the disk where bodies wait.
                raise TooLarge(f"only an upload to this index's / may have more than {forms.MOST} bytes, or no length")
        except PypiServerLiteError as error:
            environ[_NOTED] = observe.access.isEnabledFor(logging.INFO)
            answer = self._refuse(error, people=path == UPLOAD_PAGE)
            if environ[_NOTED]:
                values = observe.request_values(environ, environ.get(ASKED))
                observe.note(
                    self.site.config.server, values, answer.status, answer.headers, str(error), time.monotonic()
                )
            return answer.status, answer.headers, cast("bytes", answer.body)
        return None

    def _address(self) -> str:
        """This index's address as the client sees it."""
        base = self.site.config.server.server_base_url
        if not base.startswith("/"):
            return base + self._place
        return templates.own_address(bottle.request.environ) + self._mounted().removeprefix("/")

    def _mounted(self) -> str:
        """Where this index is mounted in the Bottle that was asked, with a last slash; SCRIPT_NAME does not tell.

        Nothing for a request that came here by itself: an application may stand in several places.
        """
        prefix, app, asked = "", self.itself, bottle.request.environ["bottle.app"]
        while app is not asked and "_mount.app" in app.config:
            prefix = app.config["_mount.prefix"].removesuffix("/") + prefix
            app = app.config["_mount.app"]
        return f"{prefix}/" if prefix else ""

    def _path(self) -> str:
        """The path asked for, from the root of the index on."""
        return "/" + str(bottle.request.path).removeprefix(self._mounted()).lstrip("/")

    def _root(self) -> str:
        """From the page asked for up to the root of the index."""
        return "../" * (self._path().count("/") - 1)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        return self.wsgi(environ, start_response)

    def wsgi(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request; Bottle's own name for it."""
        if observe.access.isEnabledFor(logging.INFO):
            start_response = self._logged(environ, start_response)
        self._enter(environ)
        if "HTTP_AUTHORIZATION" not in environ:  # so there is no wrong login to tell of
            return self.respond(environ, start_response)
        with sent_by(environ.get("HTTP_USER_AGENT", "")):
            return self.respond(environ, start_response)

    def _enter(self, environ: WSGIEnvironment) -> None:
        """Move the path of --server-base-url from the request's path to where the application stands."""
        if environ.get("PATH_INFO") == "/" and not environ.get("bottle.raw_path", "/").endswith("/"):
            environ["PATH_INFO"] = ""  # a Bottle that we are mounted in made a slash where none was asked
        stand_under(environ, self._base_path)

    def _logged(self, environ: WSGIEnvironment, start_response: StartResponse) -> StartResponse:
        """Log the request; what is returned logs the answer as it starts."""
        values = observe.request_values(environ, environ.get(ASKED))
        environ[_NOTED] = True
        observe.access.info("%s", observe.fill(self.site.config.server.log_req_frmt, values))
        began = time.monotonic()

        def note(status: str, headers: answers.Headers, exc_info: Any = None) -> Callable[[bytes], object]:
            observe.note(
                self.site.config.server, values, status, headers, environ.get("pypiserver_lite.error", "-"), began
            )
            return start_response(status, headers, exc_info)

        return cast("StartResponse", note)

    def close(self) -> None:
        """Stop background work and close what is open."""
        super().close()
        self.site.close()


def _whole_path() -> str:
    """The path of the request in hand, as it was asked for."""
    path: str = bottle.request.environ.get(ASKED) or bottle.request.path
    return path
