"""The legacy upload API: a form and a streamed file become a checked `Upload`.

The body is read once, its parts in any order. Memory does not grow with the
file: `content` goes to a staged file as it comes, text is bounded. SHA-256 is
computed on the way, because it is always needed. MD5 and BLAKE2b cost twice
as much each and are computed only if the form claims them: on the way if the
claim came first, in one more pass over the staged file if it came after.

Every refusal names the field and what to do. Whatever is refused leaves
nothing behind.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from .. import archives, digests, dists, metadata
from ..disk import Staged, translate
from ..errors import Invalid, PypiServerLiteError, TooLarge
from ..model import Upload
from .body import Readable, RequestBody, read_form

ACTIONS = ("file_upload", "submit", "verify", "remove_pkg", "yank", "unyank", "push")
"""What `receive` returns; what is not an upload is for the caller to carry out."""

MAX_TEXT = 8 * 2**20
"""Bytes of all text fields together, names included: descriptions of several 100 KiB are common."""
MAX_ATTESTATIONS = 2**20
MAX_SIGNATURE = 64 * 2**10
MAX_FIELD_NAME = 200


# By field and digits. The `upload` of distutils sends all of BLAKE2b's digits as those of its 256 bits.
_DIGESTS = {
    "md5": {32: "md5"},
    "sha256": {64: "sha256"},
    "blake2_256": {64: "blake2_256", 128: "blake2_512"},
}
_FILETYPES = {"sdist": "sdist", "bdist_wheel": "wheel"}
_ARMOUR = b"-----BEGIN PGP SIGNATURE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What one request asks for."""

    action: str
    """One of `ACTIONS`."""
    fields: Mapping[str, tuple[str, ...]]
    """Every text field with a value; an empty one means absent, as clients send many."""
    upload: Upload | None = None
    """Whole and checked; present exactly if the action is ``file_upload``."""

    def text(self, name: str, default: str | None = None) -> str:
        """The one value of a field. Raises Invalid if it has several, or none and there is no `default`."""
        value = _one(self.fields, name)
        if value is None:
            value = default
        if value is None:
            raise Invalid(f"{name}: missing; {self.action} needs it")
        return value


def receive(
    stream: Readable,
    content_type: str | None,
    content_length: int | None,
    *,
    stage: Callable[[], Path],
    limit: int | None,
) -> Received:
    """Read and check one request of the upload API.

    `stream` is read to its end, or to `content_length` bytes. `stage` names
    the folder for the temporary file and is called only if there is one.
    `limit` is the most bytes a body may have, ``None`` for any number. Forms
    are multipart; those without a file may be URL-encoded. Raises TooLarge,
    before reading further, Invalid, and an Unavailable when the disk fails;
    then no temporary file is left.
    """
    body = RequestBody(stream, content_length, limit)
    try:
        with ExitStack() as leftovers:
            form = _Form(lambda: leftovers.enter_context(Staged(stage())))
            read_form(body, content_type, form)
            received = form.finish()
            if received.upload is not None:
                leftovers.pop_all()  # it is the caller's from now on
            return received
    except OSError as error:
        raise translate(error) from error


Taken = Callable[[Mapping[str, tuple[str, ...]], str, Received | PypiServerLiteError], None]
"""Told of each file of a form: the text fields before it, its name, and what it is or why it is refused."""


def receive_each(
    stream: Readable,
    content_type: str | None,
    content_length: int | None,
    *,
    stage: Callable[[], Path],
    limit: int | None,
    take: Taken,
) -> Mapping[str, tuple[str, ...]]:
    """Read and check a form with any number of files, as a browser sends them; all its text fields.

    `take` is called as each file is whole, before the next one is read: one
    that is refused does not keep others from being taken. What it raises ends
    the reading. The rest is as `receive` has it.
    """
    form = _Each(stage, take)
    try:
        read_form(RequestBody(stream, content_length, limit), content_type, form)
    finally:
        form.discard()
    return form.fields


