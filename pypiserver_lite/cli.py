"""The command line: one verb a function. The only module that prints, and where exit codes are decided.

0: done. 1: it could not be done. 2: the command itself is wrong (an option,
a folder, a file it names), said in one line.
"""

from __future__ import annotations

import contextlib
import difflib
import gc
import getpass
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from . import config, observe, servers, site
from .dists import normalize
from .errors import ConfigError, PypiServerLiteError
from .formats import NO_PASSWORDS
from .index import Index
from .site import VERSION
from .tools import cache as cache_tools
from .tools.passwd import delete_user, set_password
from .web import PypiServerLite
from .web.browsers import is_loopback

_RUN = """Serve folders of wheels and sdists as a Python package index.

  pypiserver-lite run ./packages
  pip install --index-url http://127.0.0.1:8080/simple/ PROJECT

  pypiserver-lite run --host 0.0.0.0 -P htpasswd.txt ./packages     for others too, who publish with a password
  pypiserver-lite run --fallback-mode cache ./packages              keep what comes from PyPI

Uploads need a password file (-P FILE); downloads are open unless -a says otherwise."""

_RUN_END = "Every option is an environment variable too: --cache-control is PYPISERVER_LITE_CACHE_CONTROL."


def run(argv: Sequence[str]) -> int:
    """``run``: serve until told to stop."""
    parser = config.make_parser("pypiserver-lite run", _RUN, _RUN_END)
    parser.usage = "%(prog)s [OPTIONS] [PACKAGES ...]"
    parser.add_argument("--version", action="version", version=VERSION)
    settings = config.load(parser, argv, os.environ)
    observe.set_up(settings)
    for remark in remarks(settings):
        observe.log.warning("%s", remark)
    with _there_to_stay():
        app = PypiServerLite(config=settings)
    app.bound()
    # For servers that make the application again, in processes of their own.
    os.environ.update(config.variables(settings))
    try:
        servers.run(
            "waitress" if settings.server in config.OTHER_SERVERS else settings.server,
            lambda: app,
            "pypiserver_lite.wsgi:make_served",
            _options(settings),
            lambda host, port: _announce(settings, host, port),
        )
    finally:
        app.close()
    return 0


_ASKING = ("cache_size", "cache_ttl", "fallback_rate", "fallback_host", "fallback_ca", "fallback_proxy", "netrc")
"""Settings of how this server asks an upstream."""


def remarks(settings: config.Config) -> Iterator[str]:
    """What may not be meant, and what has no effect."""
    if settings.server in config.OTHER_SERVERS:
        yield f"--server {settings.server}: waitress runs instead"
    if settings.backend is not None:
        yield f"--backend {settings.backend} has no effect: the folder is always kept indexed"
    idle: tuple[str, ...] = ("fallback_url", "fallback_mode", *_ASKING) if settings.disable_fallback else ()
    idle = idle or (_ASKING if settings.fallback_mode == "redirect" else ())
    if given := [name for name in idle if getattr(settings, name) != config.default(name)]:
        why = "--disable-fallback" if settings.disable_fallback else "--fallback-mode redirect"
        yield f"{', '.join(map(config.flag, given))}: without effect, for with {why} this server asks no upstream"
    for url in () if settings.disable_fallback else settings.fallback_url:
        if not url.endswith(("/simple/", "/+simple/")):
            yield f"--fallback-url {url!r}: this is asked for NAME/ below it; most indexes have that below /simple/"
    if settings.passwords == NO_PASSWORDS and not is_loopback(settings.host):
        yield (
            f"-P . -a . with --host {settings.host}: whoever reaches this port may publish and remove packages; "
            "name a password file with -P FILE, or listen on 127.0.0.1"
        )


