"""The upload API's side of a request: its body, and what it asks for, carried out."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from .. import dists
from ..config.indexes import ROOT
from ..errors import Invalid, Missing
from ..jobs import audited

if TYPE_CHECKING:
    from ..records import Event
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


def carry_out(received: Received, site: Site, by: Event) -> str:
    """Do what `by` asks for by the upload API, on record; a short text that says what was done.

    Raises Invalid, Missing, Conflict or an Unavailable; then nothing has changed.
    """
    if received.upload is not None:
        added = audited.upload(site.store, site.records, by, received.upload, overwrite=site.settings.overwrite)
        return "stored" if added else "these very bytes were here already"
    if received.action in ("submit", "verify"):
        return "nothing to register: upload the files"
    name = dists.normalize(received.text("name"))
    version = received.text("version")
    if received.action == "remove_pkg":
        return f"removed {', '.join(audited.remove(site.store, site.records, by, name, version))}"
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


def push(received: Received, source: Site, target: Site, by: Event) -> str:
    """Publish a release of `source` in `target`, on record; a short text that says what was done.

    Raises Invalid, Missing, Conflict or an Unavailable; then nothing has changed.
    """
    name, version = dists.normalize(received.text("name")), received.text("version")
    pushed = audited.push(source, target, by, name, version)
    listed = ", ".join(pushed.new or pushed.files)
    return f"pushed {listed} to {target.name}" if pushed.new else f"{target.name} has {listed} already"
