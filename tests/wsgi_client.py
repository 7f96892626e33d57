"""Asks a WSGI application directly, checking both sides against PEP 3333 (wsgiref's validator)."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes, urldefrag, urljoin
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator


class Fields(dict[str, str]):
    """Header fields by name, which has no case."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        super().__init__((name.lower(), value) for name, value in fields)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())


@dataclass(frozen=True)
class Answer:
    """What came back for a request."""

    client: Client
    path: str
    status: int
    headerlist: list[tuple[str, str]]
    body: bytes

    @property
    def headers(self) -> Fields:
        """The header fields, whatever the case of their names."""
        return Fields(self.headerlist)

    @property
    def content_type(self) -> str:
        """The media type, without parameters."""
        return self.headers["Content-Type"].split(";")[0]

    @property
    def content_length(self) -> int:
        """Bytes, as announced."""
        return int(self.headers["Content-Length"])

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.body)

    @property
    def unpacked(self) -> bytes:
        """The body without gzip."""
        return gzip.decompress(self.body)

    def follow(self, link: str) -> Answer:
        """What a relative link on this page leads to."""
        assert "//" not in link
        return self.client.get(urldefrag(urljoin(self.path, link)).url)


class Client:
    """`status` of a call: the one expected, or ``None`` for any."""

    def __init__(self, application: Any) -> None:
        self.application = application

    def request(
        self,
        path: str,
        *,
        method: str = "GET",
        status: int | None = 200,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """One request, through wsgiref's validator."""
        path_part, _, query = path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": unquote_to_bytes(path_part).decode("latin-1"),
            "SCRIPT_NAME": "",
            "QUERY_STRING": query,
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.input": io.BytesIO(body),
            "wsgi.file_wrapper": FileWrapper,
            "CONTENT_LENGTH": str(len(body)) if body or method == "POST" else "",
        }
        setup_testing_defaults(environ)
        for name, value in (headers or {}).items():
            key = name.upper().replace("-", "_")
            environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
        if not environ["CONTENT_LENGTH"]:
            del environ["CONTENT_LENGTH"]
        started: list[Any] = []

        def start_response(line: str, fields: list[tuple[str, str]], exc_info: Any = None) -> Any:
            started[:] = [line, fields]
            return lambda data: None

        pieces = validator(self.application)(environ, start_response)
        try:
            data = b"".join(pieces)
        finally:
            if hasattr(pieces, "close"):
                pieces.close()
        # Field names have no case (RFC 9110 section 5.1); Bottle writes Etag.
        fields = sorted((name.lower(), value) for name, value in started[1])
        answer = Answer(self, path_part, int(started[0][:3]), fields, data)
        assert status is None or answer.status == status, (path, started[0], data[:300])
        return answer

    def get(self, path: str, status: int | None = 200, **headers: str) -> Answer:
        """GET with header fields as keywords: ``If_None_Match=…``."""
        return self.request(path, status=status, headers={name.replace("_", "-"): headers[name] for name in headers})

    def head(self, path: str, **headers: str) -> Answer:
        """HEAD, with header fields as `get` has them."""
        fields = {name.replace("_", "-"): headers[name] for name in headers}
        return self.request(path, method="HEAD", headers=fields)

    def post(self, path: str, body: bytes, content_type: str, status: int | None = 200) -> Answer:
        """POST of these bytes."""
        return self.request(path, method="POST", status=status, headers={"Content-Type": content_type}, body=body)
