"""The one way to other people's servers.

What a page and a file go through, from above: `source` is asked. `pages` knows
projects, with `archive` on disk and `turns` at memory; `files` has the cache's
(`cache`, in its `room`), or what comes by `download` and is `arriving` while it
is `growing` there; `core_metadata` is found or made, where `parts` of files can
be had. `client` asks the upstream, by an `exchange` of requests and `replies`,
over `calls` that end in time, to `addresses` and by `ways` that are allowed.

They are imported where an upstream is really asked: redirecting to one needs
nothing but its address.
"""

from __future__ import annotations

import urllib.parse
import warnings


def default_upstream() -> str:
    """The address of the public index's simple pages, ending in a slash.

    It is the constant of a library, so that no address is spelled here.
    """
    with warnings.catch_warnings():
        # The library still speaks to the oldest Pythons; what newer ones say about that is not our users' concern.
        warnings.simplefilter("ignore")
        from distlib.index import DEFAULT_INDEX
    return urllib.parse.urljoin(str(DEFAULT_INDEX), "/simple/")
