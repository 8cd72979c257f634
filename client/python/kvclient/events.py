# SPDX-License-Identifier: Apache-2.0
"""Following what happens to blocks."""
from __future__ import annotations

import collections
import ctypes
import dataclasses
import enum
import time
from typing import TYPE_CHECKING, Optional

from . import _convert, _native

if TYPE_CHECKING:
    from .client import Client

_BATCH = 512
_SLICE_MS = 100


class EventKind(enum.IntEnum):
    """The negative ones are said by the cursor, not by the daemon."""

    RESTARTED = -2
    LOST = -1
    STORED = 1
    REMOVED = 2
    CLEARED = 3


@dataclasses.dataclass(frozen=True)
class Event:
    """STORED: a block is complete. REMOVED: it cannot be found any more, reason says why. CLEARED: a space is gone.
    LOST: so many events are forgotten. RESTARTED: the daemon is another process, blocks may be gone."""

    kind: int
    number: int = 0
    space: str = ""
    key: bytes = b""
    tokens: int = 0
    reason: int = 0
    lost: int = 0


@dataclasses.dataclass
class EventCursor:
    """Where a follower is; may be stored and used again later, by another client too. EventCursor(): at the oldest that
    the daemon remembers. EventCursor.now(): only what is yet to happen."""

    incarnation: int = 0
    after: int = 0

    @classmethod
    def now(cls) -> EventCursor:
        return cls(0, _native.EVENTS_FROM_NOW)


class Events:
    """An iterator over events. `cursor` stands behind the last one that was handed out."""

    def __init__(self, client: Client, cursor: Optional[EventCursor], timeout: Optional[float]) -> None:
        self.cursor = EventCursor.now() if cursor is None else cursor
        self._client = client
        self._timeout = timeout
        self._native = _native.EventCursor(incarnation=self.cursor.incarnation, after=self.cursor.after)
        self._events = (_native.Event * _BATCH)()
        self._waiting: collections.deque[Event] = collections.deque()
        if self.cursor.after == _native.EVENTS_FROM_NOW:
            self._ask(0)  # what happens between this call and the first next() belongs to it

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> Event:
        end = None if self._timeout is None else time.monotonic() + self._timeout
        while not self._waiting:
            left = _SLICE_MS if end is None else int(max(end - time.monotonic(), 0) * 1000)
            self._ask(min(left, _SLICE_MS))
            if not self._waiting and end is not None and time.monotonic() >= end:
                raise StopIteration
        event = self._waiting.popleft()
        if event.kind > 0:
            self.cursor.after = event.number
        return event

    def _ask(self, timeout_ms: int) -> None:
        count = ctypes.c_size_t()
        client = self._client
        with client._life:
            client._ask(client._library.kvc_events, client._handle, ctypes.byref(self._native), self._events, _BATCH,
                        timeout_ms, ctypes.byref(count))
        if self._native.restarted:
            self._waiting.append(Event(EventKind.RESTARTED))
        if self._native.lost:
            self._waiting.append(Event(EventKind.LOST, lost=self._native.lost))
        self.cursor.incarnation = self._native.incarnation
        if count.value == 0:
            self.cursor.after = self._native.after
        self._waiting.extend(_event_from(native) for native in self._events[:count.value])


def _event_from(native: _native.Event) -> Event:
    try:
        kind: int = EventKind(native.kind)
    except ValueError:
        kind = native.kind
    return Event(kind, native.number, _convert.text_from(native.space), bytes(native.key[:native.key_n]),
                 native.tokens, _convert.fate_of(native.reason))
