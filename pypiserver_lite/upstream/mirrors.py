"""One upstream at several addresses, asked in order: each is only asked when those before it do not answer.

They should have the same, but need not be believed to. A page that only a
further one gives must not change the digest of a file that is known already;
a file that comes from another one than its page must have the digest that its
page states, and who gave something else for a file is asked for it last; and
that one has no such project counts only where the first address says so, since
the others may not know of it yet.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeVar

from packaging.utils import NormalizedName

from ..errors import Busy, Loop, Missing, Unavailable
from ..kept import Kept, start
from ..model import NO_HASHES, File, Project
from .addresses import origin_of
from .archive import parsed
from .client import FetchedPage, Upstream
from .exchange import Named
from .health import GLANCE, Health
from .places import Place, beside, place_of, strongest
from .replies import Transfer
from .turns import Turn

T = TypeVar("T")
_FRESH = 300.0  # seconds for which the page of a further address is believed, as to where files lie
_FILE_WEIGHT = 500  # bytes
_WARNINGS = _BLAMED = 2**18  # bytes
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Listing:
    """What the page of a further address says of where its files lie."""

    files: dict[str, tuple[str, dict[str, str]]]
    """Address and digests by name."""
    named: Named
    since: float


class Mirrors:
    """An upstream over the `clients` of its addresses, of which the first names it. Safe to share between threads."""

    def __init__(self, clients: Sequence[Upstream]) -> None:
        self.clients = tuple(clients)
        first = self.clients[0]
        self.url, self.origin, self.traffic = first.url, first.origin, first.traffic
        # As `File.mirror` has it.
        self._by_mirror = {"": first, **{client.url: client for client in self.clients[1:]}}
        self._listings = Kept[_Listing](lambda listing: _FILE_WEIGHT * len(listing.files), most_bytes=8 * 2**20)
        self._warned = Kept[bool](lambda warned: 0, most_bytes=_WARNINGS)
        # When an address gave something else for a file of that digest, by the monotonic clock.
        self._blamed = Kept[float](lambda since: 0, most_bytes=_BLAMED)
        self._using = ""

    def __repr__(self) -> str:
        return f"Mirrors({', '.join(repr(client.url) for client in self.clients)})"

    @property
    def mirrors(self) -> frozenset[str]:
        """What `File.mirror` may be."""
        return frozenset(self._by_mirror)

    @property
    def failing(self) -> bool:
        """Whether nothing proper comes from any of its addresses, whatever is asked for."""
        return all(client.circuit.failing for client in self.clients)

    def health(self, name: str) -> Health:
        """How it does: it answers if one of its addresses does. `name` is what the settings call it."""
        each = tuple(
            Health(
                name=name,
                address=client.origin.label,
                answered=client.circuit.answered,
                failures=client.circuit.failures,
                open=client.circuit.open,
            )
            for client in self.clients
        )
        if len(each) == 1:
            return each[0]
        return Health(
            name=name,
            address=each[0].address,
            answered=max((one.answered for one in each if one.answered is not None), default=None),
            failures=min(one.failures for one in each),
            open=all(one.open for one in each),
            addresses=each,
        )

    def page(
        self,
        name: NormalizedName,
        turn: Turn,
        *,
        etag: str | None = None,
        modified: str | None = None,
        of: str = "",
    ) -> tuple[FetchedPage, Project] | Literal["unchanged"] | None:
        """A project and its page, as `Upstream.page` has it; the validators are of the page from the mirror `of`.

        An address that answers with something else than such a page, one to log in at say, is as good as down.
        Raises as that does, with what is wrong with the first address.
        """
        failed: Unavailable | None = None
        for mirror, client in self._by_mirror.items():
            tags = {"etag": etag, "modified": modified} if mirror == of else {}
            try:
                if client is not self.clients[-1]:
                    self._check(client, name)
                answer = client.page(name, on_size=turn.hold, **tags)
                found = self._read(name, answer, mirror, turn) if isinstance(answer, FetchedPage) else answer
            except Loop:
                raise
            except Unavailable as error:
                failed = failed or error
                continue
            if failed is not None and found is None:
                continue  # who has it may be the one that cannot be asked
            self._note(mirror, client, failed)
            return found
        assert failed is not None
        raise failed

    def _read(self, name: NormalizedName, page: FetchedPage, mirror: str, turn: Turn) -> tuple[FetchedPage, Project]:
        page = replace(page, mirror=mirror)
        try:
            return page, parsed(name, page, turn, self.url)
        except Busy:
            raise  # that is us
        except Unavailable:
            self._by_mirror[mirror].circuit.failed_quickly(page.url)
            raise

    def open(
        self,
        place: Place,
        *,
        start: int = 0,
        stop: int | None = None,
        if_range: str | None = None,
        packed: bool = False,
        soon: bool = False,
        patient: bool = False,
        again: int = 0,
    ) -> Transfer:
        """A file, or the half-open range of it, as `Upstream.open` has it. Raises as that does.

        Nobody is `patient` where another address can be asked, nor is what has another size than its page states taken
        from one then. Who asks `again` since what came broke off comes to the next address after a second try.
        """
        patient = patient and len(self.clients) == 1

        def ask(client: Upstream, url: str, named: Named) -> Transfer:
            body = client.open(
                url, named=named, start=start, stop=stop, if_range=if_range, packed=packed, soon=soon, patient=patient
            )
            body.giver = client.url
            if len(self.clients) > 1 and None not in (body.size, place.file.size) and body.size != place.file.size:
                body.close()
                self.blame(place.file, (client.url,))
                raise Unavailable(
                    f"the upstream {client.origin.label} sends {place.file.filename} with {body.size} bytes, "
                    f"its page states {place.file.size}"
                )
            return body

        return self._at(place, ask, max(again - 1, 0))

    def small(self, place: Place, limit: int) -> bytes | None:
        """What lies there, as `Upstream.small` has it; core metadata with its digest only. Raises as that does."""
        known = strongest(place.file.core_metadata or NO_HASHES) if place.side == ".metadata" else None

        def ask(client: Upstream, url: str, named: Named) -> bytes:
            data = client.small(url, named=named, limit=limit)
            if data is None or (known and hashlib.new(known[0], data, usedforsecurity=False).hexdigest() != known[1]):
                raise Missing(f"{client.origin.label} does not have it")
            return data

        try:
            return self._at(place, ask)
        except Missing:
            return None

    def blame(self, file: File, givers: Iterable[str]) -> None:
        """Take note that what these addresses gave is not this file: for some minutes others are asked before them."""
        digest = strongest(file.hashes)
        for giver in givers if digest is not None and len(self.clients) > 1 else ():
            self._blamed.put((giver, digest), time.monotonic())

    def sends_parts(self, place: Place) -> bool:
        """Whether a part of a file can be had from where it lies. Raises as `Upstream.sends_parts` does."""
        return self._whose(place).sends_parts(place.url, named=place.named)

    def agreed(self, known: File | None, stated: File) -> File:
        """Of a file that is `known`, what is to be believed now that a page states this of it.

        An address may change what it says itself, but no digest that another said, nor take it back; and only the
        first may change that of core metadata, which installers believe like the file.
        """
        digest = strongest(known.hashes) if known is not None and known.mirror != stated.mirror else None
        if known is None or digest is None:
            return stated
        said = stated.hashes.get(digest[0])
        if said != digest[1]:
            if said is not None:
                self._warn(self._by_mirror[stated.mirror], known, said)
            return known
        if stated.mirror and stated.core_metadata is not None and stated.core_metadata != known.core_metadata:
            return replace(stated, core_metadata=known.core_metadata)
        return stated

    def close(self) -> None:
        """Close idle connections."""
        for client in self.clients:
            client.close()

    def _whose(self, place: Place) -> Upstream:
        return self._by_mirror[place.file.mirror]

    def _at(self, place: Place, ask: Callable[[Upstream, str, Named], T], skip: int = 0) -> T:
        """What is asked of the one whose page lists the file, else of the others in order; of some later.

        Each is asked once at most. Raises what is wrong with the first that is asked.
        """
        own = self._whose(place)
        if len(self.clients) == 1 or not _can_be_checked(place):
            return ask(own, place.url, place.named)
        every = [own, *(client for client in self.clients if client is not own)]
        every.sort(key=partial(self._blame_of, place.file))
        skip %= len(every)
        failed: Unavailable | Missing | None = None
        every = every[skip:] + every[:skip]
        for client in every:
            try:
                # A file that lies elsewhere may be there while its index is down.
                if client is not every[-1] and (client is not own or origin_of(place.url) == own.origin):
                    self._check(client, place.file.project)
                found = (place.url, place.named) if client is own else self._found(client, place)
                if found is not None:
                    return ask(client, *found)
            except Loop:
                raise
            except Missing as error:
                if client is own:
                    failed = failed or error
                _log.debug("%s is not at %s: %s", place.file.filename, client.origin.label, error)
            except Unavailable as error:
                failed = failed or error
        assert failed is not None
        raise failed

    def _blame_of(self, file: File, client: Upstream) -> float:
        """When an address gave something else for a file; 0: not lately. Who did so longest ago may have mended it."""
        since = self._blamed.find((client.url, strongest(file.hashes))) or 0.0
        return since if 0 <= time.monotonic() - since < _FRESH else 0.0

    def _check(self, client: Upstream, name: NormalizedName) -> None:
        """Raises Unavailable where an address is left alone, since there is another.

        It is asked again in a thread of its own, by the page of this project: it may be silent for long.
        """
        circuit = client.circuit
        if circuit.due:
            done = threading.Event()

            def ask_again() -> None:
                with contextlib.suppress(Unavailable), Turn(None) as turn:
                    client.page(name, on_size=turn.hold)
                done.set()

            with contextlib.suppress(Busy):
                start("asking-again", contextvars.copy_context().run, ask_again)
                done.wait(GLANCE)
        refusal = circuit.refusal()
        if refusal is not None:
            raise refusal

    def _found(self, client: Upstream, place: Place) -> tuple[str, Named] | None:
        """Where the very same file lies by what another address says; ``None`` if that has none. Raises Unavailable."""
        file = place.file
        key = (client.url, file.project)
        listing = self._listings.find(key)
        if listing is not None and not 0 <= time.monotonic() - listing.since < _FRESH:
            self._listings.drop(key)
        listing = self._listings.get(key, (), partial(_listed, client, file.project))
        url, hashes = listing.files.get(file.filename, ("", {}))
        digest = strongest(file.hashes)
        if not url or digest is None:
            return None
        said = hashes.get(digest[0], digest[1])
        if said != digest[1]:
            self._warn(client, file, said)
            return None
        return beside(url, place.side), listing.named

    def _warn(self, client: Upstream, known: File, stated: str) -> None:
        key = (client.url, known.project, known.filename, stated)
        if self._warned.find(key) is None:
            self._warned.put(key, True)
            _log.warning(
                "%s states another digest of %s than %s did; the first one stays",
                client.origin.label,
                known.filename,
                self._by_mirror[known.mirror].origin.label,
            )

    def _note(self, mirror: str, client: Upstream, failed: Unavailable | None) -> None:
        before, self._using = self._using, mirror
        if mirror and failed is not None and before != mirror:
            _log.warning("%s; %s is asked instead", failed, client.origin.label)
        elif before and not mirror:
            _log.warning("the upstream %s answers again", client.origin.label)


def _listed(client: Upstream, name: NormalizedName) -> _Listing:
    with Turn(None) as turn:
        page = client.page(name, on_size=turn.hold)
        project = parsed(name, page, turn, client.url) if isinstance(page, FetchedPage) else None
        files = () if project is None else project.files
        named = place_of(project, files[0]).named if project is not None and files else frozenset()
        found = {file.filename: (file.url, dict(file.hashes)) for file in files}
    return _Listing(found, named, time.monotonic())


def _can_be_checked(place: Place) -> bool:
    """Whether another address may give what should lie there: a digest tells, or (of a signature) who checks it."""
    digests = place.file.core_metadata if place.side == ".metadata" else place.file.hashes
    return strongest(digests or NO_HASHES) is not None
