"""How requests leave this machine: whom TLS believes, and through which proxy.

What a setting names counts, else what the environment names, as pip and uv
read it, else the system's own store of authorities and no proxy. Nothing else
of the environment counts. This is the one module beside the doors that reads
it, for these variables are not ours.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import truststore
import urllib3

from ..config.indexes import FLAGS, Spelling
from ..errors import ConfigError, Unavailable
from .addresses import Origin
from .credentials import basic, split_credentials

BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that name a file or folder of authorities, in the order in which they count."""
STORES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""OpenSSL's own, which count together, and after the others."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy; its `repr` and `setting` may be shown to anybody."""

    setting: str
    """The flag or variable that names it."""
    url: str = field(repr=False)
    """Without credentials."""
    authorization: str | None = field(repr=False)
    """The Proxy-Authorization field."""


def _system() -> ssl.SSLContext:
    """The system's authorities; a new context each time, since one of this kind makes handshakes wait for another."""
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True, slots=True)
class Ways:
    """The ways out of this machine."""

    context: Callable[[], ssl.SSLContext] = _system
    """What to check the certificate of the next connection with."""
    proxies: Mapping[str, Proxy] = field(default_factory=dict)
    """By scheme of the address that is asked for."""
    unusable: Mapping[str, str] = field(default_factory=dict)
    """By scheme, what is wrong with a proxy that the environment names: not everything there is meant for us."""
    direct: str = ""
    """Where no proxy is used: host names with all below them, addresses and networks, separated by commas."""

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """The proxy through which to ask a server, or ``None``: directly. Raises Unavailable if that cannot be used."""
        if self._is_direct(origin.host, origin.port):
            return None
        if origin.scheme in self.unusable:
            raise Unavailable(self.unusable[origin.scheme])
        return self.proxies.get(origin.scheme)

    def whose(self, origin: Origin) -> str:
        """Who may be at fault: through a proxy, one does not see which of the two it was."""
        proxy = self.proxy_for(origin)
        return f"the upstream {origin.label}" + (f" through the proxy that {proxy.setting} names" if proxy else "")

    def _is_direct(self, host: str, port: int) -> bool:
        if urllib.request.proxy_bypass_environment(f"{host}:{port}", {"no": self.direct}):  # type: ignore[attr-defined]
            return True
        return any(_lies_in(host, entry) for entry in self.direct.split(","))


def find(authorities: Path | None, proxy: str | None, spelling: Spelling = FLAGS) -> Ways:
    """The ways that settings name, else the environment.

    Raises ConfigError, which never shows a proxy's address, for what a setting names.
    """
    context = _context({spelling.placed("ca"): str(authorities)} if authorities is not None else {}, os.environ)
    if proxy is not None:
        named = _proxy(spelling.called("proxy"), proxy, spelling.placed("proxy"))
        return Ways(context, proxies={"http": named, "https": named})
    found: dict[str, str] = urllib.request.getproxies_environment()
    proxies, unusable = {}, {}
    for scheme in ("http", "https"):
        used = scheme if scheme in found else "all"
        if used in found and found.get("no") != "*":
            try:
                proxies[scheme] = _proxy(f"{used.upper()}_PROXY", found[used])
            except ConfigError as error:
                unusable[scheme] = str(error)
    return Ways(context, proxies=proxies, unusable=unusable, direct=found.get("no", ""))


def _context(named: dict[str, str], environ: Mapping[str, str]) -> Callable[[], ssl.SSLContext]:
    """What `Ways.context` shall be, by what settings have `named`. Files are tried here: else no request would do.

    What is not usable of OpenSSL's two variables is left out, as pip and uv do. Raises ConfigError for others.
    """
    for variables in (BUNDLES[:1], BUNDLES[1:], STORES):
        named = named or {variable: environ[variable] for variable in variables if environ.get(variable)}
    if not named:
        return _system
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unusable: list[str] = []
    for setting, place in named.items():
        folders = place.split(os.pathsep) if setting == "SSL_CERT_DIR" else [place]
        try:
            if any(os.path.isdir(folder) for folder in folders):
                context.load_verify_locations(capath=place)
            else:
                context.load_verify_locations(cafile=place)
        except OSError as error:
            reason = "no certificates in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
            unusable.append(f"{setting} {place}: {reason}")
    if unusable and not named.keys() <= set(STORES):
        raise ConfigError("; ".join(unusable))
    for reason in unusable:
        _log.warning("%s; it is left out", reason)
    return _system if len(unusable) == len(named) else lambda: context


def _proxy(setting: str, address: str, place: str = "") -> Proxy:
    try:
        url, credentials = split_credentials(address if "://" in address else f"http://{address}", setting)
        parts = urllib3.util.parse_url(url)
        usable = parts.scheme in ("http", "https") and parts.host and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            f"{place or setting}: only a proxy at an address that begins with http:// or https:// can be used"
        )
    return Proxy(setting, url, basic(*credentials) if credentials else None)


def _lies_in(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network.strip(), strict=False)
    except ValueError:
        return False  # one of them is a name
