"""The upload API's forms: what is refused and why, and that nothing is left behind (STANDARDS 11-13)."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from builders import make_wheel, metadata
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from received import (
    BOUNDARY,
    SHA256,
    TYPE,
    WHEEL,
    Part,
    Pieces,
    discard,
    encode,
    form,
    refused,
    sdist_bytes,
    send,
    wheel_bytes,
)

from pypiserver_lite import upload
from pypiserver_lite.errors import Invalid, TooLarge, Unavailable

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