@contextlib.contextmanager
def _there_to_stay() -> Iterator[None]:
    """Keep the collector of cycles from what is made meanwhile; a hundred thousand files are many objects."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _options(settings: config.Config) -> servers.Options:
    return servers.Options(
        host=settings.host,
        port=settings.port,
        threads=site.threads(settings),
        workers=settings.workers,
        connection_limit=settings.connection_limit,
        idle_timeout=settings.idle_timeout,
        max_header=settings.max_header,
        max_body=settings.max_upload,
        grace=settings.grace,
        trusted_proxy=settings.trusted_proxy,
        tls_cert=settings.tls_cert,
        tls_key=settings.tls_key,
    )


def _announce(settings: config.Config, host: str, port: int) -> None:
    if settings.quiet:
        return
    folders = ", ".join(str(path) for path in settings.packages)
    shown = f"[{host}]" if ":" in host else host
    note = " (this machine only; --host 0.0.0.0 lets others in)" if is_loopback(host) else ""
    scheme = "https" if settings.tls_cert else "http"
    print(f"pypiserver-lite {VERSION} serves {folders} on {scheme}://{shown}:{port}/{note}", flush=True)


_USER = """Set USER's password in the htpasswd file FILE, which is made if it is missing.

  pypiserver-lite passwd htpasswd.txt alice
  pypiserver-lite run -P htpasswd.txt ./packages

A running server reads the file again by itself."""


def passwd(argv: Sequence[str]) -> int:
    """``passwd``: set a user's password in a password file, or delete the user."""
    parser = config.make_parser("pypiserver-lite passwd", _USER, names=())
    parser.add_argument("file", metavar="FILE", type=Path, help="password file, as -P takes it")
    parser.add_argument("user", metavar="USER", help="the name to log in with")
    parser.add_argument(
        "--stdin", action="store_true", default=False, help="read the password from standard input, without asking"
    )
    parser.add_argument("--delete", action="store_true", default=False, help="delete the user instead")
    given = parser.parse_args(list(argv))
    if given.delete:
        delete_user(given.file, given.user)
        print(f"{given.user} deleted from {given.file}")
        return 0
    if given.stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = _ask(f"New password for {given.user}: ")
        if _ask("Once more: ") != password:
            raise ConfigError("the two passwords differ; nothing was changed")
    set_password(given.file, given.user, password)
    print(f"password of {given.user} set in {given.file}")
    return 0


def _ask(prompt: str) -> str:
    try:
        with warnings.catch_warnings():
            # What it would otherwise do: show the password, or read a pipe that is meant for another program.
            warnings.simplefilter("error", getpass.GetPassWarning)
            return getpass.getpass(prompt)
    except (getpass.GetPassWarning, EOFError) as error:
        raise ConfigError(
            "there is no terminal to ask for the password; give it by standard input, with --stdin"
        ) from error


_YANK = """Yank a release: installers pass over it, but for those who ask for exactly this version (PEP 592).

  pypiserver-lite yank acme-tools 1.0 ./packages --reason "loses data on Sundays"

The files stay where they are. A running server sees it at the next request."""

_UNYANK = """Take a yank back.

  pypiserver-lite unyank acme-tools 1.0 ./packages"""


def yank(argv: Sequence[str]) -> int:
    """``yank``: keep a release for those who pin it, and out of everybody else's way (PEP 592)."""
    parser = _release_parser("yank", _YANK)
    parser.add_argument("--reason", default="", metavar="TEXT", help="why; shown to whoever installs it all the same")
    return _yank(parser, argv, "yanked")


def unyank(argv: Sequence[str]) -> int:
    """``unyank``: undo ``yank``."""
    return _yank(_release_parser("unyank", _UNYANK), argv, "no longer yanked")


def _release_parser(verb: str, description: str) -> config.Parser:
    parser = config.make_parser(f"pypiserver-lite {verb}", description, names=["follow_links"])
    parser.add_argument("name", metavar="NAME", help="the project")
    parser.add_argument("version", metavar="VERSION", help="the release")
    parser.add_argument(
        "packages", nargs="*", default=[], metavar="PACKAGES", help="folders that are served (default: as for run)"
    )
    return parser


def _yank(parser: config.Parser, argv: Sequence[str], done: str) -> int:
    given = vars(parser.parse_intermixed_args(list(argv)))
    name, version, reason = given.pop("name"), given.pop("version"), given.pop("reason", None)
    given = {key: value for key, value in given.items() if value != []}
    settings = config.from_settings({**config.from_variables(os.environ, without=given), **given})
    with contextlib.closing(site.build_folder(settings)) as folder:
        for filename in folder.yank(normalize(name), version, reason):
            print(f"{filename}: {done}")
    return 0


