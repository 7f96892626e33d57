"""What a browser must not be made to do by a page of somebody else's: change this index, or read it under its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache, partial
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from ..config.server import ServerSettings
from ..errors import Denied, Invalid

_LONGEST = 300  # characters of a Host
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Guard:
    """What is asked of every request before its rights."""

    def __init__(self) -> None:
        self._answers_as: Callable[[str], bool] | None = None

    def bound(self, settings: ServerSettings) -> None:
        """From now on the application is served as `settings` say: on a loopback address not by every name.

        Anybody's page can have its own name lead to 127.0.0.1, and would then
        read what is served there. Where proxies are trusted, names are theirs
        to check. An allowed name is without a port; ``*`` is any.
        """
        if is_loopback(settings.host) and not settings.trusted_proxy:
            own = urlsplit(settings.server_base_url).hostname
            names = frozenset(name.lower() for name in [*settings.allow_host, *([own] if own else [])])
            self._answers_as = lru_cache(maxsize=64)(partial(_is_known, names))

    def check(self, action: str | None, environ: Mapping[str, Any]) -> None:
        """Raise Invalid for a request to another host, Denied for a change that another site asks for."""
        host, answers_as = environ.get("HTTP_HOST"), self._answers_as
        if (
            answers_as is not None
            and host is not None
            and (len(host) > _LONGEST or not answers_as(host))
            # HTTP/1.0 may leave it out, of which some servers make an empty one; browsers never do.
            and (host or environ.get("SERVER_PROTOCOL") not in ("HTTP/1.0", "HTTP/1"))  # the latter is granian's word
        ):
            raise Invalid(
                f"this server is for this machine alone and does not answer as {host[:100]!a}; "
                "--allow-host NAME lets it answer to one more name"
            )
        if action in ("update", "reload"):
            refuse_foreign(environ)


def refuse_foreign(environ: Mapping[str, Any]) -> None:
    """Refuse what a page of another site asks for. Raises Denied; passes what does not come from a browser.

    Sec-Fetch-Site is the browser's own word (Fetch Metadata); without it,
    Origin must name the host that was asked (RFC 6454).
    """
    site, origin = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("HTTP_ORIGIN")
    if site is not None:
        foreign = site.strip().lower() not in ("same-origin", "none")
    else:
        foreign = origin is not None and not _is_own(origin.strip().lower(), environ.get("HTTP_HOST", "").lower())
    if foreign:
        raise Denied(
            "a page of another site asked for this change, so it is not made; if it was a page of this index, then a "
            "proxy hides its address: name that proxy with --trusted-proxy"
        )


def _is_own(origin: str, host: str) -> bool:
    scheme, _, place = origin.partition("://")
    port = _DEFAULT_PORTS.get(scheme, "")
    return bool(place) and place.removesuffix(port) == host.removesuffix(port)


def _is_known(names: Collection[str], host: str) -> bool:
    """Whether a Host is one of these names, or one that this machine has for itself."""
    name = re.sub(r":[0-9]*$", "", host.strip().lower()).removesuffix(".")
    if "*" in names or name in names or name == "localhost" or name.endswith(".localhost"):
        return True
    return is_loopback(name.removeprefix("[").removesuffix("]"))


def is_loopback(address: str) -> bool:
    """Whether an address or name is this machine's alone, as it stands (nothing is looked up)."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address.lower() == "localhost"
