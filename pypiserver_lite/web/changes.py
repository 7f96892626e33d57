"""The upload API's side of a request: its body, and what it asks for, carried out."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from .. import dists
from ..config.indexes import ROOT
from ..errors import Invalid, Missing
from ..jobs import audited, owning

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from ..model import User
    from ..records import Event
    from ..rights.rules import Decision
    from ..site import Site
    from ..upload import Received
    from ..upload.body import Readable


class Together(Protocol):
    """What several indexes stand behind."""

    def site_of(self, name: str) -> Site:
        """Another index by its name. Raises KeyError."""


def content_length(environ: Mapping[str, Any]) -> int | None:
    """Bytes of the body as announced. Raises Invalid for what is no number."""
    text = environ.get("CONTENT_LENGTH") or ""
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise Invalid("Content-Length must be a whole number")
    return int(text)


def request_body(environ: Mapping[str, Any]) -> Readable:
    """The body of a request as the server gives it; an empty one where nothing tells its end."""
    if content_length(environ) is None and not environ.get("wsgi.input_terminated"):
        return io.BytesIO()
    return cast("Readable", environ["wsgi.input"])


class Place(Protocol):
    """An index that is changed, and who may change what of it."""

    site: Site

    def allow(self, user: User | None, action: str, project: NormalizedName) -> Decision:
        """What lets a user do that. Raises Denied, Missing."""


def named(received: Received) -> NormalizedName:
    """The project that a request names. Raises Invalid."""
    return dists.normalize(received.text("name"))


def carry_out(received: Received, place: Place, user: User | None, by: Event) -> str:
    """Do what `user` asks for by the upload API, if they may, on record; a short text that says what was done.

    Raises Denied, Invalid, Missing, Conflict or an Unavailable; then nothing has changed.
    """
    site = place.site
    if received.upload is not None:
        upload = received.upload
        try:
            decision = place.allow(user, "upload", upload.project)
            with owning.owned(site, user, upload.project, decision):
                added = audited.upload(site.store, site.records, by, upload, overwrite=site.settings.overwrite)
        finally:
            # The store has it removed, but if it is not asked.
            with contextlib.suppress(OSError):
                upload.staged.unlink(missing_ok=True)
        return "stored" if added else "these very bytes were here already"
    if received.action in ("submit", "verify"):
        return "nothing to register: upload the files"
    name, version = named(received), received.text("version")
    if received.action == "remove_pkg":
        place.allow(user, "remove", name)
        return f"removed {', '.join(audited.remove(site.store, site.records, by, name, version))}"
    place.allow(user, "yank", name)
    text = received.text("reason", "") if received.action == "yank" else None
    files = audited.yank(site.store, site.records, by, name, version, text)
    return f"{received.action}ed {', '.join(files)}"


def other_index(received: Received, front: Together | None) -> Site:
    """The index that a push goes to. Raises Invalid, Missing."""
    to = received.text("to")
    if front is None:
        raise Invalid("this server has one index alone, and a push needs two")
    try:
        return front.site_of(to.strip("/") or ROOT)
    except KeyError:
        raise Missing(f"there is no index {to[:100]!a} here") from None


def push(received: Received, source: Site, target: Place, user: User | None, by: Event) -> str:
    """Publish a release of `source` in `target`, if `user` may, on record; a short text that says what was done.

    Raises Denied, Invalid, Missing, Conflict or an Unavailable; then nothing has changed.
    """
    name, version, there = named(received), received.text("version"), target.site
    decision = target.allow(user, "push", name)
    with owning.owned(there, user, name, decision, pushed=True):
        pushed = audited.push(source, there, by, name, version)
    listed = ", ".join(pushed.new or pushed.files)
    return f"pushed {listed} to {there.name}" if pushed.new else f"{there.name} has {listed} already"
