"""The upload API's forms: what is taken, and what becomes of it (STANDARDS 11-13)."""

from __future__ import annotations

import hashlib
import json
import os
import random
import tempfile
from pathlib import Path

import pytest
from builders import make_wheel, metadata
from received import (
    BOUNDARY,
    DIGESTS,
    SHA256,
    WHEEL,
    Part,
    discard,
    encode,
    form,
    refused,
    send,
    taken,
    wheel_bytes,
)

from pypiserver_lite.errors import Invalid


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
    parts = form(
        ("attestations", "[{}]"),
        ("gpg_signature", b"sig", "ours.asc"),
        sha256_digest=SHA256,
        md5_digest=DIGESTS["md5_digest"],
    )
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


def test_all_digits_of_blake2_are_taken_for_its_256_bits_as_setup_py_upload_sends_them(folder: Path) -> None:
    digest = hashlib.blake2b(wheel_bytes()).hexdigest()
    discard(taken(folder, [*form(), ("blake2_256_digest", digest)]))
    discard(taken(folder, [("blake2_256_digest", digest.upper()), *form()]))
    assert refused(folder, [*form(), ("blake2_256_digest", digest[::-1])]).startswith("blake2_256_digest: the file")


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


_REGISTERED = {":action": "submit", "name": "ours", "version": "1.0", "description": "one\n\n--two\r\n", "empty": ""}


def _registered(fields: dict[str, str], boundary: str = BOUNDARY) -> bytes:
    """A form as the `register` of distutils writes it."""
    sep = f"\n--{boundary}"
    parts = (f'{sep}\nContent-Disposition: form-data; name="{name}"\n\n{value}' for name, value in fields.items())
    return "".join([*parts, sep, "--\n"]).encode()


@pytest.mark.parametrize("piece", [1, 7, 2**30])
def test_setup_py_register_is_heard_although_its_lines_end_with_a_line_feed_alone(folder: Path, piece: int) -> None:
    received = send(folder, _registered(_REGISTERED), piece=piece)
    assert received.action == "submit"
    assert received.fields == {name: (value,) for name, value in _REGISTERED.items() if value}


@pytest.mark.parametrize(
    "body",
    [
        *(_registered({**_REGISTERED, ":action": action}) for action in ("file_upload", "remove_pkg", "yank", "push")),
        _registered(_REGISTERED).replace(b'"name"', b'"content"; filename="ours-1.0.tar.gz"'),
        _registered(_REGISTERED).replace(b"Content-Disp", b"X: y\nContent-Disp"),
        _registered(_REGISTERED)[:-3],
        _registered(_REGISTERED) + encode(form()),
        _registered({**_REGISTERED, "name": "x"}).replace(b"\nx", b"\n\xff"),
        _registered({**_REGISTERED, "description": "x" * 2**20}),
        _registered({str(number): "" for number in range(5001)} | _REGISTERED),
    ],
    ids=["upload", "remove", "yank", "push", "file", "header", "cut", "two", "bytes", "long", "many"],
)
def test_nothing_else_may_end_its_lines_so(folder: Path, body: bytes) -> None:
    assert "form" in refused(folder, body)


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
        (b":action=remove_pkg&x=" + b"y" * 2**20, "without a file"),
    ],
)
def test_url_encoded_forms_are_bounded_and_checked(folder: Path, body: bytes, text: str) -> None:
    assert text in refused(folder, body, "application/x-www-form-urlencoded")
