"""What is wrong with settings, said in the words of whoever wrote them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import ConfigError
from .indexes import ROOT
from .settings import SETTINGS, Config, flag

_SHORT = ("-P", "-a")  # those that messages name
_NAMES = {word: name for name, row in SETTINGS.items() for word in row.flags if word.startswith("--") or word in _SHORT}
_FLAG = re.compile(rf"(?<![\w./-])({'|'.join(map(re.escape, _NAMES))})(?![\w-])(?: (FILE|\.)(?![\w./]))?")


@contextmanager
def told(config: Config, name: str = ROOT) -> Iterator[None]:
    """Say of what an index cannot use in which line of the file it stands, or in which variable.

    Messages name flags, which is what most give; who gave none would look for them in vain.
    """
    try:
        yield
    except ConfigError as error:
        said = _as_written(config, name, str(error))
        if said == str(error):
            raise
        raise type(error)(said) from error


def _as_written(config: Config, name: str, said: str) -> str:
    if config.file is not None and said.startswith(str(config.file)):
        return said  # who knew better said so already
    first = _FLAG.match(said)
    place = config.origins.get((name, _NAMES[first[1]])) if first else None
    if place is not None and first is not None and not place.startswith("-"):
        return place + _worth(first) + _FLAG.sub(lambda flag: _called(config, flag), said[first.end() :])
    if first is None and said.startswith("the packages folder") and name == ROOT:
        place = config.origins.get((ROOT, "packages"))
    elif place is None:
        place = config.places.get(name)
    else:
        place = None
    said = _FLAG.sub(lambda flag: _called(config, flag), said)
    return said if place is None or place == flag("packages") else f"{place}: {said}"


def _called(config: Config, found: re.Match[str]) -> str:
    """A setting that a message names: its key if there is a file, unless a flag or variable gives it."""
    key = _NAMES[found[1]]
    place = config.origins.get((ROOT, key), "")
    if config.file is None or place.startswith("-"):
        return found[0] if place == "" or place.startswith("-") else place + _worth(found)
    return key + _worth(found)


def _worth(found: re.Match[str]) -> str:
    return f' = "{found[2]}"' if found[2] else ""
