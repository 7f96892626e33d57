"""Who we are to an upstream: from its URL or from a netrc file, never shown."""

from __future__ import annotations

import base64
import netrc as netrc_format
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from ..errors import ConfigError


def basic(user: str, password: str) -> str:
    """The Authorization field of RFC 7617."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def split_credentials(url: str, setting: str) -> tuple[str, tuple[str, str] | None]:
    """A URL without its user and password, ending in a slash, and these two. Raises ConfigError, naming the setting."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError(f"{setting}: this is no address") from None
    userinfo, at, host = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    clean = urlunsplit((parts.scheme, host, parts.path.rstrip("/") + "/", "", ""))
    return clean, (unquote(user), unquote(password)) if at else None


def read_netrc(path: Path, host: str, setting: str = "--netrc") -> tuple[str, str] | None:
    """User and password of exactly this host in a netrc file, without its default entry.

    Raises ConfigError, naming the setting.
    """
    try:
        entry = netrc_format.netrc(str(path)).hosts.get(host)
    except (OSError, UnicodeDecodeError, netrc_format.NetrcParseError):
        # The cause would quote the file, and so perhaps a password.
        raise ConfigError(f"{setting}: {path} cannot be read as a netrc file") from None
    return (entry[0], entry[2] or "") if entry else None
