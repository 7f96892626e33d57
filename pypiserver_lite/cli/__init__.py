"""The command line: which verb is meant, and what its outcome means as an exit code.

0: done. 1: it could not be done. 2: the command itself is wrong (an option,
a folder, a file it names), said in one line. Nothing else here prints.
"""

from __future__ import annotations

import difflib
import io
import sys
from collections.abc import Callable, Mapping, Sequence

from ..config import settings
from ..errors import ConfigError, PypiServerLiteError
from .cached import cache
from .check import check
