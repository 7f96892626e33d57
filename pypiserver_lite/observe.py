"""What the server says about itself: the log and its lines for requests.

Nothing a client sends reaches the log as it came: control characters are
escaped, so that a request cannot forge a line, and credentials are masked.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterable, Mapping
from http.client import responses

from .config.server import ServerSettings
from .errors import ConfigError

log = logging.getLogger("pypiserver_lite")
access = logging.getLogger("pypiserver_lite.access")
audit = logging.getLogger("pypiserver_lite.audit")
"""One line for each change, when it has ended, and for each refusal."""

_SECRET = frozenset({"HTTP_AUTHORIZATION", "HTTP_COOKIE", "HTTP_PROXY_AUTHORIZATION"})
_OURS = frozenset({"status", "size", "error", "ms"})
_LONGEST = 500  # characters of one value in a line
_TOKEN = re.compile("pypl_[A-Za-z0-9_-]{16,}", re.ASCII)  # one that was cut short by whoever copied it too


def check(settings: ServerSettings) -> logging.Formatter:
    """How lines of the log look. Raises ConfigError for a format that cannot be filled in."""
    for option, template in _formats(settings).items():
        try:
            fill(template, {"ms": 0})
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{option}: {error}; write %(NAME)s for a value, %% for a sign") from error
    try:
        formatter = logging.Formatter(settings.log_frmt)
        formatter.format(logging.LogRecord("name", logging.INFO, "file", 1, "message", (), None))
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"--log-frmt: {error}; Python's logging names what a line may hold") from error
    return formatter


def _formats(settings: ServerSettings) -> dict[str, str]:
    return {
        "--log-req-frmt": settings.log_req_frmt,
        "--log-res-frmt": settings.log_res_frmt,
        "--log-err-frmt": settings.log_err_frmt,
    }


def set_up(settings: ServerSettings) -> None:
    """Direct the log where the settings say. Called by the command line only: an embedder's logging is its own.

    Raises ConfigError for a log file that cannot be written and for a format that cannot be filled in.
    """
    formatter = check(settings)
    handlers: list[logging.Handler] = [logging.NullHandler()]
    if settings.log_file is not None:
        try:
            handlers.append(logging.FileHandler(settings.log_file, encoding="utf-8", errors="backslashreplace"))
        except OSError as error:
            raise ConfigError(f"--log-file {settings.log_file}: {error.strerror}") from error
    if settings.log_stream != "none":
        handlers.append(logging.StreamHandler(sys.stdout if settings.log_stream == "stdout" else sys.stderr))
    root = logging.getLogger()
    root.handlers[:] = handlers
    for handler in handlers:
        handler.setFormatter(formatter)
    level = logging.WARNING - 10 * min(settings.verbose, 2)
    root.setLevel(logging.ERROR if settings.quiet else level)
    # What was changed is said unasked: a line each.
    audit.setLevel(logging.ERROR if settings.quiet else logging.INFO)
    for option, template in _formats(settings).items():
        for name in re.findall(r"%\(([^)]*)\)", template):
            # WSGI's own names are upper-case; those of other kinds of values have a dot.
            if name not in _OURS and not re.fullmatch(r"[A-Z0-9_]+|\w+\..*", name):
                log.warning("%s: there is no value %a; it reads '-'", option, name)


def veiled(text: str) -> str:
    """A text from outside with nobody's token in it: some end up where a name is meant, and are good all the same."""
    return _TOKEN.sub("pypl_***", text)


def clean(text: object) -> str:
    """A text from outside as one printable line, bounded in length; a token in it reads ``pypl_***``."""
    return veiled(str(text))[:_LONGEST].encode("unicode_escape").decode("ascii")


class _Values(dict[str, object]):
    def __missing__(self, key: str) -> object:
        return "-"


def fill(template: str, values: Mapping[str, object]) -> str:
    """`template` with ``%(NAME)s`` filled in; a value that is not there reads ``-``, a secret one ``***``."""
    safe = _Values()
    for key, value in values.items():
        safe[key] = "***" if key in _SECRET else value if isinstance(value, int) else clean(value)
    return template % safe


def request_values(environ: Mapping[str, object], path: str | None = None) -> dict[str, object]:
    """What a log line may say of a request: the texts of its WSGI environment, and the `path` if it is another."""
    values: dict[str, object] = {key: value for key, value in environ.items() if isinstance(value, str)}
    if path is not None:
        values["PATH_INFO"] = path
    # The name that pypiserver's own formats use.
    values["bottle.request"] = f"{values.get('REQUEST_METHOD')} {values.get('PATH_INFO')}"
    return values


def note(
    settings: ServerSettings,
    values: dict[str, object],
    status: str,
    headers: Iterable[tuple[str, str]],
    error: str,
    began: float,
) -> None:
    """Log an answer to the request of `values` that came at `began` (`time.monotonic`), and ours as errors."""
    failed = status[:1] in "45"
    if failed:  # our own phrases are what is wrong, in short
        status = f"{status[:3]} {responses.get(int(status[:3]), '')}".rstrip()
    sizes = [value for name, value in headers if name.lower() == "content-length"]
    values.update(status=status, size=sizes[0] if sizes else "-", error=error)
    values["ms"] = int((time.monotonic() - began) * 1000)
    level = logging.ERROR if status[:1] == "5" else logging.INFO
    access.log(level, "%s", fill(settings.log_err_frmt if failed else settings.log_res_frmt, values))
