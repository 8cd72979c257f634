# SPDX-License-Identifier: Apache-2.0
"""Outcomes and exceptions.

What the C library tells of a single block is a `Status` in a result. What makes a whole call fail is raised as a
`KvError` with that status and the library's words. Failures of the system below are `OSError`s as well, of the usual
kinds, so `except ConnectionError` and `except TimeoutError` do what one expects.
"""
from __future__ import annotations

import enum
import errno
import os
from typing import Any, NamedTuple, Optional

from . import _native


class Status(enum.IntEnum):
    """Outcomes, as enum kvc_status of the header."""

    OK = 0
    MISS = 1
    PRESENT = 2
    PARTIAL = 3
    NO_SPACE = 4
    NO_PARENT = 5
    CONFLICT = 6
    CORRUPT = 7
    QUOTA = 8
    BUSY = 9
    STALE = 10
    SCHEMA = 11
    NO_SPACE_NAMED = 12
    RANGE = 13
    INVALID = 14
    PROTOCOL = 15
    VERSION = 16
    UNSUPPORTED = 17
    PERMISSION = 18
    STOPPING = 19
    NONFINITE = 20
    VALUE_RANGE = 21
    TOO_MANY = 22

    @property
    def text(self) -> str:
        """The library's sentence for it."""
        return strerror(self)


class Fault(NamedTuple):
    """Where the value stands that could not be stored; layer and head are the model's."""

    tensor: str
    layer: int
    head: int
    token: int
    channel: int

    def __str__(self) -> str:
        return f"{self.tensor}, layer {self.layer}, head {self.head}, token {self.token}, channel {self.channel}"


class KvError(Exception):
    """A call failed. `status` is a positive Status or a negative errno, `message` says what happened."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> Any:
        return type(self), (self.status, self.message)


class Missing(KvError):
    """The block is not there, or not all of it (MISS, PARTIAL, NO_PARENT)."""


class Stale(KvError):
    """The block died, or the daemon restarted, while it was being read."""


class Corrupt(KvError):
    """A checksum did not match."""


class Full(KvError):
    """No room: the arena is full, a quota is used up, or there are too many of something."""


class SpaceError(KvError):
    """No such space, dropped, busy, or registered with another schema."""


class Conflict(KvError):
    """The block exists with other tokens or another parent."""


class BadValue(KvError, ValueError):
    """A value is NaN, infinite, or beyond the codec's range; `fault` says where, if the library did."""

    def __init__(self, status: int, message: str, fault: Optional[Fault] = None) -> None:
        super().__init__(status, message)
        self.fault = fault

    def __reduce__(self) -> Any:
        return type(self), (self.status, self.message, self.fault)


class Invalid(KvError, ValueError):
    """An argument is malformed or out of range."""


class NotAllowed(KvError):
    """A read-only client, or something that this user may not do."""


class KvOSError(KvError, OSError):
    """The system below failed; `errno` is set as in every OSError."""

    def __init__(self, status: int, message: str) -> None:
        KvError.__init__(self, status, message)
        self.errno = -status
        self.strerror = message


class NoDaemon(KvOSError, ConnectionError):
    """Nobody listens on the socket."""


class ConnectionLost(KvOSError, ConnectionError):
    """The daemon went away and did not come back in time."""


class TimedOut(KvOSError, TimeoutError):
    """The daemon did not answer within the client's timeout."""


class Forked(KvOSError, ChildProcessError):
    """The client belongs to the parent process; after fork() the child opens its own."""


class StagingFull(KvOSError, BlockingIOError):
    """submit() found no room in the staging memory: reap completions first."""


class AccessDenied(KvOSError, PermissionError):
    """This user may not open the socket."""


_BY_STATUS: dict[int, type[KvError]] = {
    Status.MISS: Missing, Status.PARTIAL: Missing, Status.NO_PARENT: Missing, Status.NO_SPACE: Full,
    Status.CONFLICT: Conflict, Status.CORRUPT: Corrupt, Status.QUOTA: Full, Status.TOO_MANY: Full,
    Status.BUSY: SpaceError, Status.STALE: Stale, Status.SCHEMA: SpaceError, Status.NO_SPACE_NAMED: SpaceError,
    Status.RANGE: Invalid, Status.INVALID: Invalid, Status.PERMISSION: NotAllowed, Status.NONFINITE: BadValue,
    Status.VALUE_RANGE: BadValue,
    -errno.ENOENT: NoDaemon, -errno.ECONNREFUSED: NoDaemon, -errno.ENOTCONN: ConnectionLost,
    -errno.ECONNRESET: ConnectionLost, -errno.EPIPE: ConnectionLost, -errno.ETIMEDOUT: TimedOut,
    -errno.ECHILD: Forked, -errno.EAGAIN: StagingFull, -errno.EACCES: AccessDenied, -errno.EPERM: AccessDenied,
}


def strerror(result: int) -> str:
    """The library's sentence for a status or a negative errno."""
    text: bytes = _native.library().kvc_strerror(result)
    return text.decode("utf-8", "replace")


def status_of(number: int) -> int:
    """A Status where the number is one, so that it prints as a name; else the number (a negative errno)."""
    try:
        return Status(number)
    except ValueError:
        return number


def error_for(status: int, message: str = "") -> KvError:
    """The exception for a result, with the message or else the library's sentence."""
    kind = _BY_STATUS.get(status, KvOSError if status < 0 else KvError)
    return kind(status_of(status), message or strerror(status))


def forked() -> KvError:
    """What is raised where a client is used in a child of its process, without asking the library."""
    return Forked(-errno.ECHILD, f"the client belongs to another process than {os.getpid()}: after fork() the child "
                  "opens its own")