class _Each:
    """The parts of a form with several files; each file is a form of its own."""

    def __init__(self, stage: Callable[[], Path], take: Taken) -> None:
        self._stage, self._take = stage, take
        self._texts = _Form(lambda: Staged(stage()))
        self._leftovers = ExitStack()
        self._file: _Form | None = None
        self._filename, self._wrong = "", None  # type: str, PypiServerLiteError | None

    @property
    def fields(self) -> Mapping[str, tuple[str, ...]]:
        """The text fields until now."""
        return self._texts.fields

    def begin(self, name: str, filename: str | None) -> None:
        """A part begins."""
        # A browser sends the field of files that nobody has chosen as one without a name.
        self._file = _Form(self._staged) if name == "content" and filename else None
        self._filename, self._wrong = filename or "", None
        if self._file is None:
            self._texts.begin("unnamed" if name == "content" else name, filename)
        else:
            self._file.add(":action", "file_upload")
            self._try(lambda form: form.begin(name, filename))

    def data(self, data: bytes) -> None:
        """Some bytes of the part begun last."""
        if self._file is None:
            self._texts.data(data)
        else:
            self._try(lambda form: form.data(data))

    def end(self) -> None:
        """The part is whole."""
        if self._file is None:
            self._texts.end()
            return
        received: list[Received] = []
        self._try(lambda form: form.end())
        self._try(lambda form: received.append(form.finish()))
        if received:
            self._leftovers.pop_all()  # it is the caller's from now on
        self._take(self.fields, self._filename, received[0] if received else self._wrong or Invalid("not a file"))

    def add(self, name: str, value: str) -> None:
        """A text field, whole."""
        self._texts.add(name, value)

    def discard(self) -> None:
        """Remove what was begun and is nobody's."""
        self._leftovers.close()

    def _staged(self) -> Staged:
        return self._leftovers.enter_context(Staged(self._stage()))

    def _try(self, step: Callable[[_Form], object]) -> None:
        """Do something with the file in hand, unless something was wrong with it already."""
        if self._file is None or self._wrong is not None:
            return
        try:
            step(self._file)
        except PypiServerLiteError as error:
            self._wrong = error
        except OSError as error:
            self._wrong = translate(error)
        if self._wrong is not None:
            self._leftovers.close()


class _Content:
    """The part `content` as it goes to disk."""

    def __init__(self, parsed: dists.Parsed, staged: Staged, algorithms: set[str]) -> None:
        self.parsed, self.staged = parsed, staged
        self.size = 0
        self._digester = digests.Digester(algorithms)

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self._digester.update(data)
        self.staged.write(data)

    def digests(self, algorithms: set[str]) -> dict[str, str]:
        """These digests of what was written; one more pass over the file for those that came as a surprise."""
        known = self._digester.hexdigests()
        if late := algorithms - known.keys():
            known |= digests.of_file(self.staged.path, late)
        return known


