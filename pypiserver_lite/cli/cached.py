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
from ..index import Index, Way
from ..jobs.warm import clear, prune, read_requirements, warm
from .which import add_index, index_of

_CACHE = """Look after what 'run --fallback-mode cache' keeps of the upstream.

  pypiserver-lite cache show                        how much there is
  pypiserver-lite cache prune --cache-size 5GB      remove the least recently used, down to this size
  pypiserver-lite cache clear                       remove everything
  pypiserver-lite cache warm -r requirements.txt    fetch what installing these needs, before anybody asks

Name the same --cache-dir as for run, if you name one there, or the same --config. With a file of settings, warm fetches
what installing from the index --index NAME needs, from the upstreams that it has and by its policy."""

_CACHE_SETTINGS = (
    "config",
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
    parser = load.make_parser("pypiserver-lite cache", _CACHE, names=_CACHE_SETTINGS)
    parser.usage = "%(prog)s {show,prune,clear,warm} [OPTIONS]"
    add_index(parser)
    actions = ("show", "prune", "clear", "warm")
    parser.add_argument("action", choices=actions, metavar="{show,prune,clear,warm}", help="what to do")
    parser.add_argument("-r", "--requirements", metavar="FILE", type=Path, default=None, help="for warm: what to fetch")
    parser.add_argument("--every", action="store_true", default=False, help="for warm: all files of a release")
    given = vars(parser.parse_args(list(argv)))
    action, requirements, every, index = (given.pop(key) for key in ("action", "requirements", "every", "index"))
    config = load.gather(given, os.environ)
    name = index_of(config, index)
    if config.index.upstreams is None:  # what is kept has no other use
        config = dataclasses.replace(config, index=dataclasses.replace(config.index, fallback_mode="cache"))
    if action == "warm":
        if requirements is None:
            raise ConfigError("cache warm needs -r FILE, a requirements file such as pip freeze prints")
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
    if config.file is None:  # the folders need not be there
        remotes = site.build_remotes(config)
        ways = [Way(name=str(at), serves=lambda name: True, source=remote) for at, remote in enumerate(remotes)]
        index, owned = Index(ways=ways), list[site.Closable](remotes)
    else:
        sites = site.build_all(config)
        index, owned = sites.by_name[name].index, [sites]
    failed = 0
    # Drawn on a terminal only; in a pipe there is one line a file, and no bar.
    with tqdm(unit="step", disable=None, file=sys.stderr) as bar:
        for event in warm(index, read_requirements(requirements), every=every):
            bar.total, bar.n = event.total, event.done
            bar.set_description_str(event.subject[:40])
            bar.refresh()
            failed += event.outcome == "failed"
            if event.outcome != "chosen":
                size = f" ({shown_size(event.size)})" if event.size else ""
                tqdm.write(f"{event.subject}: {event.outcome}{size}{f': {event.text}' if event.text else ''}")
    for thing in owned:
        thing.close()
    return 1 if failed else 0
