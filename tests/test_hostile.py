"""Malformed and malicious requests: refused, briefly, without a trace, and the server goes on."""

from __future__ import annotations

import base64
import itertools
import os
import random
import re
import socket
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import builders
import forms
import live
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

WHEEL = "ours-1.0-py3-none-any.whl"
HANG = 5.0
"""Seconds after which an answer is missing; the slowest takes some milliseconds."""
OURS_TO_SAY = {501, 505}
"""The 5xx for faults of the client: an unknown transfer coding, another version (RFC 9112 6.1, RFC 9110 15.6.6)."""
LOGIN = "Basic " + base64.b64encode(b"ann:right").decode()


class Target:
    """A server, its folder, and what it must be like after each request."""

    def __init__(self, server: live.Server, folder: Path, spool: Path) -> None:
        self.server, self.folder, self.spool = server, folder, spool
        self.before = forms.files(folder)

    def send(self, request: bytes) -> list[int]:
        """The statuses this is answered with, up to the end that the server or we put to it."""
        with live.connect(self.server, HANG) as connection:
            try:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                data = b"".join(iter(lambda: connection.recv(65536), b""))
            except TimeoutError:
                raise AssertionError(f"no end of the answer to {request[:300]!r}") from None
            except OSError:
                return []  # closed on a request that is longer than anyone would read
        assert not data or data.startswith(b"HTTP/1."), (request[:300], data[:100])
        statuses = [int(code) for code in re.findall(rb"^HTTP/1\.[01] ([0-9]{3}) ", data, re.MULTILINE)]
        wrong = [code for code in statuses if code >= 500 and code not in OURS_TO_SAY]
        assert not wrong, (request[:600], data[:300])
        return statuses

    def check(self) -> None:
        """The server answers, nothing was stored or left over, and nothing went wrong inside."""
        assert live.ask(self.server, "/simple/ours/", Authorization=LOGIN).text.count("<a ") == 2
        assert live.ask(self.server, f"/packages/{WHEEL}", Authorization=LOGIN).body == self.before[WHEEL]
        assert forms.files(self.folder) == self.before
        assert os.listdir(self.spool) == []
        assert "Traceback" not in self.server.log(), self.server.log()[-3000:]


