"""What is done to a release from its page: each act has a page that names what will happen, and then does it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import bottle

from ..dists import same_version
from ..errors import Conflict, Invalid, Missing, PypiServerLiteError, Unavailable, Unseen
from ..model import File, Project, User
from ..upload import Received
from . import answers
from .people import segment
from .sign_in import SignIn
from .viewers import Field

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from .entry import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Something that is done to a release."""

    name: str
    """As addresses and rights have it."""
    action: str
    """As the upload API calls it."""
    right: str
    """Of rules, that is needed for it here."""
    button: str
    means: str
    """What will happen, for people."""
    fields: Sequence[str] = ()
    """Of the upload API, besides name and version."""
    final: bool = False
    """Whether it cannot be undone."""


ACTS: Mapping[str, Act] = {
    act.name: act
    for act in (
        Act(
            name="yank",
            action="yank",
            right="yank",
            button="Yank",
            means="Installers pass this release over, unless exactly this version is asked for. Its files stay here. "
            "It can be undone.",
            fields=("reason",),
        ),
        Act(
            name="unyank",
            action="unyank",
            right="yank",
            button="Un-yank",
            means="Installers take this release again, as any other.",
        ),
        Act(
            name="push",
            action="push",
            right="download",
            button="Push",
            means="The very same files are published in the other index too. Here, everything stays as it is.",
            fields=("to",),
        ),
        Act(
            name="remove",
            action="remove_pkg",
            right="remove",
            button="Remove",
            means="These files are deleted, with what belongs to them. It cannot be undone.",
            final=True,
        ),
    )
}


