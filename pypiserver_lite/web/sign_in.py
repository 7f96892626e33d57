"""The page on which people sign in, and the end of it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import bottle

from ..errors import Denied, Invalid, Missing, PypiServerLiteError, TooMany
from . import answers, forms
from .sessions import LASTS
from .viewers import LONGEST_NEXT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .people import People

# From the index's root on, and never out of it: no address of another host, no way up.
_OURS = re.compile(r"(?!/)(?![^?]*%2e)(?!(?:[^?]*/)?\.\.?(?:[/?#]|\Z))[!-\[\]-~]*", re.ASCII | re.IGNORECASE)


class SignIn:
    """The routes of signing in and out of the index of `app`."""

    def __init__(self, app: People) -> None:
        self._app = app

    def form(self) -> object:
        """The page; on to ``?next=`` for who is signed in already."""
        self._check_possible()
        environ = bottle.request.environ
        onward = _onward(bottle.request.query.getunicode("next", ""))
        if self._app.session(environ) is not None:
            return answers.see_other("../" + onward)
        # A link from another site comes without the cookie (SameSite=Strict); a page of ours that asks brings it.
        again = environ.get("HTTP_SEC_FETCH_SITE") in ("cross-site", "same-site")
        page = self._page(onward)
        return replace(page, headers=[*page.headers, ("Refresh", "0")]) if again else page

    def sign_in(self) -> object:
        """Take a name and a password, and hand out the cookie."""
        self._check_possible()
        environ = bottle.request.environ
        form = forms.read(environ)
        onward = _onward(form.get("next", ""))
        user = form.get("user", "").strip()
        try:
            self._verify(user, form.get("password", ""), environ)
        except (Denied, TooMany, Invalid) as error:
            return self._page(onward, user=user, wrong=error)
        sessions = self._app.sessions
        assert sessions is not None  # or signing in is not possible
        cookie = f"{sessions.cookie}={sessions.begin(user)}; Max-Age={LASTS}"
        return answers.see_other("../" + onward, ("Set-Cookie", cookie + self._attributes(environ)))

    def sign_out(self) -> object:
        """End the session in this browser."""
        self._check_possible()
        environ = bottle.request.environ
        session, form = self._app.session(environ), forms.read(environ)
        if session is not None:
            self._app.check_form(session, form.get(forms.TOKEN))
        assert self._app.sessions is not None
        cookie = f"{self._app.sessions.cookie}=; Max-Age=0"
        return answers.see_other(
            "../" + _onward(form.get("next", "")), ("Set-Cookie", cookie + self._attributes(environ))
        )

    def _check_possible(self) -> None:
        if self._app.sessions is None:
            raise Missing("nobody can sign in here: the operator of this index has named no password file (-P FILE)")

    def _verify(self, user: str, password: str, environ: Mapping[str, Any]) -> None:
        """Raise Denied, TooMany, Busy or Invalid unless that is the user's password."""
        if not user or ":" in user:
            raise Invalid("a user name and a password are needed")
        self._app.site.gate.login(user, password, environ.get("REMOTE_ADDR", ""))

    def _page(self, onward: str, *, user: str = "", wrong: PypiServerLiteError | None = None) -> answers.Answer:
        """The form: 200, or the status that says what was wrong, without the challenge that opens a dialog."""
        variables = {
            **self._app.human.common("../"),
            "onward": onward,
            "user_name": user,
            "wrong": "" if wrong is None else str(wrong),
        }
        page = self._app.human.page("sign-in", variables, control="no-store")
        answer = page.answer({**bottle.request.environ, "HTTP_IF_NONE_MATCH": None})
        if wrong is None:
            return answer
        refusal = self._app.refusal(wrong)
        status = "403 Forbidden" if refusal.status.startswith("401") else refusal.status
        more = [header for header in refusal.headers if header[0] == "Retry-After"]
        return answers.Answer(status=status, headers=[*answer.headers, *more], body=answer.body)

    def _attributes(self, environ: Mapping[str, Any]) -> str:
        base = self._app.site.config.server.server_base_url
        secure = environ.get("wsgi.url_scheme") == "https" or base.startswith("https:")
        return f"; Path={self._app.cookie_path()}; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")


def _onward(address: str) -> str:
    """An address below this index's root, as it was given if it is one; else the root itself."""
    return address if len(address) <= LONGEST_NEXT and _OURS.fullmatch(address) else ""
