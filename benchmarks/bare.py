"""The least a Python web application can do: the same ready bytes for every request.

``python bare.py bottle|wsgi PORT`` serves on waitress; granian imports
``bare:application``. ``BARE_BYTES`` says how many bytes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

BODY = b"x" * int(os.environ.get("BARE_BYTES", "4096"))
HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Length", str(len(BODY))),
    # What a page of an index has to say besides: a fair comparison answers the same request with as many fields.
    ("Cache-Control", "no-cache"),
    ("Vary", "Accept, Accept-Encoding"),
    ("ETag", '"0123456789abcdef0123456789abcdef"'),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    ("X-PyPI-Last-Serial", "217921474"),
]


def application(
    environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]
) -> Iterable[bytes]:
    """Answer with `BODY`."""
    start_response("200 OK", HEADERS)
    return [BODY]


def routed() -> Any:
    """A Bottle application with one route that returns `BODY`."""
    import bottle

    app = bottle.Bottle()
    app.route("/<path:path>", callback=lambda path: BODY)
    return app


if __name__ == "__main__":
    import waitress

    waitress.serve(routed() if sys.argv[1] == "bottle" else application, listen=f"127.0.0.1:{sys.argv[2]}", _quiet=True)
