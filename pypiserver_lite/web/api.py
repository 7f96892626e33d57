"""What the pages of administration show and do, for programs: JSON, described in ``/-/api/openapi.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import bottle

from ..config.indexes import ROOT
from ..config.values import RIGHTS
from ..errors import Invalid
from . import answers, forms, openapi
from .acts import ACTS
from .admin import Administration
from .token_desk import as_json
from .trails import Filters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..model import File

_MOST = 1000  # events in one answer


class Api(Administration):
    """An index that programs administer. Whoever derives from it sets what `People` names."""

    def api_document(self) -> answers.Answer:
        """What there is under ``/-/api/``, in the words of OpenAPI."""
        cookie = "" if self.sessions is None else self.sessions.cookie
        body = json.dumps(openapi.document(root=self.site.name == ROOT, cookie=cookie), indent=1).encode()
        return answers.Page(body, "application/json", cache_control="no-cache", vary="Accept-Encoding").answer(
            bottle.request.environ
        )

    def api_me(self) -> answers.Answer:
        """Who asks, and what they may here with one project at least."""
        user, book = self.known(bottle.request.environ), self.site.gate.book
        return _json(
            {
                "user": None if user is None else user.shown,
                "token": None if user is None or user.token is None else user.token.name,
                "may": [action for action in RIGHTS if book.reaches(user, action)],
            }
        )

    def api_overview(self) -> answers.Answer:
        """How the index is; at the root, the server."""
        return _json(self.glances.look(self.scope()).as_json())

    def api_audit(self) -> answers.Answer:
        """Events of the audit trail, the newest first, by filters."""
        query = bottle.request.query
        given = {key: query.getunicode(key, "") for key in query}
        limit = given.get("limit", "100")
        if not re.fullmatch("[0-9]{1,4}", limit, re.ASCII) or not 1 <= int(limit) <= _MOST:
            raise Invalid(f"limit: a number from 1 to {_MOST} is expected")
        events = self.trail_events(Filters.of(given), int(limit) + 1)
        more = len(events) > int(limit)
        shown = events[: int(limit)]
        return _json({"events": [event.as_json() for event in shown], "next": shown[-1].id if more else None})

    def api_names(self) -> answers.Answer:
        """The names that are this index's own without having files any more."""
        return _json({"names": list(self.site.kept())})

    def api_release(self, name: str) -> answers.Answer:
        """Let a name be looked for upstream again."""
        self._taken(())
        kept = self.kept_name(name)
        return _json({"said": self.release_kept(kept)})

    def api_owners(self, name: str) -> answers.Answer:
        """Who owns a project in this index."""
        self.person()
        project = self._name(name)
        owners, inherits = self.owners_of(project)
        return _json({"name": project, "owners": owners, "inherits": inherits})

    def api_add_owner(self, name: str, user: str) -> answers.Answer:
        """Have somebody own a project too."""
        self.person()
        project = self._name(name)
        self._taken(())
        self.change_owner(project, user, owns=True)
        return _json({"said": f"from now on {user} owns {project}"})

    def api_remove_owner(self, name: str, user: str) -> answers.Answer:
        """Have somebody own a project no more."""
        self.person()
        project = self._name(name)
        self._taken(())
        self.change_owner(project, user, owns=False)
        return _json({"said": f"from now on {user} does not own {project}"})

    def api_release_page(self, name: str, version: str) -> answers.Answer:
        """The files of a release that this index itself has, and what whoever asks may do to it."""
        project = self._name(name)
        user = self.recall(bottle.request.environ)
        self.see_own(user, "list", project)
        self.allow(user, "list", project)
        files = self.own_files(project, version)
        return _json({"name": project, "version": files[0].version, "files": list(map(_file, files))})

    def api_act(self, name: str, version: str, act: str) -> answers.Answer:
        """Yank, un-yank, push or remove a release."""
        known, files = self.asked_for(act, name, version)
        said = self._taken(ACTS[act].fields)
        done = self.act_on(known, files, said)
        return _json({"said": done, "files": [file.filename for file in files]})

    def api_users(self) -> answers.Answer:
        """Who can log in, and what they may."""
        self.person()
        return _json({"users": [known.as_json() for known in self.user_desk.all()]})

    def api_set_password(self, user: str) -> answers.Answer:
        """Give a user another password, or make one."""
        self.person()
        said = self._taken(("password",))
        if "password" not in said:
            raise Invalid("password: missing")
        new = self.user_desk.set_password(user, said["password"], self.doing("password"))
        return _json({"said": f"{user} can log in now" if new else f"{user} has another password now"})

    def api_delete_user(self, user: str) -> answers.Answer:
        """Have a user log in no more."""
        self.person()
        self._taken(())
        self.user_desk.delete(user, self.doing("user-delete"))
        return _json({"said": f"{user} cannot log in any more"})

    def api_tokens(self) -> answers.Answer:
        """The tokens of whoever asks; with ``?all=1``, for admins at the root, those of everybody."""
        user, wanted = self.person(), bottle.request.query.getunicode("all", "0")
        if wanted not in ("0", "1"):
            raise Invalid("all: 0 or 1 is expected")
        if wanted == "1":
            self.check_sees_all(user)
        return _json({"tokens": [as_json(token) for token in self.token_desk.seen(user, all=wanted == "1")]})

    def api_create_token(self) -> answers.Answer:
        """Make a token; its secret is in this answer alone."""
        user = self.person()
        said = forms.read_json(bottle.request.environ)
        _check_known(said, ("name", "user", "may", "indexes", "projects", "expires"))
        if not isinstance(said.get("name"), str):
            raise Invalid("name: a text is expected")
        wanted = self.token_desk.wanted(said, user, admin=self.sees_all(user))
        token, secret = self.token_desk.create(wanted, self.doing("token-create"))
        answer = _json({**as_json(token), "secret": secret})
        return answers.Answer(status="201 Created", headers=answer.headers, body=answer.body)

    def api_revoke_token(self, number: str) -> answers.Answer:
        """End a token."""
        self._taken(())
        token = self.asked_token(number)
        self.token_desk.revoke(token, self.doing("token-revoke"))
        return _json({"said": f"the token {token.name} is refused from now on"})

    def _taken(self, names: Sequence[str]) -> Mapping[str, str]:
        """The texts of the body's object, which has these fields at most. Raises Invalid."""
        said = forms.read_json(bottle.request.environ)
        _check_known(said, names)
        for name, value in said.items():
            if not isinstance(value, str):
                raise Invalid(f"{name}: a text is expected")
        return said


def _check_known(said: Mapping[str, Any], names: Sequence[str]) -> None:
    odd = next((name for name in said if name not in names), None)
    if odd is not None:
        raise Invalid(f"there is no field {odd[:60]!a} here; there is {', '.join(names) or 'none'}")


def _json(value: object) -> answers.Answer:
    """An answer that nobody keeps: it is for who asked, at this moment."""
    answer = answers.as_json(value)
    headers = [header for header in answer.headers if header[0] != "Cache-Control"]
    return answers.Answer(status=answer.status, headers=[*headers, ("Cache-Control", "no-store")], body=answer.body)


def _file(file: File) -> dict[str, object]:
    return {
        "filename": file.filename,
        "size": file.size,
        "hashes": dict(file.hashes),
        "uploaded": None if file.uploaded is None else file.uploaded.isoformat(),
        "yanked": file.yanked,
    }
