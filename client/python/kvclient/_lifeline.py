# SPDX-License-Identifier: Apache-2.0
"""When a C object may be freed.

A Lifeline counts who is using a C object: calls in progress, in any thread, and arrays that show its memory. close()
ends it for new users at once; it is freed by close() itself or, when it is in use then, by the last user. So nothing
that Python can do (closing in the middle of a call in another thread, keeping a view, collecting garbage in any order)
reaches memory that is gone.

__del__ methods call close() at arbitrary points of arbitrary threads, so the lock is reentrant and nothing waits while
it is held. In a child after fork() nothing is locked (another thread may have held the lock), and what was in use at
that time is left alone.
"""
from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Callable, Optional, TypeVar

from .errors import forked

_Self = TypeVar("_Self", bound="Owning")


class Lifeline:
    """Used as a context manager it is one user; ValueError when closed."""

    def __init__(self, what: str, free: Callable[[], None]) -> None:
        self._what = what
        self._free: Optional[Callable[[], None]] = free
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._users = 0
        self.closed = False

    @property
    def foreign(self) -> bool:
        """Whether this is a child of the process that made it."""
        return os.getpid() != self._pid

    def __enter__(self) -> None:
        if self.foreign:
            raise forked()
        with self._lock:
            if self.closed:
                raise ValueError(f"the {self._what} is closed")
            self._users += 1

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.leave()

    def leave(self) -> None:
        """One user less."""
        if self.foreign:
            return
        with self._lock:
            self._users -= 1
            free = self._take_free()
        if free is not None:
            free()

    def enter_if_open(self) -> bool:
        """Whether it became a user; for what is to be done only while the object is there."""
        if self.foreign:
            return False
        with self._lock:
            if self.closed:
                return False
            self._users += 1
            return True

    def close(self) -> None:
        """Ends it; more than once is fine."""
        if self.foreign:
            free = None if self.closed or self._users > 0 else self._free
            self.closed, self._free = True, None
        else:
            with self._lock:
                self.closed = True
                free = self._take_free()
        if free is not None:
            free()

    def _take_free(self) -> Optional[Callable[[], None]]:
        """What frees the object, once, when it is closed and nobody uses it."""
        if not self.closed or self._users > 0:
            return None
        free, self._free = self._free, None
        return free


class Owning:
    """A Python object with a C object behind it, whose Lifeline is `_life`: that ends with the `with` block or when the
    garbage collector takes the object. (The method that ends it has another name in each class.)"""

    _life: Lifeline

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self._life.close()

    def __del__(self) -> None:
        life = getattr(self, "_life", None)  # None: __init__ failed
        if life is not None:
            life.close()