class _Form:
    """The parts of one request, taken as they come; `finish` says what they mean together."""

    def __init__(self, stage: Callable[[], Staged]) -> None:
        self._stage = stage
        self._fields: dict[str, list[str]] = {}
        self._signatures: list[tuple[bool, bytes]] = []
        self._content: _Content | None = None
        self._text_size = 0
        self._name = ""
        self._is_file = False
        self._sink: Callable[[bytes], None] = _ignore
        self._text = bytearray()

    @property
    def fields(self) -> dict[str, tuple[str, ...]]:
        """The text fields until now."""
        return {name: tuple(values) for name, values in self._fields.items()}

    def begin(self, name: str, filename: str | None) -> None:
        """A part begins. A file nobody could take is refused here, before its bytes come."""
        if not name or len(name) > MAX_FIELD_NAME:
            raise Invalid(f"each part of the form needs a name of 1 to {MAX_FIELD_NAME} characters")
        self._name, self._is_file = name, filename is not None
        self._text = bytearray()
        if name == "content":
            self._sink = self._begin_content(filename)
        elif filename is not None and name not in ("gpg_signature", "attestations"):
            self._sink = _ignore
        else:
            self._count(len(name))
            self._sink = self._take_text

    def _begin_content(self, filename: str | None) -> Callable[[bytes], None]:
        action = _one(self._fields, ":action")
        if action == "doc_upload":
            _refuse_action(action)
        if action not in (None, "file_upload"):
            return _ignore
        if not filename:
            raise Invalid("content: send it as a file, with its file name")
        if self._content is not None:
            raise Invalid("content: one file at a time")
        parsed = dists.check_upload_name(filename)
        _check_form(self._fields, parsed)
        self._content = _Content(parsed, self._stage(), {"sha256", *_claims(self._fields)})
        return self._content.write

    def data(self, data: bytes) -> None:
        """Some bytes of the part begun last."""
        self._sink(data)

    def _take_text(self, data: bytes) -> None:
        self._count(len(data))
        self._text += data

    def _count(self, size: int) -> None:
        self._text_size += size
        if self._text_size > MAX_TEXT:
            raise TooLarge(f"the form's text has more than {MAX_TEXT >> 20} MB; shorten the description")

    def end(self) -> None:
        """The part is whole."""
        if self._sink != self._take_text:
            return
        if self._name == "gpg_signature":
            # Never decoded: binary signatures exist.
            if len(self._text) > MAX_SIGNATURE:
                raise TooLarge(f"gpg_signature: a signature has at most {MAX_SIGNATURE} bytes")
            self._signatures.append((self._is_file, bytes(self._text)))
            return
        try:
            value = self._text.decode("utf-8")
        except UnicodeDecodeError as error:
            name = self._name if re.fullmatch(r"[:\w]{1,60}", self._name, re.ASCII) else _shown(self._name)
            raise Invalid(f"{name}: not UTF-8; send all text so") from error
        self.add(self._name, value)

    def add(self, name: str, value: str) -> None:
        """A text field. Empty means absent (twine and pdm send many)."""
        if value:
            self._fields.setdefault(name, []).append(value)

    def finish(self) -> Received:
        """What the whole form asks for. Raises Invalid."""
        action = _one(self._fields, ":action")
        if action not in ACTIONS:
            _refuse_action(action)
        version = _one(self._fields, "protocol_version")
        if version not in (None, "1"):
            raise Invalid("protocol_version: this index speaks version 1 only")
        fields = self.fields
        if action != "file_upload":
            return Received(action=action, fields=fields)
        if self._content is None:
            raise Invalid("content: missing; send the file as the part 'content' of multipart/form-data")
        return Received(action=action, fields=fields, upload=self._upload(self._content))

    def _upload(self, content: _Content) -> Upload:
        _check_form(self._fields, content.parsed)
        provenance = _provenance(_one(self._fields, "attestations"))
        claims = _claims(self._fields)
        computed = content.digests({"sha256", *claims})
        for algorithm, (field, claim) in claims.items():
            if not hmac.compare_digest(computed[algorithm], claim):
                raise Invalid(f"{field}_digest: the file received has another digest; send it again")
        core = archives.check_archive(content.staged.path, content.parsed)
        said = metadata.parse(core)
        _check_metadata_version("Metadata-Version in the file", said.text("metadata_version") or "nothing")
        _check_same("the metadata in the file", said.text("name"), said.text("version"), content.parsed)
        content.staged.commit()  # last, because it waits for the disk
        return Upload(
            filename=content.parsed.filename,
            project=content.parsed.project,
            version=content.parsed.version,
            staged=content.staged.path,
            size=content.size,
            digests=computed,
            metadata=core,
            about=said,
            signature=self._signature(),
            provenance=provenance,
        )

    def _signature(self) -> bytes | None:
        # pdm sends the file name and the signature as two text parts of this one name. The signature is what is
        # armoured; if nothing is, a file rather than text, and the longer.
        ranked = [(_ARMOUR in data, is_file, len(data), data) for is_file, data in self._signatures]
        return max(ranked)[-1] or None if ranked else None


