"""Changes of an index, each on record before it happens.

`by` is who changes what: an `Event` that names them, the index, and where
they come from. Each raises Unavailable if the change cannot be put on record;
then nothing has changed, as with whatever else it raises.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from packaging.utils import NormalizedName

from ..errors import Unavailable
from ..model import Store, Upload
from ..records import Event, Records
from ..site import Site
from .push import Pushed
from .push import push as push_files


def upload(store: Store, records: Records, by: Event, upload: Upload, *, overwrite: bool) -> bool:
    """Publish an upload; false if the very same bytes were here already. Raises as `Store.add` does.

    If it cannot be put on record, the staged body is still there.
    """
    files = ((upload.filename, upload.digests["sha256"]),)
    event = replace(by, action="upload", project=upload.project, version=upload.version, files=files)
    with records.trail.change(event) as change:
        added = store.add(upload, overwrite=overwrite)
        if added:
            change.published = (upload.filename,)
        else:
            change.reason = "these very bytes were here already"
    return added


def remove(store: Store, records: Records, by: Event, name: NormalizedName, version: str) -> tuple[str, ...]:
    """Remove a release; the names of its files. Raises as `Store.remove` does."""
    with records.trail.change(replace(by, action="remove", project=name, version=version)) as change:
        digests = _digests(store, name)
        files = store.remove(name, version)
        change.files = _with_digests(files, digests)
    return files


def yank(
    store: Store, records: Records, by: Event, name: NormalizedName, version: str, reason: str | None
) -> tuple[str, ...]:
    """Yank a release with a reason, or un-yank it (``None``); the names of its files. Raises as `Store.yank` does."""
    action = "unyank" if reason is None else "yank"
    event = replace(by, action=action, project=name, version=version, reason=reason or "")
    with records.trail.change(event) as change:
        files = store.yank(name, version, reason)
        change.files = _with_digests(files, _digests(store, name))
    return files


def push(source: Site, target: Site, by: Event, name: NormalizedName, version: str) -> Pushed:
    """Publish a release of `source` in `target`. Raises as `jobs.push.push` does."""
    event = replace(by, action="push", index=target.name, project=name, version=version, reason=f"from {source.name}")
    with target.records.trail.change(event) as change:
        pushed = push_files(source, target, name, version)
        change.files = _with_digests(pushed.files, _digests(source.store, name))
        change.published = pushed.new
    return pushed


def _digests(store: Store, name: NormalizedName) -> dict[str, str]:
    """The SHA-256 of the files of a project, as far as they are known."""
    try:
        project = store.project(name)
    except Unavailable:
        return {}
    return {} if project is None else {file.filename: file.hashes.get("sha256", "") for file in project.files}


def _with_digests(files: Iterable[str], digests: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, digests.get(name, "")) for name in files)
