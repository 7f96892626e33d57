"""Which of the indexes of a file of settings a verb is about."""

from __future__ import annotations

import difflib

from ..config.indexes import ROOT
from ..config.load import Parser
from ..config.settings import Config
from ..errors import ConfigError


def add_index(parser: Parser) -> None:
    """Let a verb take ``--index NAME``."""
    parser.add_argument(
        "--index",
        metavar="NAME",
        default=ROOT,
        help="which index of the file of settings is meant (default: /, the one at the root)",
    )


def index_of(config: Config, word: str) -> str:
    """The name of the index that a word means: ``prod``, ``/prod/`` or ``/``. Raises ConfigError if there is none."""
    name = word.strip("/") or ROOT
    names = [ROOT, *config.indexes]
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
    where = f"in {config.file}" if config.file else "without a file of settings (--config FILE)"
    raise ConfigError(f"there is no index {word!r} {where}; {hint}")