@pytest.fixture(scope="module", params=["open", "closed"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server that takes everything from anyone, and one that takes nothing without a password."""
    root = tmp_path_factory.mktemp("hostile")
    folder, spool = root / "packages", root / "spool"
    builders.make_wheel(folder, "ours")
    builders.make_sdist(folder, "ours")
    (folder / f"{WHEEL}.asc").write_text("signature")
    spool.mkdir()
    passwords = live.write_htpasswd(root / "htpasswd", ann="right")
    closed = {"passwords": passwords, "authenticate": "update,download,list"}
    flags = forms.OPEN if request.param == "open" else closed
    with live.serve("-vv", packages=[folder], env={"TMPDIR": str(spool)}, **flags) as server:
        target = Target(server, folder, spool)
        target.check()
        yield target


GOOD_HOST = b"Host: here"
METHODS = [
    b"", b" ", b"get", b"G\x00T", b"GET\t", b"POST" * 20, b"*", b"(", b"\xff", b"HEAD", b"OPTIONS", b"CONNECT",
    b"TRACE",
]  # fmt: skip
PATHS = [
    b"", b"*", b"ours", b"//", b"///simple///ours///", b"/../../etc/passwd", b"/packages/../../etc/passwd",
    b"/packages/%2e%2e%2f%2e%2e%2fetc%2fpasswd", b"/packages/..%5c..%5cx", b"/packages/%00",
    b"/packages/" + WHEEL.encode() + b"%00.txt", b"/packages/.", b"/packages/..", b"/packages/.asc",
    b"/packages/.metadata", b"/packages/%0d%0aX:y", b"/packages/" + b"a" * 3000, b"/packages/" + b"a/" * 1500,
    b"/simple/" + b"a" * 5000 + b"/", b"/simple/%", b"/simple/%zz/", b"/simple/%u0041/", b"/simple/%ff%fe/",
    b"/simple/%c0%ae/", b"/simple/%ed%a0%80/", b"/simple/%e2%80%ae/", b"/simple/\xc3\xa9/",
    b"/simple/ours/?format=%ff", b"/simple/?format=" + b"x" * 3000, b"/simple/?" + b"a=b&" * 1500,
    b"/simple/?%&==&&;;", b"/simple/ours/?format=application/json;q=x", b"/simple/;jsessionid=1", b"/pypi/%2f/json",
    b"/pypi/ours/" + b"1." * 2000 + b"/json", b"/pypi/ours/%00/json", b"/pypi/ours/1.0!/json",
    b"/search?q=%ff%00" + b"x" * 900, b"/search?page=-1", b"/search?page=" + b"9" * 400, b"/project/ours/%0a/",
    b"/project/%3Cscript%3E/", b"/-/..%2fapp.py", b"/-/%00", b"/health?x=%00", b"http://", b"http://[::1",
    b"http://here:99999999/simple/", b"ftp://here/", b"here:443", b"/simple/ours/#a#b", b"/simple/ours/ x", b"/\x00",
    b"/\x7f", b"/simple/ours\x0b/", b"/RPC2/../simple/", b"/%2e%2e/%2e%2e/", b"/" * 5000,
]  # fmt: skip
VERSIONS = [
    b"", b"HTTP/0.9", b"HTTP/1.", b"HTTP/1.1 ", b"HTTP/2", b"HTTP/9.9", b"http/1.1", b"HTTP/1.1\x00", b"HTTP/1.0",
    b"ICY", b"HTTP/-1.1",
]  # fmt: skip
RANGES = [
    b"bytes=", b"bytes=-", b"bytes=a-b", b"bytes=5-2", b"bytes=--1", b"bytes=-0", b"bytes=0-0,1-1",
    b"bytes=" + b"0-1," * 900, b"bytes=99999999999999999999-", b"bytes=0-" + b"9" * 300, b"items=0-1", b"bytes 0-1",
    b"bytes=0x1-0x2", b"bytes=+1-+2", b"\xff=0-1", b"bytes=1_0-2_0", b"bytes= 0 - 1 ",
]  # fmt: skip
DATES = [
    b"yesterday", b"Mon, 99 Foo 99999 99:99:99 GMT", b"0", b"-1", b"Sat, 01 Jan 0000 00:00:00 GMT",
    b"Sat, 01 Jan 9999 23:59:59 -9999", b",", b"a b c d e f", b"Thu, 01 Jan 1970 00:00:00 +99999999999", b"(((((",
    b'"',
]  # fmt: skip
LOGINS = [
    b"Basic", b"Basic ", b"Basic =", b"Basic ====", b"Basic Og==", b"Basic OjpQ", b"Basic !!!!", b"Basic YW5u",
    b"basic\tYW5uOng=", b"Basic " + b"A" * 9000, b"Basic YW5uOg==, Basic YW5uOg==", b"Bearer x",
    b"Digest username=\"ann\"", b"Negotiate", b"\xff\xfe", b"Basic " + base64.b64encode(b"\xff\xfe:\xfd"),
    b"Basic " + base64.b64encode(b"ann:\x00right"), b"Basic " + base64.b64encode(b"a" * 3000 + b":x"),
    b"Basic " + base64.b64encode(b"ann:" + b"x" * 2500), b"Basic " + base64.b64encode(b"ann:r\r\nX: y"),
]  # fmt: skip
ACCEPTS = [
    b";", b",", b"/", b"*/*;q=", b"*/*;q=2", b"*/*;q=-1", b"*/*;q=nan", b"*/*;q=1e999", b"text/html;q=0.0000000001",
    b"*/json", b"application/vnd.pypi.simple.v99+json", b"application/vnd.pypi.simple.latest+json", b"a/b," * 2000,
    b"text/html;" * 2000, b'text/html;a="', b"\xff/\xff", b"text/html\x0b",
]  # fmt: skip
TAGS = [
    b'"', b"W/", b'W/"', b"*, *", b'"a"b"', b'"' * 3000, b",,,,", b'W/W/"x"', b"\xff",
]  # fmt: skip
OTHERS = [
    b"Host: a, b", b"Host:", b"Host: a\r\nHost: b", b"Host: a@b", b"Host: <script>", b"Host: " + b"a" * 60000,
    b"Content-Length: 5", b"Content-Length: -5", b"Content-Length: 5, 5", b"Content-Length: 0x5",
    b"Content-Length: 99999999999999999999", b"Content-Length: \xb2", b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"Content_Length: 5", b"Expect: 100-continue",
    b"Expect: 200-ok", b"Expect: 100-continue\r\nContent-Length: 5", b"Connection: " + b"close, " * 500,
    b"Upgrade: h2c\r\nConnection: Upgrade", b"Upgrade: websocket", b"X" * 70000 + b": y", b"X: " + b"y" * 70000,
    b"\r\n".join(b"X-%d: y" % n for n in range(300)), b"\r\n".join([b"Accept: text/html"] * 190), b"no colon",
    b": no name", b"sp ace: x", b"X: a\r\n folded", b"X: a\x00b", b"X: a\rb", b"X: a\nb", b"\x00",
    b"Cookie: " + b"a=b;" * 3000, b"X-Forwarded-For: \xff, 1.2.3.4\r\nX-Forwarded-Proto: javascript",
    b"X-Forwarded-Host: \"><script>", b"Forwarded: for=\"[::1\"", b"Via: 1.1 " + b"x," * 900,
    b"Accept-Encoding: gzip;q=x, br;q=" + b"9" * 900, b"Accept-Encoding: \xff", b"Content-Encoding: gzip",
    b"Content-Type: \xff", b"X-HTTP-Method-Override: DELETE", b"TE: trailers, deflate;q=0.5",
    b"Range: bytes=0-1\r\nIf-Range: \"",
]  # fmt: skip
HEADERS = [
    *(b"Range: " + value for value in RANGES),
    *(b"If-Range: " + value + b"\r\nRange: bytes=0-1" for value in DATES),
    *(b"If-Modified-Since: " + value for value in DATES),
    *(b"Authorization: " + value for value in LOGINS),
    *(b"Accept: " + value for value in ACCEPTS),
    *(b"If-None-Match: " + value for value in TAGS),
    *OTHERS,
]

FORM = b"Content-Type: " + forms.TYPE.encode()
CHUNKED = b"Transfer-Encoding: chunked"
LINE = f"--{forms.BOUNDARY}\r\n".encode()
DISPOSITION = b"Content-Disposition: form-data; name="
# Right in all but the version inside, so that whatever is done to the rest, it is never to be stored.
UPLOAD = forms.upload(forms.wheel("other", "2.0"), "other-1.0-py3-none-any.whl", forms.text("name", "other"))
CHUNKS = [
    b"", b"5", b"5\r\n", b"5\r\nhello", b"5\r\nhelloo\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\nhello", b"7fffffffffffffff\r\n", b"5;" + b"x" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
    b"5\nhello\n0\n\n", b"0\r\nX: y\r\n\r\n", b"0\r\n" + b"X: y\r\n" * 300, b"0\r\nhello", b"0" * 5000, b"\r\n",
    b"zz\r\n", b"5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
]  # fmt: skip


def renamed(filename: bytes) -> bytes:
    """The upload under another file name."""
    return UPLOAD.replace(b"other-1.0-py3-none-any.whl", filename)


def archive(content: bytes, *more: bytes) -> bytes:
    """The upload of what is no source distribution."""
    return forms.upload(content, "other-1.0.tar.gz", *more)


PARTS = [
    b"", b"--", LINE, LINE + b"\r\n", LINE + b"\r\n\r\n", LINE + DISPOSITION,
    LINE + DISPOSITION + b'"content"\r\n\r\n', LINE + DISPOSITION + b'"content"; filename="' + WHEEL.encode(),
    UPLOAD[:-10], UPLOAD[:-1] + b"x", UPLOAD + UPLOAD, UPLOAD[40:], renamed(b"../../x-1.0-py3-none-any.whl"),
    renamed(b"/etc/passwd"), renamed(b".hidden-1.0.tar.gz"), renamed(b"a" * 3000 + b"-1.0.tar.gz"),
    renamed(b"other-1.0-py3-none-any.whl\x00.txt"), renamed(b"other-1.0-py3-none-any.whl.asc"),
    renamed(b"oth\xff-1.0.tar.gz"), UPLOAD.replace(b"other-1.0", b"other-" + b"1" * 190 + b"!1"),
    UPLOAD.replace(b'filename="', b"filename*=utf-16''"), UPLOAD.replace(b'filename="', b'filename="x"; filename="'),
    UPLOAD.replace(b"PK\x03\x04", b"PK\x00\x00"), UPLOAD.replace(b"PK\x01\x02", b"PK\xff\xff"),
    UPLOAD.replace(b"PK\x05\x06", b"PK\x06\x05"), UPLOAD.replace(b"METADATA", b"METADAT\xc3"),
    forms.upload(forms.wheel("other"), WHEEL), forms.upload(b"", WHEEL), forms.upload(b"x", "other-1.0.exe"),
    archive(b"\x1f\x8b" * 500), archive(b"x", forms.text("md5_digest", "x")),
    archive(b"x", forms.text("sha256_digest", "\u0663" * 64)),
    archive(b"x", forms.text("attestations", "[" * 90_000)),
    archive(b"x", forms.text("attestations", "[" + "9" * 9000 + "]")),
    forms.text(":action", "file_upload") * 2 + forms.text(":action", "yank") + forms.END,
    forms.text(":action", "nonsense\r\nx") + forms.END, forms.text(":action", b"\xff") + forms.END,
    forms.action("yank"), forms.action("yank", name="ours"), forms.action("yank", name="../x", version="1"),
    forms.action("yank", name="ours", version="1" * 5000), forms.action("remove_pkg", name="x" * 5000, version="1"),
    forms.action("remove_pkg", name="ours", version="9"), forms.action("unyank", name="\x00", version="\x00"),
    forms.action("yank", name="ours", version="9", reason="x" * 100_000),
    b"".join(forms.text(f"f{n}", "x") for n in range(6000)) + forms.END,
    LINE + b"X: y\r\n" * 50 + b"\r\n" + forms.END, LINE + b"X: " + b"y" * 9000 + b"\r\n\r\n" + forms.END,
    b"\x00" * 3000, os.urandom(3000),
]  # fmt: skip
TYPES = [
    b"", b"multipart/form-data", b"multipart/form-data; boundary=", b'multipart/form-data; boundary="',
    b"multipart/form-data; boundary=" + b"x" * 3000, b"multipart/form-data; boundary=\xff",
    b"multipart/mixed; boundary=b0undary", b"application/x-www-form-urlencoded",
    b"application/x-www-form-urlencoded; charset=utf-7", b"text/plain", b"application/json",
    b"multipart/form-data; boundary=b0undary; boundary=other", b"multipart/form-data;" + b";" * 900,
    b"multipart/form-data; charset=zlib; boundary=b0undary",
]  # fmt: skip
NESTED, NESTED_END = b"<struct><member><name>x</name><value>", b"</value></member></struct>"


def call(method: bytes, parameters: bytes) -> bytes:
    """An XML-RPC call."""
    return b"<methodCall><methodName>" + method + b"</methodName><params>" + parameters + b"</params></methodCall>"


CALLS = [
    b"", b"<", b"<a/>", b"<methodCall/>", b"<methodCall><methodName/></methodCall>",
    call(b"search", b"<param><value>x</value></param>" * 900),
    b"<a>" * 9000, b"<a>" * 5000 + b"</a>" * 5000, b'<?xml version="1.0" encoding="zlib"?><a/>',
    b'<?xml version="1.0" encoding="utf-7"?><a/>', b'<?xml version="1.0" encoding="idna"?><methodCall/>',
    b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
    b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><methodCall>&b;</methodCall>',
    b"\xff\xfe<\x00a\x00/\x00>\x00", b"\x00", b"<methodCall><methodName>system.listMethods</methodName></methodCall>",
    call(b"package_releases", b"<param><value><string>../x</string></value></param>"),
    call(b"search", b"<param><value>" + NESTED * 30 + b"x" + NESTED_END * 30 + b"</value></param>"),
    b"x" * 70_000, b"<methodCall><methodName>" + b"x" * 60_000 + b"</methodName></methodCall>",
]  # fmt: skip


def message(
    method: bytes = b"GET",
    path: bytes = b"/simple/ours/",
    version: bytes = b"HTTP/1.1",
    headers: Sequence[bytes] = (GOOD_HOST,),
    body: bytes | None = None,
) -> bytes:
    """A request; with the length of its body, if the headers say nothing about it."""
    lines = [b" ".join([method, path, version]), *headers]
    if body is not None and not any(b"transfer-encoding" in line.lower() for line in headers):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + (body or b"")


def one_fault_each() -> list[bytes]:
    """A request for each thing that can be wrong, everything else being right."""
    post = (GOOD_HOST, FORM)
    file = b"/packages/" + WHEEL.encode()
    return [
        *(message(method=method) for method in METHODS),
        *(message(path=path) for path in PATHS),
        *(message(b"POST", path, headers=post, body=UPLOAD) for path in PATHS),
        *(message(version=version) for version in VERSIONS),
        *(message(headers=[GOOD_HOST, line]) for line in HEADERS),
        *(message(path=file, headers=[GOOD_HOST, line]) for line in HEADERS),
        *(message(headers=[line]) for line in OTHERS),
        *(message(b"POST", b"/", headers=[*post, line], body=UPLOAD[:-9]) for line in HEADERS),
        *(message(b"POST", b"/", headers=[*post, CHUNKED], body=body) for body in CHUNKS),
        *(message(b"POST", b"/RPC2", headers=[GOOD_HOST, CHUNKED], body=body) for body in CHUNKS),
        *(message(b"POST", b"/", headers=post, body=body) for body in PARTS),
        *(message(b"POST", b"/legacy/", headers=[GOOD_HOST, b"Content-Type: " + kind], body=UPLOAD) for kind in TYPES),
        *(message(b"POST", b"/RPC2", headers=[GOOD_HOST, b"Content-Type: text/xml"], body=body) for body in CALLS),
    ]


def many_faults(count: int) -> Iterator[bytes]:
    """Requests with several things wrong at once, cut somewhere or followed by more; the same ones each time."""
    dice = random.Random(20)

    def some(good: bytes, odd: Sequence[bytes]) -> bytes:
        return dice.choice(odd) if dice.random() < 0.3 else good

    for _ in range(count):
        lines = [
            some(GOOD_HOST, OTHERS),
            *dice.sample([b"Authorization: " + LOGIN.encode(), *HEADERS], dice.randrange(4)),
        ]
        body = None
        if dice.random() < 0.5:
            lines.append(b"Content-Type: " + some(forms.TYPE.encode(), TYPES))
            body = dice.choice([*PARTS, *CHUNKS, *CALLS])
        request = message(
            some(b"POST" if body is not None else b"GET", METHODS),
            some(dice.choice([b"/", b"/RPC2", b"/simple/", b"/packages/" + WHEEL.encode(), b"/ours/json"]), PATHS),
            some(b"HTTP/1.1", VERSIONS),
            lines,
            body,
        )
        yield dice.choice([request, request * 2, request[: dice.randrange(len(request))]])


def test_no_single_fault_hurts(target: Target) -> None:
    requests = one_fault_each()
    assert len(requests) > 600
    answered = [status for request in requests for status in target.send(request)]
    assert {200, 400, 404} <= set(answered) | ({200, 404} if 401 in answered else set())
    target.check()


def test_no_mixture_of_faults_hurts(target: Target) -> None:
    for request in many_faults(400):
        target.send(request)
    target.check()


FUZZ = settings(
    max_examples=120,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
VALID = message(b"POST", b"/", headers=[GOOD_HOST, FORM, b"Accept: text/html"], body=UPLOAD)
FIELDS = [
    b"Accept", b"Accept-Encoding", b"Range", b"If-Range", b"If-None-Match", b"If-Modified-Since", b"Authorization",
    b"Content-Type", b"Content-Length", b"Transfer-Encoding", b"Expect", b"Host", b"Connection", b"Via",
]  # fmt: skip
values = st.text(st.characters(codec="latin-1"), max_size=60).map(lambda text: text.encode("latin-1")) | st.from_regex(
    rb"[a-z*/=;,\"0-9 .+-]{0,60}", fullmatch=True
)


@FUZZ
@given(st.binary(max_size=300))
def test_no_bytes_hurt(target: Target, data: bytes) -> None:
    target.send(data)


@FUZZ
@given(st.lists(st.tuples(st.integers(0, len(VALID)), st.integers(0, 40), st.binary(max_size=10)), min_size=1))
def test_no_mutation_of_an_upload_hurts(target: Target, changes: list[tuple[int, int, bytes]]) -> None:
    request = VALID
    for at, cut, new in changes:
        request = request[:at] + new + request[at + cut :]
    target.send(request)


@FUZZ
@given(st.lists(st.tuples(st.sampled_from(FIELDS), values), max_size=5), st.sampled_from([b"GET", b"HEAD", b"POST"]))
def test_no_header_hurts(target: Target, fields: list[tuple[bytes, bytes]], method: bytes) -> None:
    for path in (b"/simple/", b"/packages/" + WHEEL.encode()):
        target.send(message(method, path, headers=[GOOD_HOST, *(b": ".join(pair) for pair in fields)]))


SEGMENTS = [
    b"simple",
    b"packages",
    b"ours",
    b"pypi",
    b"json",
    b"..",
    b"%2e",
    b"%",
    b"%2f",
    b"+simple",
    b"",
    WHEEL.encode(),
]
odd = st.binary(max_size=8).map(lambda raw: b"".join(b"%%%02x" % byte for byte in raw))


@FUZZ
@given(st.lists(st.sampled_from(SEGMENTS) | odd, max_size=6), st.binary(max_size=20))
def test_no_path_hurts(target: Target, segments: list[bytes], query: bytes) -> None:
    target.send(message(path=b"/" + b"/".join(segments)))
    target.send(message(path=b"/" + b"/".join(segments) + b"?format=" + query.replace(b" ", b"+")))


KEYS = [":action", "name", "version", "content", "gpg_signature", "attestations", "filetype", "sha256_digest", ""]


@FUZZ
@given(st.lists(st.tuples(st.sampled_from(KEYS), st.text(max_size=30), st.none() | st.text(max_size=30)), max_size=6))
def test_no_form_hurts(target: Target, parts: list[tuple[str, str, str | None]]) -> None:
    body = forms.text(":action", "file_upload")
    for name, value, filename in parts:
        data = value.encode("utf-8", "surrogatepass")
        quoted = (filename or "").encode("utf-8", "replace").decode()
        body += forms.text(name, data) if filename is None else forms.file(name, data, quoted)
    target.send(message(b"POST", b"/", headers=[GOOD_HOST, FORM], body=body + forms.END))


ends = st.sampled_from([b"\r\n", b"\n", b"", b"\r"])


@FUZZ
@given(st.lists(st.tuples(st.integers(0, 40), st.binary(max_size=40), ends), max_size=8))
def test_no_chunks_hurt(target: Target, chunks: list[tuple[int, bytes, bytes]]) -> None:
    body = b"".join(b"%x" % size + end + data + end for size, data, end in chunks)
    target.send(message(b"POST", b"/", headers=[GOOD_HOST, FORM, CHUNKED], body=body))


@pytest.mark.parametrize("name", ["granian", "gunicorn"])
def test_no_broken_chunk_hurts_another_server(tmp_path: Path, name: str) -> None:
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    folder, spool = tmp_path / "packages", tmp_path / "spool"
    builders.make_wheel(folder, "ours")
    builders.make_sdist(folder, "ours")
    spool.mkdir()
    with live.serve(packages=[folder], server=name, **forms.OPEN) as server:
        other = Target(server, folder, spool)
        for path, body in itertools.product((b"/", b"/RPC2", b"/health"), CHUNKS):
            smuggled = message(path=b"/smuggled") if body and not body.endswith(b"\r\n\r\n") else b""
            request = message(b"POST", path, headers=[GOOD_HOST, FORM, CHUNKED], body=body)
            assert len(other.send(request + smuggled)) <= 1 + (b"/smuggled" in body)
        other.check()


def test_after_all_that_the_server_is_as_it_was(target: Target) -> None:
    target.check()
