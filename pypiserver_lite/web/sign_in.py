"""The page on which people sign in, and the end of it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import bottle

from .. import observe
from ..errors import Denied, Invalid, Missing, TooMany, Unavailable
from ..records import sent_by
from . import answers, forms
from .people import People
from .sessions import LASTS, Sessions
from .viewers import LONGEST_NEXT

if TYPE_CHECKING:
    from collections.abc import Mapping

# From the index's root on, and never out of it: no address of another host, no way up.
_OURS = re.compile(r"(?!/)(?![^?]*%2e)(?!(?:[^?]*/)?\.\.?(?:[/?#]|\Z))[!-\[\]-~]*", re.ASCII | re.IGNORECASE)


class SignIn(People):
    """An index that people sign in to, and out of. Whoever derives from it sets what `People` names."""

    def sign_in_page(self) -> answers.Answer:
        """The page; on to ``?next=`` for who is signed in already."""
        self._check_sessions()
        environ = bottle.request.environ
        onward = _onward(bottle.request.query.getunicode("next", ""))
        if self.session(environ) is not None:
            return answers.see_other("../" + onward)
        page = self.once("sign-in", {"onward": onward, "user_name": ""})
        if bottle.request.query.get("again") or not _comes_from_elsewhere(environ):
            return page
        # A link from another site comes without the cookie (SameSite=Strict); a page of ours that asks brings it.
        again = f"0; url=sign-in?{urlencode({'again': '1', 'next': onward})}"
        return replace(page, headers=[*page.headers, ("Refresh", again)])

    def sign_in(self) -> answers.Answer:
        """Take a name and a password, and hand out the cookie."""
        sessions, environ = self._check_sessions(), bottle.request.environ
        form = forms.read(environ)
        onward, user = _onward(form.get("next", "")), form.get("user", "").strip()
        try:
            self._verify(user, form.get("password", ""), environ)
            value = sessions.begin(user)
        except (Denied, TooMany, Invalid) as error:
            return self.once("sign-in", {"onward": onward, "user_name": observe.veiled(user)}, error)
        return self._set_cookie(onward, f"{value}; Max-Age={LASTS}")

    def sign_out(self) -> answers.Answer:
        """End the session, for whoever has a copy of its cookie too."""
        self._check_sessions()
        session = self.session(bottle.request.environ)
        answer = self._set_cookie(_onward(self.sent_form().get("next", "")), "; Max-Age=0")
        if session is None:
            return answer
        try:
            self.site.records.sign_outs.add(session.number, session.user, session.since + LASTS)
        except Unavailable as error:
            self.site.log.error("a session of %s ended in their browser alone: %s", observe.clean(session.user), error)
            said = (
                "this browser is signed out, but a copy of its cookie may hold for 12 hours, or until the next password"
            )
            bottle.request.environ.pop("HTTP_COOKIE")
            page = self.once("done", {"title": "Sign out", "said": f"{said}: {error}", "onward": []})
            forgets = [header for header in answer.headers if header[0] == "Set-Cookie"]
            return replace(page, headers=[*page.headers, *forgets])
        return answer

    def _check_sessions(self) -> Sessions:
        if self.sessions is None:
            raise Missing("nobody can sign in here: the operator of this index has named no password file (-P FILE)")
        return self.sessions

    def _verify(self, user: str, password: str, environ: Mapping[str, Any]) -> None:
        """Raise Denied, TooMany, Busy or Invalid unless that is the user's password."""
        if not user or ":" in user:
            raise Invalid("a user name and a password are needed")
        with sent_by(environ.get("HTTP_USER_AGENT", "")):
            self.site.gate.login(user, password, environ.get("REMOTE_ADDR", ""))

    def _set_cookie(self, onward: str, value: str) -> answers.Answer:
        assert self.sessions is not None  # or nobody would have come so far
        base = self.site.config.server.server_base_url
        secure = bottle.request.environ.get("wsgi.url_scheme") == "https" or base.startswith("https:")
        attributes = f"Path={self.cookie_path()}; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")
        return answers.see_other("../" + onward, ("Set-Cookie", f"{self.sessions.cookie}={value}; {attributes}"))


def _comes_from_elsewhere(environ: Mapping[str, Any]) -> bool:
    """Whether a link of another site led here, by the browser's word; where there is no TLS, by where it was before."""
    site, before = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("HTTP_REFERER", "")
    if site is not None:
        return site in ("cross-site", "same-site")
    place = re.match(r"https?://([^/?#]+)", before)
    return place is not None and place[1] != environ.get("HTTP_HOST")


def _onward(address: str) -> str:
    """An address below this index's root, as it was given if it is one; else the root itself."""
    return address if len(address) <= LONGEST_NEXT and _OURS.fullmatch(address) else ""