_NAMES = """Show the names that are kept from the upstream though they have no files, or let them go.

A name that ever had a file in the packages folders stays this index's own: when its last file is gone, it is answered
with 404 instead of being looked for upstream, where anybody may have taken that name. This holds until you say:

  pypiserver-lite names list                which names are kept
  pypiserver-lite names release acme-lib    let it be looked for upstream again
  pypiserver-lite names release --all       all of them; also says that an empty folder is meant to be empty, where a
                                            server takes it for a disk that is not mounted and answers 503

Of several folders, name all as for run and in that order: --in ./a --in ./b. Running servers notice by themselves. The
names are written in .pypiserver-lite/names in the first packages folder."""


def names(argv: Sequence[str]) -> int:
    """``names``: list the names that are kept without files, or release them."""
    parser = config.make_parser("pypiserver-lite names", _NAMES, names=["cache_dir", "follow_links"])
    parser.add_argument("action", choices=("list", "release"), metavar="{list,release}", help="what to do")
    parser.add_argument("names", nargs="*", default=[], metavar="NAME", help="for release: which")
    parser.add_argument("--all", action="store_true", default=False, help="for release: all names without files")
    parser.add_argument("--json", action="store_true", default=False, help="for list: print a JSON array")
    parser.add_argument(
        "--in", dest="packages", action="append", metavar="PACKAGES", help="folder that is served (default: as for run)"
    )
    given = vars(parser.parse_intermixed_args(list(argv)))
    action, some, every, as_json = (given.pop(key) for key in ("action", "names", "all", "json"))
    if action == "list" and (some or every):
        raise ConfigError("names list takes no names; it shows them all")
    if action == "release" and bool(some) == every:
        raise ConfigError("names release needs either names or --all; 'names list' shows them")
    settings = config.from_settings({**config.from_variables(os.environ, without=given), **given})
    with contextlib.closing(site.build_folder(settings)) as folder:
        if action == "list":
            kept = folder.kept()
            print(json.dumps(kept) if as_json else "\n".join(kept), end="\n" if kept or as_json else "")
            return 0
        for name in folder.release(None if every else [normalize(name) for name in some]):
            print(f"{name}: released")
    return 0


_CACHE = """Look after what 'run --fallback-mode cache' keeps of the upstream.

  pypiserver-lite cache show                        how much there is
  pypiserver-lite cache prune --cache-size 5GB      remove what was of use longest ago, down to this size
  pypiserver-lite cache clear                       remove everything
  pypiserver-lite cache warm -r requirements.txt    fetch what installing these needs, before anybody asks

Name the same --cache-dir as for run, if you name one there."""

_CACHE_SETTINGS = (
    "cache_dir",
    "cache_size",
    "fallback_url",
    "fallback_rate",
    "fallback_host",
    "fallback_ca",
    "fallback_proxy",
    "netrc",
    "verbose",
    "quiet",
)


def cache(argv: Sequence[str]) -> int:
    """``cache``: show, prune, clear or fill what is kept of the upstream."""
    parser = config.make_parser("pypiserver-lite cache", _CACHE, names=_CACHE_SETTINGS)
    parser.usage = "%(prog)s {show,prune,clear,warm} [OPTIONS]"
    actions = ("show", "prune", "clear", "warm")
    parser.add_argument("action", choices=actions, metavar="{show,prune,clear,warm}", help="what to do")
    parser.add_argument("-r", "--requirements", metavar="FILE", type=Path, default=None, help="for warm: what to fetch")
    parser.add_argument("--every", action="store_true", default=False, help="for warm: all files of a release")
    given = vars(parser.parse_args(list(argv)))
    action, requirements, every = given.pop("action"), given.pop("requirements"), given.pop("every")
    settings = config.from_settings({**config.from_variables(os.environ), **given, "fallback_mode": "cache"})
    if action == "warm":
        if requirements is None:
            raise ConfigError("cache warm needs -r FILE, a requirements file such as pip freeze prints")
        return _warm(settings, requirements, every)
    store = site.build_cache(settings)
    if action == "show":
        usage = store.usage()
        limit = "" if usage.limit is None else f" of {_bytes(usage.limit)}"
        print(f"{store.root}: {usage.entries} entries, {_bytes(usage.size)}{limit}")
        for kind, (entries, size) in usage.kinds.items():
            print(f"  {kind:<10}{entries:>8}  {_bytes(size):>10}")
        return 0
    freed = cache_tools.clear(store) if action == "clear" else cache_tools.prune(store, settings.cache_size)
    print(f"{store.root}: {freed.entries} entries removed, {_bytes(freed.size)}")
    return 0


