"""What can go wrong, by meaning.

Every error carries one sentence for the person at the other end: what is
wrong and what to do. It never holds a path of the server, a password or a
traceback. HTTP status numbers stand in one table in ``web``, exit codes in
``cli``; nothing here knows either.
"""

from __future__ import annotations


class PypiServerLiteError(Exception):
    """Root of all errors this package raises on purpose; ``str()`` is the sentence to show."""


class ConfigError(PypiServerLiteError):
    """A setting, file or folder the operator named cannot be used; the text names the flag and the fix."""


class Unfinished(ConfigError):
    """The settings cannot be used, but what is missing may be about to come, or be there where the server runs."""


class Invalid(PypiServerLiteError):
    """The request itself is wrong; repeating it unchanged cannot help."""


class TooLarge(Invalid):
    """The request's body is larger than this index accepts."""


class NotAcceptable(Invalid):
    """No form we can produce fits what the client accepts (RFC 9110 section 15.5.7)."""


class Missing(PypiServerLiteError):
    """The thing asked for is not here, and nobody else will be asked."""


class Hidden(Missing):
    """The thing asked for is here, and a rule of the policy does not let it be seen."""


class Unseen(Missing):
    """Whoever asks may not change this, nor list it: they hear no more than of what is not here.

    `action` and `project` are what is refused.
    """

    def __init__(self, message: str, *, action: str, project: str) -> None:
        super().__init__(message)
        self.action, self.project = action, project


class Conflict(PypiServerLiteError):
    """The request would replace something that must stay, for instance a file of the same name."""


class Denied(PypiServerLiteError):
    """Whoever asks may not do this.

    `challenge` is true when (other) credentials could help: the answer then
    invites the client to send them (RFC 9110 section 11.6.1). `action` and
    `project` are what is refused, where that is known.
    """

    def __init__(self, message: str, *, challenge: bool = False, action: str = "", project: str = "") -> None:
        super().__init__(message)
        self.challenge = challenge
        self.action, self.project = action, project


class TooMany(PypiServerLiteError):
    """This client asks too often; `retry_after` says for how many seconds it should wait."""

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(PypiServerLiteError):
    """We cannot say or do this now, through no fault of the client: an upstream or a disk failed."""


class Late(Unavailable):
    """An upstream did not answer within its time."""


class Busy(Unavailable):
    """Too much is under way at once; asking again shortly will help."""


class Undecided(Unavailable):
    """A rule of the policy cannot tell yet whether this may be seen: what it goes by is not found out, or cannot be."""


class ReadOnly(Unavailable):
    """The packages folder cannot be written to."""


class DiskFailed(Unavailable):
    """A disk does not do now what is asked of it: no handles left, no permission, a fault."""


class NoSpace(Unavailable):
    """The disk that should hold this is full."""


class Loop(Unavailable):
    """The request has passed through this server before: two indexes point at each other."""
