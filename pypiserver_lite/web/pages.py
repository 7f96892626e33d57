"""The pages for people: what each shows, put together for its template and kept while it stays true.

The variables of a template are named in the comment at its top. Links are
relative; only texts to copy hold this index's address, so that pages are kept
by that address too.
"""

from __future__ import annotations

import copy
import re
import sys
from bisect import bisect_left
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from packaging.utils import NormalizedName

from .. import metadata, site
from ..config.indexes import ROOT
from ..config.values import ACTIONS, public, shown_size
from ..errors import ConfigError, Unavailable
from ..kept import Kept, Turnstile
from ..metadata import About, Dependency
from ..model import File, Project
from ..records import Published
from ..releases import about, latest
from ..search import Catalogue
from ..simple.render import file_path
from . import commands, descriptions, samples
from .answers import Answer, Page
from .catalogue import Newcomer, Overview
from .hiding import MOST, HiddenFile, Hiding
from .indexes import Listed, mode
from .publishers import Known, Publishers, publisher
from .templates import Templates
from .viewers import Viewer, sign_in_link

if TYPE_CHECKING:
    from ..site import Site

HITS = 25
"""Projects on one page of a search."""
NEWEST = 8
"""Releases among the newest uploads on the home page."""
_LONGEST_ADDRESS = 300  # characters; a longer one comes from no client that means well
_MAY_LINK = 300  # dependencies that are looked up


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """A file of a release, as the template shows it."""

    file: File
    href: str
    size: str
    digest: tuple[str, str] | None
    """Algorithm and hex digest of the first hash."""
    origin: str
    published: Published | None
    """Who published it, and when, if that is on record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A version in the list of all."""

    version: str
    href: str
    uploaded: datetime | None
    files: int
    size: str
    python: str
    yanked: str | None
    """``None``: at least one file is not yanked; otherwise the reason, which may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """Dependencies: of the project itself (no `extra`) or of one of its extras."""

    extra: str
    dependencies: Sequence[tuple[Dependency, bool]]
    """Each with whether its project is here."""


def releases(project: Project, here: str) -> tuple[Release, ...]:
    """All versions, the newest first; `here` leads from the page to the project's."""
    files: dict[str, list[File]] = {}
    for file in project.files:
        files.setdefault(file.version, []).append(file)
    found = []
    for version in reversed(project.versions):
        some = files.get(version, [])
        reasons = [file.yanked for file in some if file.yanked is not None]
        sizes = [file.size for file in some if file.size is not None]
        found.append(
            Release(
                version=version,
                href=f"{here}{quote(version, safe='+!')}/",
                uploaded=max((file.uploaded for file in some if file.uploaded), default=None),
                files=len(some),
                size=shown_size(sum(sizes)) if sizes else "",
                python=next((file.requires_python for file in some if file.requires_python), ""),
                yanked=(next(filter(None, reasons), "")) if some and len(reasons) == len(some) else None,
            )
        )
    return tuple(found)


