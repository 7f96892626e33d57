"""``cache``: what is kept of the upstream."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import observe, site
from ..config import load
from ..config.settings import Config
from ..config.values import shown_size
from ..errors import ConfigError
from ..jobs.warm import clear, prune, read_requirements, warm
from .which import add_index, index_of

_CACHE = """Look after what 'run --fallback-mode cache' keeps of the upstream.

  pypiserver-lite cache show                        how much there is
  pypiserver-lite cache prune --cache-size 5GB      remove the least recently used, down to this size
  pypiserver-lite cache clear                       remove everything
  pypiserver-lite cache warm -r requirements.txt    fetch what installing these needs, before anybody asks

Name the same --cache-dir as for run, if you name one there, or the same --config. What the folders have or --private
reserves is not asked of the upstream by warm either: name both as for run, the folders by --in. With a file of
settings, warm fetches what installing from the index --index NAME needs, as that index has it."""

_CACHE_SETTINGS = (
    "config",
    "cache_dir",
    "cache_size",
    "follow_links",
    "private",
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
    parser = load.make_parser("pypiserver-lite cache", _CACHE, names=_CACHE_SETTINGS)
    parser.usage = "%(prog)s {show,prune,clear,warm} [OPTIONS]"
    add_index(parser)
    actions = ("show", "prune", "clear", "warm")
    parser.add_argument("action", choices=actions, metavar="{show,prune,clear,warm}", help="what to do")
    parser.add_argument("-r", "--requirements", metavar="FILE", type=Path, default=None, help="for warm: what to fetch")
    parser.add_argument("--every", action="store_true", default=False, help="for warm: all files of a release")
    parser.add_argument(
        "--in", dest="packages", action="append", metavar="PACKAGES", help="for warm: folder that is served, as for run"
    )
    given = vars(parser.parse_args(list(argv)))
    action, requirements, every, index = (given.pop(key) for key in ("action", "requirements", "every", "index"))
    config = load.gather(given, os.environ)
    name = index_of(config, index)
    if config.index.upstreams is None:  # what is kept has no other use
        config = dataclasses.replace(config, index=dataclasses.replace(config.index, fallback_mode="cache"))
    if action == "warm":
        if requirements is None:
            raise ConfigError("cache warm needs -r FILE, a requirements file such as pip freeze prints")
        if config.file is None and "packages" not in {**load.from_variables(os.environ), **given}:
            # A machine that only fills a cache has not the default folder; one that is named must be there.
            there = tuple(folder for folder in config.index.packages if not _is_missing(folder))
            config = dataclasses.replace(config, index=dataclasses.replace(config.index, packages=there))
        return _warm(config, name, requirements, every)
    store = site.build_cache(config)
    if action == "show":
        usage = store.usage()
        limit = "" if usage.limit is None else f" of {shown_size(usage.limit)}"
        print(f"{store.root}: {usage.entries} entries, {shown_size(usage.size)}{limit}")
        for kind, (entries, size) in usage.kinds.items():
            print(f"  {kind:<10}{entries:>8}  {shown_size(size):>10}")
        return 0
    freed = clear(store) if action == "clear" else prune(store, config.server.cache_size)
    print(f"{store.root}: {freed.entries} entries removed, {shown_size(freed.size)}")
    return 0


def _warm(config: Config, name: str, requirements: Path, every: bool) -> int:
    from tqdm import tqdm

    observe.set_up(config.server)
    failed = 0
    with site.online(config, name) as index, tqdm(unit="step", disable=None, file=sys.stderr) as bar:
        # Drawn on a terminal only; in a pipe there is one line a file, and no bar.
        for event in warm(index, read_requirements(requirements), every=every):
            bar.total, bar.n = event.total, event.done
            bar.set_description_str(event.subject[:40])
            bar.refresh()
            failed += event.outcome == "failed"
            if event.outcome != "chosen":
                size = f" ({shown_size(event.size)})" if event.size else ""
                tqdm.write(f"{event.subject}: {event.outcome}{size}{f': {event.text}' if event.text else ''}")
    return 1 if failed else 0


def _is_missing(folder: Path) -> bool:
    """Whether it is not there, for certain."""
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