class Acts(SignIn):
    """An index whose releases are changed from their pages. Whoever derives from it sets what `People` names."""

    @abstractmethod
    def carry_out(self, received: Received, environ: Mapping[str, Any]) -> str:
        """Do what somebody asks for who passed the way in; a short text that says what was done."""

    def act_page(self, act: str, name: str, version: str) -> answers.Answer:
        """What will happen to a release, and a button."""
        return self._act_page(*self.asked_for(act, name, version))

    def change_release(self, act: str, name: str, version: str) -> answers.Answer:
        """Do it, and say what was done."""
        known, files = self.asked_for(act, name, version)
        form = self.sent_form()
        try:
            said = self.act_on(known, files, form)
        except (Invalid, Missing, Conflict, Unavailable) as error:
            return self._act_page(known, files, form, error)
        project = files[0].project
        left = self.site.store.project(project)
        here = f"{self._root()}project/{project}/"
        if left is not None and files[0].version in left.versions:
            here += segment(files[0].version)
        onward = [] if left is None else [("Back to the project", here)]
        return self.once(
            "done", {"title": f"{known.button} {project} {files[0].version}", "said": said, "onward": onward}
        )

    def act_on(self, act: Act, files: Sequence[File], said: Mapping[str, str]) -> str:
        """Do to a release what a form or a program asks for; a short text that says what was done."""
        fields = {"name": (str(files[0].project),), "version": (files[0].version,)}
        fields |= {key: (said[key],) for key in act.fields if said.get(key)}
        return self.carry_out(Received(action=act.action, fields=fields), bottle.request.environ)

    def own_files(self, name: NormalizedName, version: str) -> Sequence[File]:
        """The files of a release that this index itself has. Raises Missing if there are none."""
        project = self.site.store.project(name)
        files = [] if project is None else [file for file in project.files if same_version(file.version, version)]
        if not files:
            raise Missing(f"this index itself has no release {name} {version[:100]}")
        return files

    def _acts(self, project: Project, version: str) -> Sequence[tuple[str, str]]:
        place = f"{project.name}/{segment(version)}"[:-1]
        return [(act.button, f"-/change/{act.name}/{place}") for act in self.acts_on(project, version)]

    def acts_on(self, project: Project, version: str) -> Sequence[Act]:
        """What whoever signed in may do to a release; nothing if it is none of this index's own."""
        environ, name = bottle.request.environ, project.name
        if self.session(environ) is None:
            return ()
        try:
            files = self.own_files(name, version)
        except (Missing, Unavailable):
            return ()
        user, yanked = self.known(environ), all(file.yanked is not None for file in files)
        left_out = {"yank" if yanked else "unyank", *([] if self.push_targets(name) else ["push"])}
        return [act for act in ACTS.values() if act.name not in left_out and self.may(user, act.right, name)]

    def push_targets(self, name: NormalizedName) -> Sequence[str]:
        """The indexes to which whoever asks may push releases of a project."""
        if self.front is None:
            return ()
        environ, found = bottle.request.environ, []
        for other, site in self.front.sites.items():
            app = self.front.app(other)
            if other == self.site.name or not site.settings.packages or self.is_borrowed(app):
                continue
            if app.may(app.recall(environ), "push", name):
                found.append(other)
        return found

    def is_borrowed(self, other: Entry) -> bool:
        """Whether who asks would act in another index by a sign-in of other users, whose token no form here brings."""
        signed_in = other.session(bottle.request.environ) is not None
        return signed_in and not other.site.gate.shares_logins(self.site.gate)

    def see_own(self, user: User | None, right: str, project: NormalizedName) -> None:
        """Raise Missing for a project that this index itself has not, and alike for one that `user` may not list.

        Who has not logged in hears of neither: `allow` asks them who they are.
        """
        if user is None or (self.site.gate.lists(user, project) and self.site.store.project(project) is not None):
            return
        text = f"this index itself has no project {project}"
        raise Missing(text) if self.may(user, right, project) else Unseen(text, action=right, project=project)

    def asked_for(self, act: str, name: str, version: str) -> tuple[Act, Sequence[File]]:
        """What is asked for, and of which files, if whoever asks may do it here. Raises Missing, Denied."""
        if act not in ACTS:
            raise Missing("nothing here")
        known, project = ACTS[act], self._name(name)
        user = bottle.request.environ["pypiserver_lite.user"] = self.known(bottle.request.environ)
        self.see_own(user, known.right, project)
        self.allow(user, known.right, project)
        self.allow(user, "list", project)  # for its files are named
        return known, self.own_files(project, version)

    def _act_page(
        self,
        act: Act,
        files: Sequence[File],
        form: Mapping[str, str] = MappingProxyType({}),
        wrong: PypiServerLiteError | None = None,
    ) -> answers.Answer:
        name, version = files[0].project, files[0].version
        means = [act.means, *(self._loss(files) if act.final else ())]
        asked = {
            "reason": Field(name="reason", label="Reason, shown to those who install it", value=form.get("reason", "")),
            "to": Field(
                name="to", label="To the index", value=form.get("to", ""), choices=self.push_targets(name), needed=True
            ),
        }
        variables = {
            "title": f"{act.button} {name} {version}",
            "means": means,
            "things": [file.filename for file in files],
            "fields": [asked[key] for key in act.fields],
            "button": act.button,
            "final": act.final,
            "back": f"{self._root()}project/{name}/{segment(version)}",
        }
        return self.once("confirm", variables, wrong)

    def _loss(self, files: Sequence[File]) -> Sequence[str]:
        """What is left for installers when a release of this index itself is gone, for people. Raises Unavailable."""
        name, version, index = files[0].project, files[0].version, self.site.index
        asks = index.merges(name) and any(way.serves(name) for way in index.all_ways())
        below = [project for base in index.bases if (project := base.local(name)) is not None]
        said = []
        if any(same_version(file.version, version) for project in below for file in project.files):
            said.append("An index that this one is based on has files of this version too, which stay as they are.")
        elif not asks:
            said.append("Who has pinned this version cannot install it from here any more.")
        if asks:
            said.append("Upstreams are asked for this name too: installers may get what they have of this version.")
        else:
            project = self.site.store.project(name)
            if project is not None and len(project.files) == len(files):
                here = " here" if below else ""
                said.append(
                    f"It is the last release{here}: the name stays this index's own, and no upstream is asked for it."
                )
        return said
