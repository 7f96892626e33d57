"""The pages of those who administer an index, and those on which everybody who signed in sees to their own tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import bottle

from ..config.indexes import ROOT
from ..config.values import RIGHTS, shown_size
from ..errors import Conflict, Denied, Invalid, Missing, PypiServerLiteError, Unavailable
from ..jobs.owning import add_owner, remove_owner
from ..records import ACTIONS, OUTCOMES, Event
from . import answers
from .overviews import Glances, bars, moment_of
from .token_desk import TokenDesk
from .trails import Filters
from .uploads import Uploads
from .user_desk import UserDesk
from .viewers import Field

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from ..model import User
    from ..records import Token
    from ..site import Site

EVENTS = 50
"""Events of the trail on one page."""
CHART = (600, 120)
"""The size of the chart of downloads, in its own units."""
_WRONG = (Invalid, Missing, Conflict, Denied, Unavailable)


class Administration(Uploads):
    """An index that is administered over HTTP. Whoever derives from it sets what `People` names."""

    def set_up_desks(self) -> None:
        """To be called once `site` and `front` are there."""
        self.glances = Glances(self.site)

        def sites() -> Mapping[str, Site]:
            return {self.site.name: self.site} if self.front is None else self.front.sites

        self.token_desk = TokenDesk(self.site, sites)
        self.user_desk = UserDesk(self.site, sites)

    def admin_page(self) -> answers.Answer:
        """The overview: of the server at the root, else of this index."""
        look = self.glances.look(self.scope())
        return self._admin_page(
            "admin",
            {
                "look": look,
                "bars": bars(look.per_day, *CHART),
                "chart": CHART,
                "size": shown_size,
                "moment": moment_of,
                "others": self._others(),
            },
        )

    def scope(self) -> str | None:
        """The index that the trail and the counts are limited to; ``None`` at the root, which sees all."""
        return None if self.site.name == ROOT else self.site.name

    def trail_page(self) -> answers.Answer:
        """The audit trail, the newest first, by filters."""
        query = {key: bottle.request.query.getunicode(key, "") for key in bottle.request.query}
        filters, events = Filters.as_written(query), list[Event]()
        wrong: PypiServerLiteError | None = None
        try:
            filters = Filters.of(query)
            events = list(self.trail_events(filters, EVENTS + 1))
        except (Invalid, Unavailable) as error:
            wrong = error
        more = filters.query(events[EVENTS - 1].id) if len(events) > EVENTS else ""
        variables = {
            "events": events[:EVENTS],
            "filters": filters,
            "actions": ACTIONS,
            "outcomes": OUTCOMES,
            "indexes": self._indexes(),
            "more": more,
        }
        return self._admin_page("admin-trail", variables, wrong)

    def trail_events(self, filters: Filters, limit: int) -> Sequence[Event]:
        """The events of the trail that whoever administers this index may see. Raises Invalid, Unavailable."""
        asked = filters.asked()
        if self.scope() is not None:
            asked["index"] = self.scope()
        return self.site.records.trail.find(**asked, limit=limit)  # type: ignore[arg-type]  # by their names

    def names_page(self) -> answers.Answer:
        """The names that are this index's own without having files any more."""
        wrong: PypiServerLiteError | None = None
        names: Sequence[str] = ()
        try:
            names = self.site.kept()
        except Unavailable as error:
            wrong = error
        return self._admin_page("admin-names", {"names": names}, wrong)

    def release_page(self, name: str) -> answers.Answer:
        """What it means to let a name be looked for upstream, and a button."""
        return self._release_page(self.kept_name(name))

    def release_name(self, name: str) -> answers.Answer:
        """Let a name be looked for upstream."""
        kept = self.kept_name(name)
        self.sent_form()
        try:
            said = self.release_kept(kept)
        except _WRONG as error:
            return self._release_page(kept, error)
        return self._done(f"Release {kept}", said, "admin/names", "Back to the names")

    def release_kept(self, name: str) -> str:
        """Do so, on record; whether upstreams are asked now, for people. Raises Missing, Conflict, Unavailable."""
        normalized = self._name(name)
        with self.site.records.trail.change(self.doing("release", project=normalized)):
            self.site.release(normalized)
        unasked = self._unasked(normalized)
        if unasked is None:
            return f"from now on {name} is looked for upstream"
        return f"{name} is released, but still no upstream is asked for it: {unasked}"

    def _unasked(self, name: NormalizedName) -> str | None:
        """Why no upstream is asked for a name that this index has no files of; ``None`` if one is."""
        index = self.site.index
        try:
            based = not index.merges(name) and index.local(name) is not None
        except Unavailable as error:
            return str(error)
        if based:
            return "an index that this one is based on has it"
        if reason := index.reserves(name):
            theirs = any(base.reserves(name) == reason for base in index.bases)
            return f"in an index that this one is based on, {reason}" if theirs else reason
        return None if any(way.serves(name) for way in index.all_ways()) else "this index has no upstream for it"

    def kept_name(self, name: str) -> str:
        """A name that is kept without files, as it is normalized. Raises Missing, Unavailable."""
        normalized = self._name(name)
        if normalized not in self.site.kept():
            raise Missing(f"{normalized} is not kept here: it has files, never had any, or was released already")
        return normalized

    def _release_page(self, name: str, wrong: PypiServerLiteError | None = None) -> answers.Answer:
        means = [
            f"This index had files of {name} once, which keeps it from being looked for upstream, unless the settings "
            "merge it. From now on that is no reason any more. If there is no other one, whoever installs it here may "
            "get what somebody else has published under that name."
        ]
        variables = {"title": f"Release {name}", "means": means, "things": [], "fields": [], "button": "Release"}
        return self.once("confirm", {**variables, "final": True, "back": f"{self._root()}-/admin/names"}, wrong)

    def owners_page(self, name: str) -> answers.Answer:
        """Who owns a project in this index."""
        self.person()
        project = self._name(name)
        wrong: PypiServerLiteError | None = None
        owners, inherits = list[str](), False
        try:
            owners, inherits = self.owners_of(project)
        except Unavailable as error:
            wrong = error
        return self._admin_page("admin-owners", {"name": project, "owners": owners, "inherits": inherits}, wrong)

    def owners_of(self, project: NormalizedName) -> tuple[list[str], bool]:
        """Those owners, sorted; and whether owners in an index that this one is based on count in their place.

        Raises Unavailable.
        """
        count = self.site.gate.owners(project) or frozenset()
        here = sorted(count & self.site.records.owners.of(self.site.name, project, lapsed=True))
        return here, bool(count) and not here

    def add_owner_page(self, name: str) -> answers.Answer:
        """What it means to own a project, and a form for who is to own it too."""
        self.person()
        return self._add_owner_page(self._name(name))

    def add_owner(self, name: str) -> answers.Answer:
        """Have somebody else own a project too."""
        self.person()
        project, form = self._name(name), self.sent_form()
        user = form.get("user", "").strip()
        try:
            self.change_owner(project, user, owns=True)
        except _WRONG as error:
            return self._add_owner_page(project, user, error)
        return self._owner_changed(f"Add an owner of {project}", f"from now on {user} owns {project}", project)

    def remove_owner_page(self, name: str) -> answers.Answer:
        """What it means that ``?user=`` owns a project no more, and a button."""
        self.person()
        return self._remove_owner_page(self._name(name), self._asked_owner(name))

    def remove_owner(self, name: str) -> answers.Answer:
        """Have somebody own a project no more."""
        self.person()
        project, user = self._name(name), self._asked_owner(name)
        self.sent_form()
        try:
            self.change_owner(project, user, owns=False)
        except _WRONG as error:
            return self._remove_owner_page(project, user, error)
        return self._owner_changed(
            f"Remove {user} from {project}", f"from now on {user} does not own {project}", project
        )

    def change_owner(self, project: NormalizedName, user: str, *, owns: bool) -> None:
        """Have somebody own a project, or not, on record. Raises Missing, Unavailable."""
        event = self.doing("owner", project=project)
        if owns:
            add_owner(self.site.records, event, user, self.site.gate.passwords)
        else:
            remove_owner(self.site.records, event, user)

    def _asked_owner(self, name: str) -> str:
        user = str(bottle.request.query.getunicode("user", ""))
        if user not in self.owners_of(self._name(name))[0]:
            raise Missing(f"{user[:60]!a} does not own {self._name(name)} here")
        return user

    def _add_owner_page(
        self, project: NormalizedName, user: str = "", wrong: PypiServerLiteError | None = None
    ) -> answers.Answer:
        means = [
            f"Whom you add may do with {project} in this index what rules let an owner do, from the next request on, "
            "and so may their tokens."
        ]
        owners, inherits = self.owners_of(project)
        if owners:
            means.append("Who owns it already stays an owner.")
        elif inherits:
            means.append("Who owns it in an index that this one is based on does not count as an owner here any more.")
        else:
            means.append("Nobody owns it until now. From then on nobody else comes to own it by publishing it first.")
        fields = [Field(name="user", label="User name", value=user, needed=True)]
        variables = {"title": f"Add an owner of {project}", "means": means, "fields": fields, "button": "Add the owner"}
        return self._confirm_owner(project, variables, wrong)

    def _remove_owner_page(
        self, project: NormalizedName, user: str, wrong: PypiServerLiteError | None = None
    ) -> answers.Answer:
        means = [
            f"{user} may not do with {project} in this index any more what only rules for its owner let them do, from "
            "the next request on. What they published stays."
        ]
        if self.owners_of(project)[0] == [user]:
            if self.site.settings.bases:
                means.append(
                    "If somebody owns it in an index that this one is based on, they count as its owners then."
                )
            means.append(
                "Nobody else owns it here. If it has or had files here, nobody comes to own it by publishing; if it "
                "never had any, whoever publishes it first does."
            )
        variables = {
            "title": f"Remove {user} from {project}",
            "means": means,
            "fields": [],
            "button": "Remove the owner",
        }
        return self._confirm_owner(project, variables, wrong)

    def _confirm_owner(
        self, project: str, variables: Mapping[str, object], wrong: PypiServerLiteError | None
    ) -> answers.Answer:
        back = f"{self._root()}-/admin/owners/{project}"
        return self.once("confirm", {**variables, "things": [], "final": False, "back": back}, wrong)

    def _owner_changed(self, title: str, said: str, project: str) -> answers.Answer:
        return self._done(title, said, f"admin/owners/{project}", "Back to the owners")

    def users_page(self) -> answers.Answer:
        """Who can log in, and what they may."""
        self.person()
        return self._admin_page("admin-users", {"known": self.user_desk.all()})

    def password_page(self) -> answers.Answer:
        """A form for the password of ``?user=``, or of a new user."""
        return self._password_page(bottle.request.query.getunicode("user", ""))

    def set_password(self) -> answers.Answer:
        """Give a user another password, or make one."""
        self.person()
        user, form = bottle.request.query.getunicode("user", ""), self.sent_form()
        name = user or form.get("user", "").strip()
        try:
            if form.get("password") != form.get("again"):
                raise Invalid("the two passwords are not the same")
            new = self.user_desk.set_password(name, form.get("password", ""), self.doing("password"), new=not user)
        except _WRONG as error:
            return self._password_page(user, form, error)
        said = f"the user {name} " + ("can log in now" if new else "has another password now")
        return self._done("New user" if new else f"Password of {name}", said, "admin/users", "Back to the users")

    def _password_page(
        self, user: str, form: Mapping[str, str] = {}, wrong: PypiServerLiteError | None = None
    ) -> answers.Answer:
        if user:
            means = [
                f"{user} is signed out everywhere, and programs that use the old password are refused. "
                f"Tokens of {user} stay as they are."
            ]
        else:
            means = ["A line is added to the password file. What users may do is said by rules, or by -a."]
        fields = [
            Field(
                name="user",
                label="User name",
                value=user or form.get("user", ""),
                needed=True,
                fixed=bool(user),
                fills="username",  # so that browsers know whose password they may keep
            ),
            Field(name="password", label="Password", kind="password", needed=True, fills="new-password"),
            Field(name="again", label="The same again", kind="password", needed=True, fills="new-password"),
        ]
        title, button = (f"Password of {user}", "Set the password") if user else ("New user", "Add the user")
        variables = {"title": title, "means": means, "things": [], "fields": fields, "button": button}
        return self.once("confirm", {**variables, "final": False, "back": f"{self._root()}-/admin/users"}, wrong)

    def delete_page(self) -> answers.Answer:
        """What it means to delete ``?user=``, and a button."""
        return self._delete_page(self._asked_user())

    def delete_user(self) -> answers.Answer:
        """Have a user log in no more."""
        user = self._asked_user()
        self.sent_form()
        try:
            self.user_desk.delete(user, self.doing("user-delete"))
        except _WRONG as error:
            return self._delete_page(user, error)
        return self._done(
            f"Delete {user}", f"the user {user} cannot log in any more", "admin/users", "Back to the users"
        )

    def _asked_user(self) -> str:
        self.person()
        user = str(bottle.request.query.getunicode("user", ""))
        if user not in (known.name for known in self.user_desk.all()):
            raise Missing(f"there is no user {user[:60]!a}")
        return user

    def _delete_page(self, user: str, wrong: PypiServerLiteError | None = None) -> answers.Answer:
        means = [
            f"The line of {user} is taken out of the password file: {user} is signed out everywhere and cannot log in "
            "any more. Their tokens end, for good. What they published stays, and stays theirs should there be a user "
            "of that name again."
        ]
        variables = {"title": f"Delete {user}", "means": means, "things": [], "fields": [], "button": "Delete"}
        return self.once("confirm", {**variables, "final": True, "back": f"{self._root()}-/admin/users"}, wrong)

    def tokens_page(self) -> answers.Answer:
        """The tokens of whoever signed in."""
        return self._tokens_page(all=False)

    def all_tokens_page(self) -> answers.Answer:
        """The tokens of everybody."""
        return self._tokens_page(all=True)

    def _tokens_page(self, *, all: bool) -> answers.Answer:
        wrong: PypiServerLiteError | None = None
        tokens: Sequence[Token] = ()
        try:
            tokens = self.token_desk.seen(self.person(), all=all)
        except Unavailable as error:
            wrong = error
        now = datetime.now(timezone.utc)
        variables = {"tokens": [(token, token.is_over(now)) for token in tokens], "all": all}
        return self._admin_page("tokens", variables, wrong)

    def new_token_page(self) -> answers.Answer:
        """A form for a new token."""
        return self._new_token_page({}, ())

    def create_token(self) -> answers.Answer:
        """Make a token; its secret is shown this once."""
        user, form = self.person(), dict(self.sent_form())
        may = [action for action in RIGHTS if form.get(f"may-{action}")]
        indexes = [name for name in self.token_desk.indexes() if form.get(f"index-{name}")]
        try:
            said = {**form, "may": may or None, "indexes": indexes or None}
            # As the form tells people: what they leave empty is of no user, and no limit.
            said |= {key: None for key in ("user", "projects", "expires") if not form.get(key, "none").strip()}
            wanted = self.token_desk.wanted(said, user, admin=self.sees_all(user))
            token, secret = self.token_desk.create(wanted, self.doing("token-create"))
        except _WRONG as error:
            return self._new_token_page(form, (*may, *indexes), error)
        return self.once("token", {"token": token, "secret": secret, "address": self._address()})

    def _new_token_page(
        self, form: Mapping[str, str], chosen: Sequence[str], wrong: PypiServerLiteError | None = None
    ) -> answers.Answer:
        user = self.person()
        indexes = self.token_desk.indexes()
        variables = {
            "form": form,
            "chosen": chosen,
            "rights": RIGHTS,
            "indexes": indexes if len(indexes) > 1 else [],
            "for_others": self.sees_all(user),
        }
        return self.once("token-new", variables, wrong)

    def revoke_page(self, number: str) -> answers.Answer:
        """What it means to revoke a token, and a button."""
        return self._revoke_page(self.asked_token(number))

    def revoke_token(self, number: str) -> answers.Answer:
        """End a token."""
        token = self.asked_token(number)
        self.sent_form()
        try:
            self.token_desk.revoke(token, self.doing("token-revoke"))
        except _WRONG as error:
            return self._revoke_page(token, error)
        return self._done(
            f"Revoke {token.name}", f"the token {token.name} is refused from now on", "tokens", "Back to the tokens"
        )

    def asked_token(self, number: str) -> Token:
        """A token by its number, if whoever asks may see to it. Raises Missing, Denied, Unavailable."""
        user = self.person()
        return self.token_desk.find(int(number), user, all=self.sees_all(user))

    def _revoke_page(self, token: Token, wrong: PypiServerLiteError | None = None) -> answers.Answer:
        used = f"last used on {token.used:%d %b %Y}" if token.used else "never used until now"
        means = [
            f"Programs that use this token are refused from now on: {token.name} of {token.user or 'no user'}, {used}."
        ]
        variables = {"title": f"Revoke {token.name}", "means": means, "things": [], "fields": [], "button": "Revoke"}
        return self.once("confirm", {**variables, "final": True, "back": f"{self._root()}-/tokens"}, wrong)

    def person(self) -> User:
        """Who asks, by a password or a session: what has to do with tokens, passwords and owners is for no token.

        Else whoever has stolen one could keep what it may when it is revoked.

        Raises Denied, TooMany, Busy.
        """
        user = self.known(bottle.request.environ)
        if user is None:
            raise Denied("a user name and password are needed here", challenge=self.site.gate.asks_passwords)
        if user.token is not None:
            raise Denied("a token may see to no tokens, users and owners; use your password")
        return user

    def sees_all(self, user: User) -> bool:
        """Whether somebody sees to the tokens and users of all."""
        return self.site.name == ROOT and self.site.gate.book.decide(user, "admin", None).allowed

    def check_sees_all(self, user: User) -> None:
        """Raise Denied unless somebody sees to the tokens and users of all."""
        if not self.sees_all(user):
            raise Denied("only an admin of the index at the root sees to the tokens of others")

    def doing(self, action: str, project: str = "") -> Event:
        """Who does something here, for the trail."""
        environ = bottle.request.environ
        return replace(self.by(self.known(environ), environ), action=action, project=project)

    def _done(self, title: str, said: str, onward: str, label: str) -> answers.Answer:
        return self.once("done", {"title": title, "said": said, "onward": [(label, f"{self._root()}-/{onward}")]})

    def _admin_page(
        self, template: str, variables: Mapping[str, object], wrong: PypiServerLiteError | None = None
    ) -> answers.Answer:
        here = self._path().removeprefix("/-/")
        return self.once(template, {"here": here, "is_root": self.site.name == ROOT, **variables}, wrong)

    def _indexes(self) -> Sequence[str]:
        return list(self.front.sites) if self.front is not None and self.site.name == ROOT else []

    def _others(self) -> Sequence[tuple[str, str]]:
        """The other indexes that whoever asks administers: names, and links from here."""
        if self.front is None:
            return ()
        environ, found = bottle.request.environ, []
        for name in self.front.sites:
            app = self.front.app(name)
            if name != self.site.name and app.site.gate.book.reaches(app.recall(environ), "admin"):
                up = self._root() + ("" if self.site.name == ROOT else "../" * (self.site.name.count("/") + 1))
                found.append((name, f"{up}{'' if name == ROOT else f'{name}/'}-/admin/"))
        return found