class HumanPages:
    """Makes the pages of `site` from `templates`. Who waits for another's making of one passes `waiting`."""

    def __init__(self, site: Site, templates: Templates, waiting: Turnstile) -> None:
        self._site, self._templates = site, templates
        self.overview = Overview(site.index, site.reading)
        self._pages = Kept[Page](lambda page: page.weight, waiting=waiting)
        self._about = Kept[About](lambda what: what.weight, waiting=waiting)
        self._descriptions = descriptions.Descriptions()
        self._publishers = Publishers(site)
        self.hiding = Hiding(site, waiting)
        self._control = "no-cache" if "list" in site.gate.book.open else "private, no-cache"
        self._logo, self._pictures = self._find_logo(site.settings.logo)
        if not templates.rehearsed:
            self._rehearse()
            templates.rehearsed = True

    def _find_logo(self, logo: str) -> tuple[str, str]:
        """The file or address of the picture beside the title, and the origin of another's. Raises ConfigError."""
        if not logo or self._templates.has_asset(logo):
            return logo, ""
        origin = re.match(r"https://[A-Za-z0-9.-]+(:[0-9]+)?(?=/)", logo, re.ASCII)
        if origin is None:
            raise ConfigError(
                f"--logo: {logo[:50]!r} is neither a picture in the folder of --templates nor an address such as "
                "https://HOST/logo.svg"
            )
        return logo, origin[0]

    def as_seen(self, site: Site, view: Hashable) -> HumanPages:
        """The pages of `site`, which is a part of this one, kept here with all others."""
        seen = copy.copy(self)
        seen._site, seen._pages = site, self._pages.part(view)
        seen.overview, seen.hiding = self.overview.as_seen(site.index), self.hiding.as_seen(site, view)
        return seen

    def forget(self) -> None:
        """Let go of the pages that are kept."""
        self._pages.clear()
        self._about.clear()

    def page(self, template: str, variables: Mapping[str, object], *, control: str = "") -> Page:
        """A page made from a template; `control`: who may keep it for how long, if not as all pages of the index."""
        body = self._templates.render(template, variables).encode("utf-8", "replace")
        return Page(
            body,
            "text/html; charset=utf-8",
            # What is made for one is for that one, and not for who presses Back after they signed out.
            cache_control=control or ("no-store" if variables.get("user") else self._control),
            vary="Accept, Accept-Encoding, Cookie",
            more=self._security(template),
        )

    def home_variables(
        self,
        address: str,
        others: Sequence[Listed] = (),
        newest: Sequence[Newcomer] | None = None,
        viewer: Viewer | None = None,
    ) -> dict[str, object]:
        """What every home page may use; the names in capitals are pypiserver's.

        `others` are the indexes that it lists besides. `newest` takes the place of
        what is asked of the index, for pages that are only tried.
        """
        settings, host = self._site.settings, re.sub(r"^https?://|/.*$", "", address)
        ways = self._site.told_ways()
        bases = [base for base in settings.bases if base in self._site.index.shares]
        modes = {mode(self._site, way) for way in ways}
        common = self.common("", viewer)
        return {
            **common,
            "URL": address,
            "VERSION": site.VERSION,
            "NUMPKGS": len(self._site.index.names() if newest is None else newest),
            "PACKAGES": "packages/",
            "SIMPLE": "simple/",
            "host": host,
            "secure": address.startswith("https:"),
            "folders": bool(settings.packages),
            "uploads": bool(settings.packages)
            and ("update" in self._site.gate.book.open or settings.passwords is not None),
            "login": sorted(set(ACTIONS) - self._site.gate.book.open) if settings.passwords else [],
            "fallback": bool(self._site.ways()),
            "mode": next((one for one in ("cache", "proxy") if one in modes), "redirect"),
            "upstreams": [public(way.url) for way in ways],
            "indexes": others,
            "bases": [(base, f"{common['up']}{'' if base == ROOT else f'{base}/'}" or "./") for base in bases],
            "traffic": self._site.traffic(),
            "newest": self.overview.newest(NEWEST) if newest is None else newest,
            "install": commands.set_up(address),
            "publish": commands.publishing(address),
            "size": shown_size,
        }

    def home(self, address: str, others: Sequence[Listed] = (), viewer: Viewer | None = None) -> Page:
        """The home page as a client at `address` sees it, who may list the indexes `others` besides."""
        return self.page("home", self.home_variables(address, others, viewer=viewer))

    def search(self, query: str, number: int, viewer: Viewer | None = None) -> Page:
        """One page of the projects that match."""
        catalogue = self.overview.catalogue()
        number = min(max(number, 1), 1_000_000)
        if viewer is not None:
            return self.page("search", self._search_variables(catalogue, query, number, viewer))
        return self._pages.get(
            ("search", query, str(number)),
            (catalogue,),
            lambda: self.page("search", self._search_variables(catalogue, query, number)),
        )

    def _search_variables(
        self, catalogue: Catalogue, query: str, number: int, viewer: Viewer | None = None
    ) -> dict[str, object]:
        found = catalogue.find(query)
        pages = max(1, -(-len(found) // HITS))
        number = min(number, pages)
        return {
            **self.common("", viewer),
            "sign_in": self._sign_in(_search_link(query, number)),
            "query": query,
            "hits": [catalogue.hit(name) for name in found[(number - 1) * HITS : number * HITS]],
            "count": len(found),
            "page": number,
            "pages": pages,
            "first": (number - 1) * HITS + 1,
            "fallback": bool(self._site.ways()),
            "link": lambda n: _search_link(query, n),
        }

    def project(self, project: Project, version: str | None, address: str, viewer: Viewer | None = None) -> Page:
        """A project with its newest release, or with the release `version` (spelled as the project does)."""
        chosen = latest(project) if version is None else version
        stale = self._site.stale(project.name)
        names = self._site.index.names()
        address = address if len(address) <= _LONGEST_ADDRESS else "/"
        up = "../../" if version is None else "../../../"
        what: About | None = None
        known = self._publishers.of(project)
        try:
            what = self._about.get((project.name, chosen), (project,), lambda: about(project, chosen, self._site.index))
            shown = self._descriptions.html(what)
            hidden = self.hiding.of(project)
            if stale is None and viewer is None:
                said = what
                origins = tuple(self._origin(file) for file in project.files if file.url and file.version == chosen)
                return self._pages.get(
                    ("project", project.name, version),
                    # The address is what the client wrote: like the rendering, it makes the page anew, never one more.
                    (project, names, hidden, sys.intern(address), sys.intern(shown), *origins, *known),
                    lambda: self.page(
                        "project",
                        self._project_variables(project, chosen, said, shown, up, address, hidden=hidden, known=known),
                    ),
                )
        except Unavailable:
            shown = descriptions.plain(what.description) if what is not None else ""
            hidden = ()
        # Useful as it is, but it is not kept: the next one may say more, or is for somebody else.
        variables = self._project_variables(
            project, chosen, what, shown, up, address, stale, hidden=hidden, viewer=viewer, known=known
        )
        return self.page("project", variables)

    def _project_variables(
        self,
        project: Project,
        version: str,
        read: About | None,
        description: str,
        up: str,
        address: str,
        stale: float | None = None,
        names: Sequence[NormalizedName] | None = None,
        hidden: Sequence[HiddenFile] = (),
        viewer: Viewer | None = None,
        known: Known = (),
    ) -> dict[str, object]:
        """`names` takes the place of those of the index, for pages that are only tried."""
        what = read or metadata.NOTHING
        here = f"{up}project/{project.name}/"
        every = releases(project, here)
        chosen = next((release for release in every if release.version == version), None)
        files = [file for file in project.files if file.version == version]
        files.sort(key=lambda file: not file.filename.endswith(".whl"))  # what most people take comes first
        return {
            **self.common(up, viewer),
            "project": project,
            "name": _spelled(what, project.name),
            "version": version,
            "latest": latest(project),
            "release": chosen,
            "releases": every,
            "about": what,
            "description": description,
            "unread": read is None,
            "stale": None if stale is None else int(stale // 60),
            "files": [self._file_row(file, up, known) for file in files],
            "hidden": hidden[:MOST],
            "more_hidden": max(0, len(hidden) - MOST),
            "needed": self._needed(what, self._site.index.names() if names is None else names),
            "install": commands.installing(project.name, version, address),
            "here": here,
            "acts": [] if viewer is None else [(text, up + link) for text, link in viewer.acts],
            "sign_in": self._sign_in(f"project/{project.name}/{quote(version, safe='+!')}{'/' if version else ''}"),
            "json": f"{up}pypi/{project.name}/json",
            "simple": f"{up}simple/{project.name}/",
            "size": shown_size,
        }

    def _file_row(self, file: File, up: str, known: Known) -> FileRow:
        return FileRow(
            file=file,
            href=f"{up}packages/{file_path(file.project, file.filename)}",
            size=shown_size(file.size),
            digest=next(iter(file.hashes.items()), None),
            origin=self._origin(file),
            published=publisher(file, known),
        )

    def _origin(self, file: File) -> str:
        """Where a file comes from when it is asked for now."""
        if not file.url:
            return "this index"
        return "the cache" if any(remote.keeps(file) for remote in self._site.remotes) else "the upstream"

    def _needed(self, what: About, names: Sequence[NormalizedName]) -> list[Needed]:
        groups: dict[str, list[tuple[Dependency, bool]]] = {}
        ways = [way for way in self._site.ways() if way.source is not None]
        for dependency in what.dependencies()[:_MAY_LINK]:
            name = dependency.name
            known = _holds(names, name) or (
                any(way.serves(name) for way in ways) and not self._site.index.reserves(name)
            )
            groups.setdefault(dependency.extra, []).append((dependency, known))
        return [Needed(extra=extra, dependencies=groups[extra]) for extra in sorted(groups)]

    def refusal(self, answer: Answer, text: str, path: str, viewer: Viewer | None = None) -> Answer:
        """A refusal that was plain text, as a page; its status and headers stay."""
        code = int(answer.status[:3])
        body = self._templates.render("error", self._error_variables(code, text, path, viewer)).encode(
            "utf-8", "replace"
        )
        security = self._security("error")
        own = {name for name, _ in security} | {"Content-Type", "Content-Length"}
        own |= set() if viewer is None else {"Cache-Control"}
        headers = [header for header in answer.headers if header[0] not in own]
        headers += [] if viewer is None else [("Cache-Control", "no-store")]
        headers += [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Vary", "Accept, Cookie"),
        ]
        return Answer(status=answer.status, headers=[*headers, *security], body=body)

    def _error_variables(self, code: int, text: str, path: str, viewer: Viewer | None = None) -> dict[str, object]:
        titles = {401: "Please log in", 403: "Not allowed", 404: "Not found", 429: "Too many tries"}
        title = titles.get(code, "Something is wrong" if code >= 500 else "That did not work")
        return {**self.common("../" * (path.count("/") - 1), viewer), "code": code, "title": title, "text": text}

    def common(self, root: str, viewer: Viewer | None = None) -> dict[str, object]:
        """What every page may use: `root` leads to the index's root, `asset` to a file that comes with the pages."""
        settings, name = self._site.settings, self._site.name

        def asset(name: str) -> str:
            return root + self._templates.asset_link(name)

        return {
            "root": root,
            "query": "",
            "asset": asset,
            "index": self._site.name,
            "index_title": settings.title or ("Package index" if name == ROOT else name),
            "index_description": settings.description,
            "logo": self._logo if self._pictures else asset(self._logo or "icon.svg"),
            "up": "" if name == ROOT else "../" * (name.count("/") + 1),
            "user": viewer.name if viewer is not None else "",
            "csrf": viewer.csrf if viewer is not None else "",
            "admin": viewer is not None and viewer.admin,
            "sign_in": self._sign_in(""),
        }

    def _sign_in(self, onward: str) -> str:
        """From the index's root to where people sign in, and then on; nothing where nobody can."""
        return sign_in_link(onward) if self._site.gate.asks_passwords else ""

    def _security(self, template: str) -> list[tuple[str, str]]:
        return self._templates.security(template, self._pictures)

    def _rehearse(self) -> None:
        """Fill every template with samples. Raises ConfigError for one that fails, at start, not at night."""
        address = "http://127.0.0.1:8080/"
        one = [samples.NAME] * (2 * HITS)
        catalogue = Catalogue(names=one, summaries={samples.NAME: "One line"})
        newest = (Newcomer(name=samples.NAME, version="1.0", uploaded=samples.MOMENT),)
        what = metadata.parse(samples.METADATA)
        shown = descriptions.plain(what.description)
        pages: list[tuple[str, dict[str, object]]] = [
            ("home", {**self.home_variables(address, samples.INDEXES, newest), "uploads": True}),
            ("home", {**self.home_variables(address, (), ()), "uploads": False}),
            ("search", self._search_variables(catalogue, "sam", 1)),
            ("search", self._search_variables(Catalogue(names=()), "", 2)),
            (
                "project",
                self._project_variables(
                    samples.RICH,
                    "1.0",
                    what,
                    shown,
                    "../../",
                    address,
                    names=(),
                    hidden=[HiddenFile("a", "b")] * 200,
                    known=samples.PUBLISHED,
                ),
            ),
            ("project", self._project_variables(samples.BARE, "", None, "", "../../", address, names=())),
            ("sign-in", {**self.common("../"), "wrong": "no", "onward": "", "user_name": "ann"}),
            ("confirm", {**self.common("../"), **samples.CONFIRM}),
            ("upload", {**self.common("../"), "wrong": "", "replaces": False, "limit": "1 MB", "sent": samples.SENT}),
            ("done", {**self.common("../"), "title": "Sample", "said": "done", "onward": [("On", "../")]}),
            ("error", self._error_variables(404, "nothing here", "/project/sample/")),
        ]
        viewer = Viewer(name="ann", csrf="", admin=True)
        pages += [(name, {**self.common("../", viewer), **made}) for name, made in samples.administration()]
        for template, variables in pages:
            self._templates.rehearse(template, variables)


def _search_link(query: str, number: int) -> str:
    return f"search?q={quote(query, safe='')}" + (f"&page={number}" if number > 1 else "")


def _spelled(what: About, name: NormalizedName) -> str:
    """The name as the project itself spells it, if it is this name."""
    own = what.text("name")
    return own if len(own) <= 200 and re.sub(r"[-_.]+", "-", own).lower() == name else name


def _holds(names: Sequence[NormalizedName], name: NormalizedName) -> bool:
    """Whether a name is among others that are sorted."""
    at = bisect_left(names, name)
    return at < len(names) and names[at] == name
