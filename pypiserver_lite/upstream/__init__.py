"""The one way to other people's servers.

`client` asks an upstream index for pages and files, `addresses` decides where
a connection may lead, `rate` counts and paces, `ranged` reads the end of a
far away wheel, `download` brings a file into the cache while others read it
already. They are imported where an upstream is really asked: redirecting to
one needs nothing but its address.
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
