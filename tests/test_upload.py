"""The upload API's forms: what is taken, what is refused and why, and that nothing is left behind (STANDARDS 11-13)."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import random
import tempfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from builders import make_sdist, make_wheel, metadata
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pypiserver_lite import upload
from pypiserver_lite.errors import Invalid, TooLarge, Unavailable
from pypiserver_lite.upload import Received

BOUNDARY = "b0undary"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"

Part = tuple[str, "str | bytes"] | tuple[str, "str | bytes", str]
"""A text part, or a file part with its file name."""


def encode(parts: Sequence[Part], boundary: str = BOUNDARY) -> bytes:
    body = bytearray()
    for name, value, *filename in parts:
        head = f'Content-Disposition: form-data; name="{name}"'
        if filename:
            head += f'; filename="{filename[0]}"'
        data = value.encode() if isinstance(value, str) else value
        body += f"--{boundary}\r\n{head}\r\n\r\n".encode() + data + b"\r\n"
    return bytes(body) + f"--{boundary}--\r\n".encode()


class Pieces(io.RawIOBase):
    """A body that comes in pieces of `size` bytes and tells how much of it was read."""

    def __init__(self, data: bytes, size: int = 2**30) -> None:
        self.stream, self.size, self.taken = io.BytesIO(data), size, 0

    def read(self, size: int = -1, /) -> bytes:
        data = self.stream.read(min(size, self.size))
        self.taken += len(data)
        return data


@functools.cache
def wheel_bytes(name: str = "ours", version: str = "1.0", inside: bytes | None = None) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return make_wheel(Path(folder), name, version, core_metadata=inside).read_bytes()


@functools.cache
def sdist_bytes(name: str = "ours", version: str = "1.0", inside: bytes | None = None) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return make_sdist(Path(folder), name, version, core_metadata=inside).read_bytes()


WHEEL = "ours-1.0-py3-none-any.whl"


def form(*more: Part, content: bytes | None = None, filename: str = WHEEL, **changed: str | None) -> list[Part]:
    """A whole upload form as clients send it; a `changed` field of None is left out."""
    fields: dict[str, str | None] = {
        ":action": "file_upload",
        "protocol_version": "1",
        "metadata_version": "2.1",
        "name": "ours",
        "version": "1.0",
        "filetype": "bdist_wheel" if filename.endswith(".whl") else "sdist",
        "pyversion": "py3",
    }
    fields |= {":action" if key == "action" else key: value for key, value in changed.items()}
    data = content if content is not None else wheel_bytes() if filename.endswith(".whl") else sdist_bytes()
    parts: list[Part] = [(key, value) for key, value in fields.items() if value is not None]
    return [*parts, ("content", data, filename), *more]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "staged"
    path.mkdir()
    return path


def send(
    folder: Path,
    body: bytes | Sequence[Part],
    content_type: str | None = TYPE,
    *,
    limit: int | None = None,
    piece: int = 2**30,
    length: bool = True,
) -> Received:
    data = body if isinstance(body, bytes) else encode(body)
    stream = Pieces(data, piece)
    return upload.receive(stream, content_type, len(data) if length else None, stage=lambda: folder, limit=limit)


def taken(folder: Path, parts: Sequence[Part]) -> Received:
    received = send(folder, parts)
    assert received.upload is not None
    assert os.listdir(folder) == [received.upload.staged.name]
    return received


def discard(received: Received) -> None:
    """Remove the staged file, if there is one."""
    if received.upload is not None:
        received.upload.staged.unlink()


def refused(folder: Path, body: bytes | Sequence[Part], content_type: str | None = TYPE, **more: Any) -> str:
    with pytest.raises(Invalid) as caught:
        send(folder, body, content_type, **more)
    assert os.listdir(folder) == []
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400 and str(folder) not in text
    return text


# -- what is taken ----------------------------------------------------------------------------------------------------


def test_an_upload_is_staged_whole_with_its_facts(folder: Path) -> None:  # T1, R5
    received = taken(folder, form())
    assert received.action == "file_upload"
    found = received.upload
    assert found is not None
    assert (found.filename, found.project, found.version) == (WHEEL, "ours", "1.0")
    assert found.staged.read_bytes() == wheel_bytes()
    assert found.staged.name.startswith(".") and found.staged.parent == folder
    assert found.size == len(wheel_bytes())
    assert found.digests == {"sha256": hashlib.sha256(wheel_bytes()).hexdigest()}
    assert found.signature is None and found.provenance is None
    discard(received)
    assert os.listdir(folder) == []


def test_sdists_are_taken(folder: Path) -> None:
    assert taken(folder, form(filename="ours-1.0.tar.gz")).upload is not None


def test_parts_come_in_any_order(folder: Path) -> None:  # T2
    parts = form(("attestations", "[{}]"), ("gpg_signature", b"sig", "ours.asc"), sha256_digest=SHA256, md5_digest=MD5)
    shuffle = random.Random(7)
    for _ in range(30):
        shuffle.shuffle(parts)
        received = taken(folder, parts)
        assert received.upload is not None and received.upload.signature == b"sig" and received.upload.provenance
        discard(received)


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 1000])
@pytest.mark.parametrize("length", [True, False])
def test_a_body_may_come_in_any_pieces(folder: Path, piece: int, length: bool) -> None:  # T15
    received = send(folder, encode(form(description="é" * 100)), piece=piece, length=length)
    assert received.upload is not None and received.upload.staged.read_bytes() == wheel_bytes()
    assert received.fields["description"] == ("é" * 100,)


def test_content_may_hold_what_looks_like_a_boundary(folder: Path) -> None:
    odd = b"\r\n--b0undar\r\n\r\n--b0undar--\r\n--\r" * 50
    with tempfile.TemporaryDirectory() as scratch:
        data = make_wheel(Path(scratch), payload=odd).read_bytes()
    for piece in (1, 13, 1 << 20):
        received = send(folder, encode(form(content=data)), piece=piece)
        assert received.upload is not None and received.upload.staged.read_bytes() == data


MD5, SHA256 = hashlib.md5(wheel_bytes()).hexdigest(), hashlib.sha256(wheel_bytes()).hexdigest()
BLAKE2 = hashlib.blake2b(wheel_bytes(), digest_size=32).hexdigest()
DIGESTS = {"md5_digest": MD5, "sha256_digest": SHA256, "blake2_256_digest": BLAKE2}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("chosen", range(8))
def test_digests_are_checked_in_any_subset_case_and_order(folder: Path, chosen: int, late: bool) -> None:  # T7, V9
    names = [name for at, name in enumerate(DIGESTS) if chosen >> at & 1]
    claims: list[Part] = [(name, DIGESTS[name].upper() if at % 2 else DIGESTS[name]) for at, name in enumerate(names)]
    received = taken(folder, [*form(), *claims] if late else [*claims, *form()])
    assert received.upload is not None and received.upload.digests["sha256"] == SHA256
    discard(received)
    for name in names:
        wrong: list[Part] = [(name, "0" * len(DIGESTS[name]))]
        others = [claim for claim in claims if claim[0] != name]
        assert refused(folder, [*form(), *others, *wrong] if late else [*others, *wrong, *form()]).startswith(name)


@pytest.mark.parametrize("name", DIGESTS)
@pytest.mark.parametrize("value", ["x", "zz" * 32, "é" * 64, "QmFzZTY0IG1kNQ==", "0" * 63, "0" * 65, "٠" * 64])
def test_odd_digests_are_refused_by_name(folder: Path, name: str, value: str) -> None:
    assert refused(folder, [(name, value), *form()]).startswith(f"{name}: ")
    assert refused(folder, [*form(), (name, value)]).startswith(f"{name}: ")


def test_empty_fields_are_absent_and_unknown_ones_ignored(folder: Path) -> None:  # T4
    received = taken(
        folder,
        form(
            ("md5_digest", ""),
            ("gpg_signature", ""),
            ("attestations", ""),
            ("provides_extras", "x"),
            ("unknown", "x"),
            ("unknown_file", b"\xff\x00" * 100, "x.bin"),
            pyversion="",
            filetype="",
            metadata_version="",
            name="",
            version="",
        ),
    )
    assert "md5_digest" not in received.fields and "name" not in received.fields
    assert received.upload is not None and received.upload.signature is None and received.upload.provenance is None


def test_only_action_and_content_are_needed(folder: Path) -> None:
    taken(folder, [(":action", "file_upload"), ("content", wheel_bytes(), WHEEL)])


def test_repeated_fields_keep_their_order(folder: Path) -> None:  # T5
    received = taken(folder, form(("classifiers", "B"), ("classifiers", "A"), ("project_urls", "Home, x")))
    assert received.fields["classifiers"] == ("B", "A")


@pytest.mark.parametrize("pyversion", [None, "", "source", "py2.py3", "3.11", "any"])
def test_pyversion_may_say_anything(folder: Path, pyversion: str | None) -> None:  # T6
    discard(taken(folder, form(filename="ours-1.0.tar.gz", pyversion=pyversion)))
    taken(folder, form(pyversion=pyversion))


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "2.0", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.9"])
def test_metadata_versions_in_use_and_to_come_are_taken(folder: Path, version: str) -> None:  # T8, V7
    inside = metadata("ours", "1.0").replace(b"2.1", version.encode())
    taken(folder, form(content=wheel_bytes(inside=inside), metadata_version="2.3"))


@pytest.mark.parametrize("version", ["3.0", "0.9", "10.0", "2", "2.x", "latest", "２.1", "2.1\nX: y", "1" * 300])
def test_other_metadata_versions_are_refused(folder: Path, version: str) -> None:  # V7
    assert refused(folder, form(metadata_version=version)).startswith("metadata_version: ")
    inside = metadata("ours", "1.0").replace(b"2.1", version.encode()) if "\n" not in version else b"Name: ours\n"
    assert "Metadata-Version" in refused(folder, form(content=wheel_bytes(inside=inside)))


SIGNATURE = b"-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n"


@pytest.mark.parametrize(
    ("parts", "signature"),
    [
        ([("gpg_signature", SIGNATURE, "ours.whl.asc")], SIGNATURE),
        ([("gpg_signature", b"\x89binary\xff", "ours.whl.asc")], b"\x89binary\xff"),
        ([("gpg_signature", "ours.whl.asc"), ("gpg_signature", SIGNATURE)], SIGNATURE),
        ([("gpg_signature", SIGNATURE), ("gpg_signature", "ours.whl.asc")], SIGNATURE),
        ([("gpg_signature", "ours.whl.asc"), ("gpg_signature", b"\x89binary\xff, longer")], b"\x89binary\xff, longer"),
        ([("gpg_signature", SIGNATURE)], SIGNATURE),
        ([("gpg_signature", b"", "ours.whl.asc")], None),
    ],
)
def test_signatures_come_as_a_file_or_as_text(folder: Path, parts: list[Part], signature: bytes | None) -> None:  # T9
    received = taken(folder, form(*parts))
    assert received.upload is not None and received.upload.signature == signature


def test_attestations_become_a_provenance_object(folder: Path) -> None:  # Q3
    given = [{"version": 1, "envelope": {"statement": "é\ud800"}}]
    received = taken(folder, form(("attestations", json.dumps(given))))
    assert received.upload is not None and received.upload.provenance is not None
    provenance = json.loads(received.upload.provenance)
    assert provenance["version"] == 1
    (bundle,) = provenance["attestation_bundles"]
    assert bundle["attestations"] == given and isinstance(bundle["publisher"]["kind"], str)
    discard(received)
    empty = taken(folder, form(("attestations", "[]"))).upload
    assert empty is not None and empty.provenance is None


@pytest.mark.parametrize(
    "text",
    [
        *("x", "{}", "1", "null", "[1]", "[[]]", "[{]", '[{"a":NaN}]', '[{"a":1e999}]', "\ufeff[]"),
        *("[" * 100_000, '{"a":' * 50_000, '[{"a":' + "9" * 5000 + "}]"),
    ],
    ids=range(13),
)
def test_broken_attestations_are_refused_by_name(folder: Path, text: str) -> None:
    assert refused(folder, form(("attestations", text))).startswith("attestations: ")


def test_long_descriptions_pass_and_longer_ones_are_refused(folder: Path) -> None:  # T10
    text = "ü" * 400_000
    assert taken(folder, form(description=text)).fields["description"] == (text,)


@pytest.mark.parametrize(
    "filename",
    ["ours-1.0+x.1-py3-none-any.whl", "ours-1!2.0-1-py3-none-linux_x86_64.whl", "Ours-1.0-py2.py3-none-any.whl"],
)
def test_odd_but_valid_names_are_kept_unchanged(folder: Path, filename: str) -> None:  # T12, V8
    version = filename.split("-")[1]
    received = taken(folder, form(content=wheel_bytes("ours", version), filename=filename, version=version))
    assert received.upload is not None and received.upload.filename == filename


@pytest.mark.parametrize(
    ("name", "version"), [("Ours", "1.0.0"), ("ours", "v1"), ("OURS", "1"), ("ours", " 1.0 "), ("ours", "1.0.0.0")]
)
def test_spellings_of_the_same_name_and_version_agree(folder: Path, name: str, version: str) -> None:  # V3, V4
    discard(taken(folder, form(name=name, version=version)))
    inside = metadata(name, version.strip())
    taken(folder, form(content=wheel_bytes(inside=inside)))


# -- other actions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["submit", "verify", "remove_pkg", "yank", "unyank"])
def test_other_actions_come_with_their_fields_and_no_file(folder: Path, action: str) -> None:  # T13
    parts: list[Part] = [(":action", action), ("name", "ours"), ("version", "1.0")]
    for sent in (parts, [("content", wheel_bytes(), WHEEL), *parts], [*parts, ("content", b"any", "any")]):
        received = send(folder, sent)
        assert received.action == action and received.upload is None
        assert received.text("name") == "ours" and received.text("reason", "") == ""
        with pytest.raises(Invalid, match="reason: "):
            received.text("reason")
        assert os.listdir(folder) == []


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "Application/X-WWW-Form-URLEncoded; charset=x"]
)
def test_forms_without_a_file_may_be_url_encoded(folder: Path, content_type: str) -> None:
    body = b":action=remove_pkg&name=ours&version=1.0%2Bx&empty=&reason=f%C3%BCr+alle"
    received = send(folder, body, content_type)
    assert received.action == "remove_pkg"
    assert received.fields == {
        ":action": ("remove_pkg",),
        "name": ("ours",),
        "version": ("1.0+x",),
        "reason": ("für alle",),
    }


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", ":action"),
        (b"&&&", ":action"),
        (b"name=%FF", "UTF-8"),
        (b"name=\xff", "UTF-8"),
        (b"a=b&" * 10_000, "too many"),
        (b":action=file_upload&name=ours", "content: "),
        (b":action=remove_pkg&x=" + b"y" * 2**20, "URL-encoded"),
    ],
)
def test_url_encoded_forms_are_bounded_and_checked(folder: Path, body: bytes, text: str) -> None:
    assert text in refused(folder, body, "application/x-www-form-urlencoded")


# -- what is refused --------------------------------------------------------------------------------------------------


REFUSALS: list[tuple[str, list[Part]]] = [
    (":action: missing", form(action=None)),
    (":action: missing", form(action="")),
    (":action: ", form(action="nonsense")),
    (":action: ", form(action="FILE_UPLOAD")),
    (":action: doc_upload", form(action="doc_upload")),
    (":action: given more than once", form((":action", "submit"))),
    ("protocol_version: ", form(protocol_version="2")),
    ("protocol_version: ", form(protocol_version="1.0")),
    ("content: missing", form()[:-1]),
    ("content: ", [*form()[:-1], ("content", wheel_bytes())]),
    ("content: ", [*form()[:-1], ("content", wheel_bytes(), "")]),
    ("content: one file", form(("content", wheel_bytes(), WHEEL))),
    ("filetype: ", form(filetype="sdist")),
    ("filetype: ", form(filetype="bdist_egg")),
    ("filetype: ", form(filename="ours-1.0.tar.gz", filetype="bdist_wheel")),
    ("name: ", form(name="theirs")),
    ("name: ", form(name="x" * 10_000)),
    ("name: ", form(name="our/s")),
    ("name: ", form(("name", "theirs"))),
    ("version: ", form(version="1.1")),
    ("version: ", form(version="1.0+local")),
    ("version: ", form(version="1!1.0")),
    ("version: ", form(version="nonsense")),
    ("version: ", form(version="1" * 10_000)),
    ("name: the metadata", form(content=wheel_bytes(inside=metadata("theirs", "1.0")))),
    ("version: the metadata", form(content=wheel_bytes(inside=metadata("ours", "1.0.post1")))),
    ("name: the metadata", form(content=wheel_bytes(inside=b"Metadata-Version: 2.1\nVersion: 1.0\n"))),
    ("version: the metadata", form(content=wheel_bytes(inside=b"Metadata-Version: 2.1\nName: ours\n"))),
    ("name: the metadata", form(content=sdist_bytes(inside=metadata("theirs", "1.0")), filename="ours-1.0.tar.gz")),
    ("gpg_signature: ", form(("gpg_signature", b"x" * 2**17, "x.asc"))),
    ("attestations: ", form(("attestations", "[" + " " * 2**20 + "]"))),
    ("description: ", form(("description", b"\xff\xfe"))),
    ("'x\\xe4': ", form(("xä", b"\xff\xfe"))),
    ("each part of the form needs a name", form(("", "x"))),
    ("each part of the form needs a name", form(("x" * 201, "x"))),
    ("the form's text", form(description="x" * 2**23)),
    ("the form's text", form(*[("x" * 200, "y" * 2000)] * 4500)),
    ("the form has too many parts", form(*[("classifiers", "")] * 5001)),
]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("text", "parts"), REFUSALS, ids=range(len(REFUSALS)))
def test_a_refusal_names_the_field(folder: Path, text: str, parts: list[Part], late: bool) -> None:  # T14, V2-V7, R4
    assert refused(folder, parts[::-1] if late else parts).startswith(text)


@pytest.mark.parametrize(
    "filename",
    [
        "ours-1.0.egg",
        "ours-1.0.exe",
        "ours-1.0.msi",
        "ours-1.0-1.noarch.rpm",
        "ours_1.0_all.deb",
        "ours-1.0.tar.gz.asc",
        "ours-1.0-py3-none-any.whl.metadata",
        ".ours-1.0.tar.gz",
        "../ours-1.0.tar.gz",
        "/etc/ours-1.0.tar.gz",
        "a/ours-1.0.tar.gz",
        "a\\ours-1.0.tar.gz",
        "..\\..\\ours-1.0.tar.gz",
        "ours-1.0.tar.gz\x00",
        "ours-1.0.tar.gz ",
        "ours-1.0.tar.gz%0A",
        "ours-1.0.tar.gz%0D%0AX: y",
        "our%22s-1.0.tar.gz",
        "oürs-1.0.tar.gz",
        "ourſ-1.0.tar.gz",
        "<script>-1.0.tar.gz",
        "ours.tar.gz",
        "ours-nonsense.tar.gz",
        "ours-1.0.whl",
        "ours-1.0-py3-none.whl",
        "ours-1.0-x-py3-none-any.whl",
        "ours-1.0-py3-none-any-any-any.whl",
        "x" * 300 + "-1.0.tar.gz",
        "tar.gz",
        "-1.0.tar.gz",
    ],
)
def test_names_that_may_not_be_stored_are_refused_before_the_bytes(folder: Path, filename: str) -> None:  # V1, V10
    data = encode([(":action", "file_upload"), ("content", b"x" * 2**21, filename)])
    stream = Pieces(data)
    with pytest.raises(Invalid):
        upload.receive(stream, TYPE, len(data), stage=lambda: folder, limit=None)
    assert os.listdir(folder) == [] and stream.taken < 2**19


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04", wheel_bytes()[:-30], sdist_bytes(), b"\0" * 1000])
def test_broken_archives_are_refused(folder: Path, content: bytes) -> None:  # V5, V6
    refused(folder, form(content=content))
    if content != sdist_bytes():  # which is no wheel, but an sdist
        refused(folder, form(content=content, filename="ours-1.0.tar.gz"))


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/json",
        "multipart/mixed; boundary=b0undary",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        'multipart/form-data; boundary="a\nb"',
        'multipart/form-data; boundary="a\rb"',
        'multipart/form-data; boundary=" "',
        "multipart/form-data; boundary=ä",
        'multipart/form-data; boundary="\ud800"',
        "multipart/form-data; boundary=" + "x" * 201,
        "multipart/form-data; boundary=" + "x" * 100_000,
        "multipart/form-data; boundary=other",
        ";" * 100_000,
        "\x00",
    ],
    ids=range(18),
)
def test_other_content_types_are_refused(folder: Path, content_type: str | None) -> None:
    refused(folder, form(), content_type)


def test_a_cut_body_is_refused_wherever_it_is_cut(folder: Path) -> None:  # R5
    data = encode(form(("attestations", "[{}]"), sha256_digest=SHA256))
    for end in [*range(0, len(data) - 4, 37), len(data) - 4]:
        refused(folder, data[:end])
        with pytest.raises(Invalid):  # the server says how long it should have been
            upload.receive(io.BytesIO(data[:end]), TYPE, len(data), stage=lambda: folder, limit=None)
        assert os.listdir(folder) == []


def test_a_body_is_read_to_its_length_only(folder: Path) -> None:
    data = encode(form())
    stream = Pieces(data + b"GET / HTTP/1.1")
    assert upload.receive(stream, TYPE, len(data), stage=lambda: folder, limit=None).upload is not None
    assert stream.taken == len(data)


def test_too_large_is_said_before_anything_is_read(folder: Path) -> None:
    data = encode(form())
    stream = Pieces(data)
    with pytest.raises(TooLarge, match=str(len(data) - 1)):
        upload.receive(stream, TYPE, len(data), stage=lambda: folder, limit=len(data) - 1)
    assert stream.taken == 0
    assert send(folder, data, limit=len(data)).upload is not None


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(folder: Path) -> None:
    data = encode(form(content=os.urandom(2**22)))
    stream = Pieces(data)
    with pytest.raises(TooLarge):
        upload.receive(stream, TYPE, None, stage=lambda: folder, limit=2**20)
    assert stream.taken < 2**21
    assert os.listdir(folder) == []


class Failing(Pieces):
    """A body whose sender fails after `after` bytes."""

    def __init__(self, data: bytes, error: BaseException, after: int) -> None:
        super().__init__(data, 100)
        self.error, self.after = error, after

    def read(self, size: int = -1, /) -> bytes:
        if self.taken >= self.after:
            raise self.error
        return super().read(size)


@pytest.mark.parametrize(
    ("error", "expected"),
    [(ConnectionResetError(), Invalid), (OSError("spool"), Invalid), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_whatever_breaks_while_reading_leaves_nothing(
    folder: Path, error: BaseException, expected: type[BaseException]
) -> None:
    data = encode(form())
    for after in (0, 500, len(data) - 200):
        with pytest.raises(expected):
            upload.receive(Failing(data, error, after), TYPE, len(data), stage=lambda: folder, limit=None)
        assert os.listdir(folder) == []


def test_a_disk_that_refuses_is_unavailable(folder: Path) -> None:
    data = encode(form())
    with pytest.raises(Unavailable) as caught:
        upload.receive(Pieces(data), TYPE, len(data), stage=lambda: folder / "gone", limit=None)
    assert str(folder) not in str(caught.value)


def test_memory_does_not_grow_with_the_file(folder: Path) -> None:  # T11
    with tempfile.TemporaryDirectory() as scratch:
        data = make_wheel(Path(scratch), payload=os.urandom(2**25)).read_bytes()
    claims: list[Part] = [("md5_digest", hashlib.md5(data).hexdigest())]
    stream = Pieces(encode([*form(content=data), *claims]))
    del data
    tracemalloc.start()
    try:
        received = upload.receive(stream, TYPE, None, stage=lambda: folder, limit=None)
        assert tracemalloc.get_traced_memory()[1] < 5 * 2**20
    finally:
        tracemalloc.stop()
    assert received.upload is not None and received.upload.size > 2**25


# -- fuzz -------------------------------------------------------------------------------------------------------------

LINE = f"--{BOUNDARY}\r\n".encode()
PIECES = [
    LINE,
    f"--{BOUNDARY}--\r\n".encode(),
    f"--{BOUNDARY}".encode(),
    f"\r\n--{BOUNDARY}".encode(),
    b"--",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b'Content-Disposition: form-data; name="content"; filename="' + WHEEL.encode() + b'"\r\n\r\n',
    b'Content-Disposition: form-data; name="content"; filename="../x.whl"\r\n\r\n',
    b'Content-Disposition: form-data; name=":action"\r\n\r\nfile_upload\r\n',
    b'Content-Disposition: form-data; name=":action"\r\n\r\nyank\r\n',
    b'Content-Disposition: form-data; name="name"\r\n\r\nours\r\n',
    b'Content-Disposition: form-data; name="gpg_signature"\r\n\r\nx\r\n',
    b'Content-Disposition: form-data; name="attestations"\r\n\r\n[{}]\r\n',
    b'Content-Disposition: form-data; name="\xff"\r\n\r\n',
    b"Content-Disposition: form-data; name*=utf-8''x; filename*=utf-16''y\r\n\r\n",
    b"Content-Disposition: attachment\r\n\r\n",
    b"Content-Disposition: form-data; name=",
    b"Content-Type: text/plain; charset=zlib\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: \xd9\xa3\r\n",
    b" folded\r\n",
    b":\r\n",
    b"X: " + b"y" * 5000,
    b"\0",
    b"\xff\xfe",
    wheel_bytes(),
    wheel_bytes()[:100],
    b"PK\x03\x04",
]
VALID = encode(form(("attestations", "[{}]"), ("gpg_signature", b"x", "x.asc"), sha256_digest=SHA256))
FUZZ = settings(max_examples=400, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def survives(folder: Path, body: bytes, piece: int, content_type: str = TYPE) -> None:
    """Only our own refusals come out, and the folder is empty afterwards."""
    try:
        received = send(folder, body, content_type, piece=piece, length=piece % 2 == 0, limit=2**20)
    except Invalid as error:
        assert str(error).isprintable()
    else:
        discard(received)
    assert os.listdir(folder) == []


@FUZZ
@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=25), st.integers(1, 5000))
def test_bodies_of_a_broken_grammar_do_no_harm(folder: Path, pieces: list[bytes], piece: int) -> None:
    survives(folder, b"".join(pieces), piece)


@FUZZ
@given(
    st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(PIECES)), max_size=6),
    st.booleans(),
    st.integers(1, 5000),
)
def test_forms_of_odd_parts_do_no_harm(folder: Path, parts: list[tuple[bytes, bytes]], ended: bool, piece: int) -> None:
    body = b"".join(LINE + head + data + b"\r\n" for head, data in parts)
    survives(folder, body + (b"--" + BOUNDARY.encode() + b"--\r\n" if ended else b""), piece)


@FUZZ
@given(
    st.lists(
        st.tuples(st.integers(0, len(VALID)), st.integers(0, 60), st.sampled_from(PIECES) | st.binary(max_size=8))
    ),
    st.integers(1, 5000),
)
def test_mutated_uploads_do_no_harm(folder: Path, changes: list[tuple[int, int, bytes]], piece: int) -> None:
    body = VALID
    for at, cut, new in changes:
        body = body[:at] + new + body[at + cut :]
    survives(folder, body, piece)


@FUZZ
@given(st.text(max_size=60) | st.sampled_from(["multipart/form-data", TYPE]), st.text(max_size=30))
def test_odd_content_types_do_no_harm(folder: Path, kind: str, more: str) -> None:
    survives(folder, VALID, 1000, f"{kind};{more}")


@FUZZ
@given(st.sampled_from([name for name, *_ in form()] + ["attestations", "md5_digest"]), st.text(max_size=300))
def test_odd_values_do_no_harm(folder: Path, name: str, value: str) -> None:
    data = value.encode("utf-8", "surrogatepass")
    survives(folder, encode([(name, data), *[part for part in form() if part[0] != name]]), 1000)
    survives(folder, encode([*[part for part in form() if part[0] != name], (name, data)]), 1001)


@FUZZ
@given(st.text(max_size=80))
def test_odd_file_names_do_no_harm(folder: Path, filename: str) -> None:
    quoted = filename.encode("utf-8", "replace").decode()
    survives(folder, encode([(":action", "file_upload"), ("content", wheel_bytes(), quoted)]), 1000)