def _ignore(data: bytes) -> None:
    """Where the bytes of unknown file parts go (T4)."""


def _one(fields: Mapping[str, Any], name: str) -> str | None:
    """The value of a field that has one meaning, without white space around; ``None`` if absent."""
    values = {value.strip() for value in fields.get(name, ())} - {""}
    if len(values) > 1:
        raise Invalid(f"{name}: given more than once, with different values")
    return str(values.pop()) if values else None


def _shown(text: str) -> str:
    """Text of the client's, fit for an answer: short, printable ASCII."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def _refuse_action(action: str | None) -> NoReturn:
    if action is None:
        raise Invalid(":action: missing; an upload says :action=file_upload")
    if action == "doc_upload":
        raise Invalid(":action: doc_upload is not supported, this index keeps no documentation")
    raise Invalid(f":action: {_shown(action)} is none of {', '.join(ACTIONS)}")


def _check_form(fields: Mapping[str, list[str]], parsed: dists.Parsed) -> None:
    """Check the fields that are there against the file's name; asked before and after the file (V2, V3, V7).

    `pyversion` says nothing that the file name does not, and clients fill it
    in many ways: it is not looked at (T6).
    """
    filetype = _one(fields, "filetype")
    if filetype is not None and _FILETYPES.get(filetype) != parsed.kind:
        fitting = "bdist_wheel" if parsed.kind == "wheel" else "sdist"
        raise Invalid(f"filetype: {_shown(filetype)} does not fit {parsed.filename}; say {fitting}")
    metadata_version = _one(fields, "metadata_version")
    if metadata_version is not None:
        _check_metadata_version("metadata_version", metadata_version)
    _check_same("the form", _one(fields, "name"), _one(fields, "version"), parsed)


def _check_metadata_version(what: str, version: str) -> None:
    if not re.fullmatch(r"[12]\.[0-9]{1,3}", version, re.ASCII):
        raise Invalid(f"{what}: {_shown(version)} is not known here; 1.0 to 2.x are")


def _check_same(where: str, name: str | None, version: str | None, parsed: dists.Parsed) -> None:
    """Check that a name and version, as far as given, are those of the file's name (V3, V4)."""
    if name is not None and dists.try_normalize(name) != parsed.project:
        raise Invalid(f"name: {where} says {_shown(name)}, the file name {parsed.project}; build the file again")
    if version is not None and not dists.same_version(version, parsed.version):
        raise Invalid(f"version: {where} says {_shown(version)}, the file name {parsed.version}; build the file again")


def _claims(fields: Mapping[str, list[str]]) -> dict[str, tuple[str, str]]:
    """Algorithm → field that claims it, and the lower-case hex digest that the form says the file has (T7)."""
    claims = {}
    for field, algorithms in _DIGESTS.items():
        claim = _one(fields, f"{field}_digest")
        if claim is None:
            continue
        algorithm = algorithms.get(len(claim))
        if algorithm is None or not re.fullmatch(r"[0-9a-fA-F]*", claim):
            raise Invalid(f"{field}_digest: {min(algorithms)} hexadecimal digits are expected")
        claims[algorithm] = field, claim.lower()
    return claims


def _provenance(attestations: str | None) -> bytes | None:
    """The provenance object (PEP 740) of a form's attestations, a JSON array.

    They are kept, not verified; who published is not known, and the object
    says so.
    """
    if attestations is None:
        return None
    if len(attestations) > MAX_ATTESTATIONS:
        raise TooLarge(f"attestations: more than {MAX_ATTESTATIONS >> 20} MB")
    try:
        items = json.loads(attestations)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ValueError("no array of objects")
        bundle = {"publisher": {"kind": "unknown"}, "attestations": items}
        # NaN and numbers beyond a float are Python's JSON, not JSON.
        text = json.dumps({"version": 1, "attestation_bundles": [bundle]}, allow_nan=False, separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise Invalid("attestations: a JSON array of attestation objects is expected (PEP 740)") from error
    return text.encode() if items else None
