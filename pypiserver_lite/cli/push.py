"""``push``: a release from one index to another."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

from .. import site
from ..config import load
from ..config.settings import Config
from ..config.values import Url, parse_url
from ..dists import normalize, try_normalize
from ..errors import ConfigError, Denied
from ..jobs import audited
from ..jobs import push as pushes
from .recorded import by
from .users import ask
from .which import index_of

_PUSH = """Publish a release of one index in another: the very same bytes with yanks, signatures and provenance.

  pypiserver-lite push acme==1.2 --from dev --to prod                      in the folders of this machine
  pypiserver-lite push acme==1.2 --from dev --to prod --server https://pypi.example.com --user ann
                                                                           by a running server, with a login
  pypiserver-lite push acme==1.2 --from prod --to https://pypi.example.org/legacy/
                                                                           to an index elsewhere, by twine

All files of the release arrive, or none. A file that is there with other bytes is never replaced; one with the same
bytes stays, so a push may be repeated. What --from itself has is pushed, not what it is based on. Running servers see
it at the next request. The netrc file, authorities and proxy are for the way to --server."""

_SETTINGS = ("config", "cache_dir", "follow_links", "fallback_ca", "fallback_proxy", "netrc", "state_dir", "audit_log")


def push(argv: Sequence[str]) -> int:
    """``push``: publish a release of one index in another."""
    parser = load.make_parser("pypiserver-lite push", _PUSH, names=_SETTINGS)
    parser.add_argument("release", metavar="NAME==VERSION", help="the release")
    parser.add_argument("--from", dest="source", metavar="INDEX", required=True, help="where it is; / is the root's")
    parser.add_argument(
        "--to", metavar="INDEX|URL", required=True, help="where it goes: an index, or an upload address"
    )
    parser.add_argument("--server", metavar="URL", default=None, help="ask the server that runs there to do it")
    parser.add_argument(
        "--user", metavar="USER", default=None, help="for --server: who asks (default: as netrc has it)"
    )
    parser.add_argument(
        "--password-stdin", action="store_true", default=False, help="for --user: read the password from standard input"
    )
    given = vars(parser.parse_args(list(argv)))
    release, source, to = given.pop("release"), given.pop("source"), given.pop("to")
    server, user, by_stdin = given.pop("server"), given.pop("user"), given.pop("password_stdin")
    name, _, version = release.partition("==")
    if try_normalize(name) is None or not version.strip():
        raise ConfigError(f"{release[:100]!r} is no release; write NAME==VERSION")
    if server is None and (user is not None or by_stdin):
        raise ConfigError("--user and --password-stdin are for --server, which asks for a login")
    scheme = re.match("https?://", to, re.IGNORECASE)
    is_outside = scheme is not None
    if scheme is not None:
        to = scheme[0].lower() + to[scheme.end() :]  # twine knows no other spelling
    if server is not None and is_outside:
        raise ConfigError("--server pushes between its own indexes; leave it out to push elsewhere")
    if server is not None:
        fields = {"name": name, "version": version, "to": to}
        return _by_server(server, source, fields, given, user, by_stdin=by_stdin)
    return _here(load.gather(given, os.environ), source, to, (name, version.strip()), is_outside=is_outside)


def _here(config: Config, source: str, to: str, release: tuple[str, str], *, is_outside: bool) -> int:
    """In the folders of this machine, or from them to an upload address elsewhere."""
    name, version = normalize(release[0]), release[1]
    ends = index_of(config, source), None if is_outside else index_of(config, to)
    with contextlib.closing(site.build_all(config)) as sites:
        start = sites.by_name[ends[0]]
        if ends[1] is None:
            files = pushes.push_outside(start, to, name, version, may_ask=sys.stdin.isatty())
            print(f"{', '.join(files)}: pushed to {Url(to)!r}")
            return 0
        pushed = audited.push(start, sites.by_name[ends[1]], by("push"), name, version)
    for filename in pushed.files:
        print(f"{filename}: {'pushed to' if filename in pushed.new else 'is already in'} {ends[1]}")
    return 0


def _by_server(
    server: str, source: str, fields: dict[str, str], given: Mapping[str, object], user: str | None, *, by_stdin: bool
) -> int:
    """By the server that runs at an address."""
    from ..upstream.credentials import read_netrc, split_credentials
    from ..upstream.forms import send_form
    from ..upstream.ways import find

    try:
        url, in_url = split_credentials(parse_url(server), "--server")
    except ValueError as error:
        raise ConfigError(f"--server: {error}") from error
    settings = load.from_settings({**given, "packages": ()}).index
    login = in_url
    if user is not None:
        login = (
            user,
            sys.stdin.readline().rstrip("\r\n") if by_stdin else ask(f"Password of {user}: ", "--password-stdin"),
        )
    elif login is None and (netrc := settings.netrc or _own_netrc()) is not None:
        login = read_netrc(netrc, urlsplit(url).hostname or "")
    index = "" if source.strip("/") == "" else f"{quote(source.strip('/'))}/"
    ways = find(settings.fallback_ca, settings.fallback_proxy)
    status, text = send_form(url + index, {":action": "push", **fields}, login, ways)
    if status != 200:
        hint = " (name a login: --user USER)" if status == 401 and login is None else ""
        raise Denied(f"{url} answers {status}: {text.splitlines()[0] if text else 'nothing'}{hint}")
    print(text)
    return 0


def _own_netrc() -> Path | None:
    """The user's own file of logins, as other clients find it; ``None`` if there is none."""
    path = Path(os.environ.get("NETRC") or "~/.netrc")
    try:
        path = path.expanduser()
    except RuntimeError:  # a user without a home
        return None
    return path if path.is_file() else None
