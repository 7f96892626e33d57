"""The routes for people: the home page, the search, the projects, and what their pages look like."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

import bottle
from packaging.utils import NormalizedName

from ..dists import NAME_LIMIT, try_normalize
from ..errors import Missing, PypiServerLiteError
from ..index import Elsewhere
from ..model import Project
from ..releases import latest, release
from ..search import LONGEST_QUERY
from . import answers, entry, forms, indexes

if TYPE_CHECKING:
    from ..model import User
    from ..site import Site
    from .templates import Templates

_LONGEST_VERSION = 255  # bytes of the file name that it would be a part of

_normalized = lru_cache(maxsize=4096)(try_normalize)  # clients ask for the same names again and again


class People(entry.Entry):
    """An index as people see it. Whoever derives from it sets the attributes named here."""

    front: entry.Several | None
    """What this index stands behind, if there are several."""
    templates: Templates

    def root(self) -> object:
        """The home page. Override it to give the index another one; text is sent as HTML.

        For programs it is JSON in devpi's shape: what the index is, and at the root what the others are.
        """
        environ = bottle.request.environ
        sites = self.front.sites if self.front is not None else {self.site.name: self.site}

        def who(site: Site) -> User | None:
            app = self if self.front is None else self.front.app(site.name)
            return app.recall(environ)

        if "application/json" in environ.get("HTTP_ACCEPT", ""):
            facts = json.dumps(indexes.described(sites, self.site, who)).encode()
            return self._page(facts, "application/json").answer(environ)
        others = indexes.listed(sites, self.site, who)
        return self.human.home(self._address(), others, self.viewer(environ)).answer(environ)

    def search(self) -> object:
        """The projects that have all words of ``?q=`` in their name or summary, some on each page."""
        number = bottle.request.query.getunicode("page", "1")
        query = " ".join(bottle.request.query.getunicode("q", "").split())[:LONGEST_QUERY]
        environ = bottle.request.environ
        wanted = int(number) if re.fullmatch("[0-9]{1,6}", number, re.ASCII) else 1
        return self.human.search(query, wanted, self.viewer(environ)).answer(environ)

    def project_page(self, name: str, version: str | None = None) -> object:
        """A project with its newest release, or one of its releases, for people."""
        project_name = self._name(name)
        if project_name != name:
            return answers.redirect("../" * (1 if version is None else 2) + f"{project_name}/{segment(version)}", 301)
        project = self._project(project_name)
        spelled = None if version is None else release(project, version)
        if spelled != version:
            return answers.redirect(f"../{segment(spelled)}", 301)
        environ = bottle.request.environ
        if (viewer := self.viewer(environ)) is not None:
            viewer = replace(viewer, acts=self._acts(project, latest(project) if spelled is None else spelled))
        return self.human.project(project, spelled, self._address(), viewer).answer(environ)

    def _acts(self, project: Project, version: str) -> Sequence[tuple[str, str]]:
        """What whoever signed in may do to a release: texts, and links from the index's root."""
        return ()

    def asset(self, filename: str) -> answers.Answer:
        """The style sheet, the script, and what else lies beside the templates."""
        page = self.templates.asset(filename, bottle.request.query.get("v", ""))
        return page.answer(bottle.request.environ)

    def render(self, template: str, **variables: object) -> str:
        """The text of the page `template` (a name without ``.tpl``) with these variables, and those of every page."""
        return self.templates.render(
            template, {**self.human.common(self._root(), self.viewer(bottle.request.environ)), **variables}
        )

    def once(
        self, template: str, variables: Mapping[str, object], wrong: PypiServerLiteError | None = None
    ) -> answers.Answer:
        """A page for this request alone, which nobody keeps; its status is that of what is `wrong`.

        A login that is wrong is no 401 here, whose challenge would open the browser's own dialog.
        """
        common = self.human.common(self._root(), self.viewer(bottle.request.environ))
        told = "" if wrong is None else str(wrong)
        page = self.human.page(
            template, {**common, **variables, "wrong": variables.get("wrong", told)}, control="no-store"
        )
        answer = page.answer({**bottle.request.environ, "HTTP_IF_NONE_MATCH": None})
        if wrong is None:
            return answer
        refusal = self.refusal(wrong)
        status = "403 Forbidden" if refusal.status.startswith("401") else refusal.status
        more = [header for header in refusal.headers if header[0] == "Retry-After"]
        return answers.Answer(status=status, headers=[*answer.headers, *more], body=answer.body)

    def sent_form(self) -> Mapping[str, str]:
        """The fields of a form of ours, which brings the token of the session that it is sent by.

        Raises Denied, Invalid, TooLarge.
        """
        environ = bottle.request.environ
        fields = forms.read(environ)
        self.check_form(self.session(environ), fields.get(forms.TOKEN))
        return fields

    def _page(self, body: bytes, content_type: str) -> answers.Page:
        """A page of which there are several forms."""
        control = self.site.page_cache_control
        return answers.Page(body, content_type, cache_control=control, vary="Accept, Accept-Encoding")

    def _name(self, name: str) -> NormalizedName:
        normalized = _normalized(name) if len(name) <= NAME_LIMIT else None
        if normalized is None:
            raise Missing("no such project: a name has letters, digits and . _ - between them")
        return normalized

    def _project(self, name: NormalizedName) -> Project:
        project = self.site.index.find(name)
        if project is None:
            raise Missing(f"no project {name} here")
        if isinstance(project, Elsewhere):
            raise Missing(f"no project {name} here; installers are sent to the upstream for it")
        return project


def segment(version: str | None) -> str:
    """The part of a relative address that names a release; none for none. Raises Missing for what is too long."""
    if version and len(version) > _LONGEST_VERSION:
        raise Missing("there is no such release")
    return f"{quote(version, safe='+!')}/" if version else ""
