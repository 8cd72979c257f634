# SPDX-License-Identifier: Apache-2.0
"""A connection to kvpaged, and what is asked about the daemon as a whole."""
from __future__ import annotations

import ctypes
import functools
import os
import threading
import time
import warnings
from typing import Any, Optional, Union

from . import _convert, _native
from ._lifeline import Lifeline, Owning
from .errors import error_for, status_of
from .events import EventCursor, Events
from .reader import Reader
from .records import Completion, ConfigItem, Evicted, Info, Resized, Stats, Verify
from .schema import Schema, text_bytes, uint32
from .space import Space

# No wait inside the library is longer: a signal (Ctrl-C) is seen between two.
WAIT_SLICE_S = 0.1
_REASON_BYTES = 512


class Client(Owning):
    """One connection; `with kvclient.Client() as client:` or close() ends it.

    socket None: $KVPAGED_SOCKET, else /run/kvpaged/kvpaged.sock. timeout: seconds without any answer, and for finding
    the daemon again when it was lost (None: 10). name is shown to operators. staging_bytes: memory to append through
    (None: 8 MiB). pins_max: blocks that all readers together may pin. reconnect False: a lost connection stays lost.

    May be used from any thread; calls are serialised by the library, those with a Reader are not. Raises NoDaemon when
    nobody listens.
    """

    def __init__(self, socket: Optional[Union[str, os.PathLike[str]]] = None, *, read_only: bool = False,
                 timeout: Optional[float] = None, name: Optional[str] = None, staging_bytes: Optional[int] = None,
                 pins_max: Optional[int] = None, verify: Verify = Verify.NEVER, reconnect: bool = True) -> None:
        library = _native.library()
        options = _native.Options(
            struct_bytes=ctypes.sizeof(_native.Options),
            socket_path=None if socket is None else _path_bytes(socket),
            client_name=None if name is None else text_bytes(name, "name"), staging_bytes=staging_bytes or 0,
            timeout_ms=0 if timeout is None else max(_convert.milliseconds(timeout, "timeout"), 1),
            flags=(_native.READ_ONLY if read_only else 0) | (0 if reconnect else _native.NO_RECONNECT),
            pins_max=uint32(pins_max or 0, "pins_max"), verify=Verify(verify))
        handle = ctypes.c_void_p()
        reason = ctypes.create_string_buffer(_REASON_BYTES)
        result = library.kvc_open(ctypes.byref(options), ctypes.byref(handle), reason, _REASON_BYTES)
        if result != 0:
            raise error_for(result, _convert.text_from(reason.value))
        self._library = library
        self._handle = handle
        # From a failing call to kvc_error(), so that the words are of this failure. The library serialises what takes
        # this lock anyway; calls with a reader do not take it.
        self._words = threading.RLock()
        self._life = Lifeline("client", functools.partial(library.kvc_close, handle))

    def close(self) -> None:
        """Ends the connection. Calls in progress in other threads end first, and so do views of pinned tiles."""
        self._life.close()

    @property
    def closed(self) -> bool:
        return self._life.closed

    def __del__(self) -> None:
        life = getattr(self, "_life", None)
        if life is not None and not life.closed and not life.foreign:
            warnings.warn("a kvclient.Client was not closed", ResourceWarning, source=self)
        super().__del__()

    # ---- How calls are made ----

    def _error(self, result: int) -> Exception:
        """The exception for a failure of the last call; with a reader, unless another thread failed since."""
        return error_for(result, _convert.text_from(self._library.kvc_error(self._handle)))

    def _ask(self, function: Any, *arguments: Any) -> None:
        """Calls, or raises. The caller is a user of the lifeline."""
        with self._words:
            result = function(*arguments)
            if result != 0:
                raise self._error(result)

    # ---- What it makes ----

    def space(self, name: str, schema: Optional[Schema] = None) -> Space:
        """Opens a space, registering it with the schema if it is new; without a schema, only if it is there."""
        return Space(self, name, schema)

    def reader(self) -> Reader:
        """A way for the calling thread to read resident blocks without asking the daemon."""
        return Reader(self)

    def drop_space(self, name: str) -> None:
        """Removes a space and all its blocks; SpaceError while another session has it open."""
        with self._life:
            self._ask(self._library.kvc_space_drop, self._handle, text_bytes(name, "name"))

    # ---- Completions of submit() ----

    def fileno(self) -> int:
        """A descriptor that is readable when reap() may have something; for select and event loops."""
        with self._life:
            descriptor: int = self._library.kvc_completion_fd(self._handle)
        if descriptor < 0:
            raise error_for(descriptor)
        return descriptor

    def reap(self, n: int = 64, *, timeout: float = 0.0) -> list[Completion]:
        """Up to n completions of submitted blocks, waiting so many seconds for the first."""
        completions = (_native.Completion * n)()
        count = ctypes.c_size_t()
        end = time.monotonic() + timeout
        while True:
            left = min(max(end - time.monotonic(), 0.0), WAIT_SLICE_S)
            with self._life:
                result = self._library.kvc_reap(self._handle, completions, n, int(left * 1000), ctypes.byref(count))
                if result != 0:
                    raise self._error(result)
            if count.value > 0 or left == 0:
                return [Completion(c.user_data, status_of(c.status), c.pages_stored, c.pages_present)
                        for c in completions[:count.value]]

    # ---- The daemon ----

    def info(self) -> Info:
        """Facts about the connection."""
        native = _native.Info()
        with self._life:
            self._ask(self._library.kvc_client_info, self._handle, ctypes.byref(native))
        return _convert.info_from(native)

    def evict(self, space: Optional[Space] = None, *, bytes: int = 0, blocks: int = 0) -> Evicted:
        """Evicts in the policy's order until so many bytes or blocks went (what is 0 does not bind; both 0: everything
        evictable), of one space or of any."""
        gone = ctypes.c_uint64()
        freed = ctypes.c_uint64()
        if bytes < 0 or blocks < 0:
            raise ValueError("bytes and blocks are not negative")
        with self._life:
            if space is None:
                self._evict(None, bytes, blocks, gone, freed)
            else:
                with space._life:
                    self._evict(space._handle, bytes, blocks, gone, freed)
        return Evicted(gone.value, freed.value)

    def _evict(self, space: Any, size: int, blocks: int, gone: Any, freed: Any) -> None:
        self._ask(self._library.kvc_evict, self._handle, space, size, blocks, ctypes.byref(gone),
                  ctypes.byref(freed))

    def resize(self, bytes: int, timeout: float = 30.0) -> Resized:
        """How much memory the daemon's arena may take, at most info().arena_bytes: what does not fit is evicted and the
        memory given back. Waits for that, at most timeout seconds; the daemon goes on afterwards."""
        if bytes < 0 or timeout < 0:
            raise ValueError("bytes and timeout are not negative")
        native = _native.Resized()
        with self._life:
            self._ask(self._library.kvc_resize, self._handle, bytes, int(timeout * 1000), ctypes.byref(native))
        return Resized(bool(native.is_done), *(getattr(native, name) for name in Resized._fields[1:]))

    def stats(self) -> Stats:
        """A snapshot, as the daemon answers it."""
        return self._stats(self._library.kvc_stats_get)

    def look(self) -> Stats:
        """A snapshot from the shared memory alone, with histograms; the daemon is not asked."""
        return self._stats(self._library.kvc_stats_look)

    def _stats(self, function: Any) -> Stats:
        native = ctypes.POINTER(_native.Stats)()
        with self._life:
            self._ask(function, self._handle, ctypes.byref(native))
        try:
            return _convert.stats_from(native.contents)
        finally:
            self._library.kvc_stats_free(native)

    def config(self) -> dict[str, ConfigItem]:
        """The daemon's configuration in effect."""
        items = ctypes.POINTER(_native.ConfigItem)()
        count = ctypes.c_size_t()
        with self._life:
            self._ask(self._library.kvc_config, self._handle, ctypes.byref(items), ctypes.byref(count))
        try:
            return {_convert.text_from(item.key):
                    ConfigItem(_convert.text_from(item.value), _convert.text_from(item.origin))
                    for item in items[:count.value]}
        finally:
            _native.libc_free()(items)

    def events(self, cursor: Optional[EventCursor] = None, *, timeout: Optional[float] = None) -> Events:
        """What happens to blocks, as it happens: an iterator from the cursor on (None: from now on), which ends when
        nothing happened for so many seconds (None: never). Each call of the library keeps the client to itself for a
        tenth of a second: who follows events opens a client of its own."""
        return Events(self, cursor, timeout)


def _path_bytes(path: Union[str, os.PathLike[str]]) -> bytes:
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise ValueError("socket has a NUL in it")
    return encoded
