"""Whose ``X-Forwarded-*`` header lines count.

Anyone can send them, so they are believed from the addresses the operator
names, and removed from everyone else's requests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from ..errors import ConfigError

_SAID = "HTTP_X_FORWARDED_"
_UNDERSTOOD = frozenset(f"{_SAID}{field}" for field in ("FOR", "PROTO", "HOST", "PORT", "PREFIX"))
_REMOVED = _UNDERSTOOD | {"HTTP_FORWARDED", "HTTP_X_REAL_IP"}
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?", re.ASCII)
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]{1,100}){1,10}", re.ASCII)


class TrustedProxies:
    """The reverse proxies in front of this server: addresses, networks, or ``*`` for whoever connects.

    Raises ConfigError for anything else.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._everyone = False
        self._networks = []
        for name in names:
            if name == "*":
                self._everyone = True
                continue
            try:
                self._networks.append(ip_network(name, strict=False))
            except ValueError as error:
                raise ConfigError(
                    f"--trusted-proxy {name[:60]!r} is neither an address, nor a network such as 10.0.0.0/8, nor '*'"
                ) from error

    def __contains__(self, address: object) -> bool:
        if self._everyone:
            return True
        parsed = _address(str(address)) if self._networks else None
        return parsed is not None and any(parsed in network for network in self._networks)

    def translate(self, environ: dict[str, Any]) -> None:
        """Make `environ` (PEP 3333) say what the client sees, if a trusted proxy tells.

        The header lines are gone afterwards, and so are Forwarded and X-Real-IP. Understood are X-Forwarded-For,
        -Proto, -Host (which a prefix may follow), -Port and -Prefix. A malformed one counts as not sent.
        """
        if environ.keys().isdisjoint(_REMOVED):
            return
        said = {key: environ.pop(key) for key in _REMOVED & environ.keys()}
        if environ.get("REMOTE_ADDR", "") not in self:
            return
        client = self._client(said.get("HTTP_X_FORWARDED_FOR", ""))
        if client:
            environ["REMOTE_ADDR"] = environ["REMOTE_HOST"] = client
            environ.pop("REMOTE_PORT", None)
        scheme = _last(said.get("HTTP_X_FORWARDED_PROTO", "")).lower()
        if scheme in ("http", "https"):
            environ["wsgi.url_scheme"] = scheme
            environ["SERVER_PORT"] = "443" if scheme == "https" else "80"
        host, slash, path = _last(said.get("HTTP_X_FORWARDED_HOST", "")).partition("/")
        self._place(environ, host, _last(said.get("HTTP_X_FORWARDED_PORT", "")))
        behind = slash + path if _HOST.fullmatch(host) else ""
        prefix = _last(said.get("HTTP_X_FORWARDED_PREFIX", behind)).rstrip("/")
        if _PREFIX.fullmatch(prefix):
            environ["SCRIPT_NAME"] = prefix
            # pypiserver's recipe for nginx has it after the host, and may leave it in the path.
            if "HTTP_X_FORWARDED_PREFIX" not in said and f"{environ['PATH_INFO']}/".startswith(f"{prefix}/"):
                environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(prefix)

    def _client(self, chain: str) -> str:
        """The nearest address that is not a proxy of ours: whatever stands left of it was said by strangers."""
        client = ""
        for hop in reversed(chain.split(",")):
            address = _address(hop.strip())
            if address is None:
                break
            client = str(address)
            if self._everyone or client not in self:
                break
        return client

    def _place(self, environ: dict[str, Any], host: str, port: str) -> None:
        if not re.fullmatch("[0-9]{1,5}", port, re.ASCII):
            port = ""
        match = _HOST.fullmatch(host)
        if match is not None:
            if port and not match[1] and port != {"https": "443"}.get(environ["wsgi.url_scheme"], "80"):
                host = f"{host}:{port}"
            environ["HTTP_HOST"] = host
            port = match[1] or port
        if port:
            environ["SERVER_PORT"] = port


def _last(value: str) -> str:
    """The value of the proxy nearest to us; those left of it may come from anyone."""
    return value.rpartition(",")[2].strip()


def _address(text: str) -> IPv4Address | IPv6Address | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