def _warm(settings: config.Config, requirements: Path, every: bool) -> int:
    from tqdm import tqdm

    observe.set_up(settings)
    remotes = site.build_remotes(settings)
    failed = 0
    # Drawn on a terminal only; in a pipe there is one line a file, and no bar.
    with tqdm(unit="step", disable=None, file=sys.stderr) as bar:
        for event in cache_tools.warm(Index(remotes), cache_tools.read_requirements(requirements), every=every):
            bar.total, bar.n = event.total, event.done
            bar.set_description_str(event.subject[:40])
            bar.refresh()
            failed += event.outcome == "failed"
            if event.outcome != "chosen":
                size = f" ({_bytes(event.size)})" if event.size else ""
                tqdm.write(f"{event.subject}: {event.outcome}{size}{f': {event.text}' if event.text else ''}")
    for remote in remotes:
        remote.close()
    return 1 if failed else 0


def _bytes(size: int) -> str:
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= step:
            return f"{size / step:.1f} {unit}"
    return f"{size} bytes"


_VERBS: Mapping[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "run": (run, "serve folders as an index (also without the verb)"),
    "passwd": (passwd, "set or delete a user's password in a password file"),
    "yank": (yank, "hide a release from all who do not ask for exactly it"),
    "unyank": (unyank, "undo a yank"),
    "names": (names, "show or release the names that are kept though their files are gone"),
    "cache": (cache, "show, prune, clear or fill what is kept of the upstream"),
}


def _help() -> str:
    lines = [f"  {verb:<10}{text}" for verb, (_, text) in _VERBS.items()]
    return "\n".join(
        [
            "usage: pypiserver-lite VERB ...",
            "",
            "A private Python package index.",
            "",
            *lines,
            "",
            "'pypiserver-lite VERB --help' explains one. To begin: pypiserver-lite run ./packages",
        ]
    )


_MEANT = {
    "adduser": "passwd",
    "help": "--help",
    "htpasswd": "passwd",
    "serve": "run",
    "server": "run",
    "start": "run",
    "version": "--version",
}
"""Words that others use as verbs, and what is meant here."""

_REMOVE = "remove the file from its folder, or hide a release with 'pypiserver-lite yank'; a running server sees both."
_UPLOAD = "publish with 'twine upload --repository-url http://HOST:PORT/ FILES'."
_INSTALL = "install with 'pip install --index-url http://HOST:PORT/simple/ PROJECT'."
_ELSEWHERE = {
    "delete": _REMOVE,
    "download": _INSTALL,
    "install": _INSTALL,
    "list": "a running server lists what it has at / and /simple/.",
    "publish": _UPLOAD,
    "push": _UPLOAD,
    "remove": _REMOVE,
    "rm": _REMOVE,
    "search": "a running server has a search at /search.",
    "update": "updating as pypiserver does is not here yet.",
    "upload": _UPLOAD,
}
"""Words that others use as verbs, and how it is done where it is no verb here."""


def _verb(words: list[str]) -> tuple[str, list[str]]:
    """The verb and the other words. As in pypiserver, options may stand before it, and it may be left out.

    Raises ConfigError for a word that looks like a verb and is none: a folder that is named so is served as ``./WORD``.
    """
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] != "--":
        at += 2 if words[at] in _VALUED else 1
    first = words[at] if at < len(words) else "run"
    if first in _VERBS:
        return first, words[:at] + words[at + 1 :]
    word = first.lower()
    near = [word] if word in _ELSEWHERE else difflib.get_close_matches(word, [*_VERBS, *_MEANT, "update"], 1, 0.75)
    near += [verb for verb in _VERBS if sorted(verb) == sorted(word)]
    if not near or not first.isalpha():
        return "run", words
    hint = _ELSEWHERE.get(near[0], f"did you mean 'pypiserver-lite {_MEANT.get(near[0], near[0])}'?")
    raise ConfigError(f"there is no verb {first!r}; {hint} A folder of that name is ./{first}")


_VALUED = {flag for setting in config.SETTINGS.values() if setting.takes_value for flag in setting.flags}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `argv` (default: this process's) and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words in (["-h"], ["--help"]):
        print(_help())
        return 0
    try:
        verb, words = _verb(words)
        return _VERBS[verb][0](words)
    except ConfigError as error:
        print(f"pypiserver-lite: {error}", file=sys.stderr)
        return 2
    except PypiServerLiteError as error:
        print(f"pypiserver-lite: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
