"""Somebody with a browser, without the browser: keeps cookies, follows forms, and says where a request comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from typing import Any
from urllib.parse import urlencode, urljoin

from wsgi_client import Answer, Client

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
FORM = "application/x-www-form-urlencoded"


class Visitor:
    """Who looks at `app` through pages alone."""

    def __init__(self, app: Any) -> None:
        self._client = Client(app)
        self.cookies: dict[str, str] = {}
        self.set_cookie = ""
        """The last cookie that came, as it came."""

    def _ask(self, method: str, path: str, status: int | None, body: bytes, headers: dict[str, str]) -> Answer:
        fields = {"Accept": BROWSER, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin", **headers}
        if self.cookies:
            fields["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = self._client.request(path, method=method, status=status, headers=fields, body=body)
        for name, value in answer.headerlist:
            if name == "set-cookie":
                self.set_cookie = value
                key, _, rest = value.partition("=")
                self.cookies.pop(key, None)
                if "Max-Age=0" not in value:
                    self.cookies[key] = rest.partition(";")[0]
        return answer

    def get(self, path: str, status: int | None = 200, **headers: str) -> Answer:
        """Look at a page."""
        return self._ask("GET", path, status, b"", {name.replace("_", "-"): headers[name] for name in headers})

    def post(
        self, path: str, status: int | None, fields: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a form of these fields alone."""
        return self._ask("POST", path, status, urlencode(fields).encode(), {"Content-Type": FORM, **(headers or {})})

    def send(self, path: str, status: int | None, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send any body."""
        return self._ask("POST", path, status, body, dict(headers))

    def submit(
        self, path: str, status: int | None = 200, also: Mapping[str, str] | None = None, **fields: str
    ) -> Answer:
        """Look at a page, fill the first form in its main part and send it; `also` are fields with odd names."""
        main = self.get(path).text.partition("<main")[2]
        found = re.findall(r"<form\b.*?</form>", main, re.DOTALL)
        action = re.search(r'<form\b[^>]*\baction="([^"]*)"', found[0])
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', found[0]))
        target = path if action is None else urljoin(path, unescape(action[1]))
        return self.post(
            target, status, {**{name: unescape(value) for name, value in hidden.items()}, **(also or {}), **fields}
        )

    def sign_in(self, user: str, password: str, status: int = 303, path: str = "/-/sign-in") -> Answer:
        """Fill the form for signing in."""
        return self.submit(path, status, user=user, password=password)
