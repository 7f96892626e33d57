"""Asking another server of this kind for a change, as a client of its upload API."""

from __future__ import annotations

import http.client

import requests
import urllib3

from ..errors import ConfigError, Unavailable
from .addresses import Forbidden, Reach, origin_of
from .calls import Adapter, Call
from .credentials import basic
from .exchange import meaning
from .ways import Ways

_TIMES = (10.0, 900.0)  # seconds: for a connection, and for the answer, before which large files may be copied
_LONGEST = 10_000  # bytes of an answer


def send_form(url: str, fields: dict[str, str], login: tuple[str, str] | None, ways: Ways) -> tuple[int, str]:
    """Send a form to an address that holds no credentials; the status of the answer, and its text.

    Nothing is followed, and nobody but the server there learns of the login.
    Raises ConfigError for what is no address, Unavailable.
    """
    try:
        origin = origin_of(url)
    except Forbidden as error:
        raise ConfigError(f"{url}: an address that begins with http:// or https:// is needed") from error
    headers = {"User-Agent": "pypiserver-lite", "Accept": "text/plain"}
    headers |= {"Authorization": basic(*login)} if login else {}
    proxy = ways.proxy_for(origin)
    call = Call(_TIMES[1])
    out = Adapter(Reach(origin), ways, proxy, 1, 1.0)
    try:
        # `auth` keeps the environment's netrc out.
        request = requests.Request("POST", url, data=fields, headers=headers, auth=lambda prepared: prepared).prepare()
        through = {origin.scheme: proxy.url} if proxy else None
        answer = out.send(request, stream=True, timeout=_TIMES, proxies=through)
        text = answer.raw.read(_LONGEST, decode_content=True)
        return answer.status_code, text.decode("utf-8", "replace").strip()
    except Unavailable as error:
        raise Unavailable(f"{origin.label} cannot be reached; is the server running there?") from error
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        raise meaning(error, f"the server {origin.label}", origin, proxy, call) from error
    finally:
        out.close()
