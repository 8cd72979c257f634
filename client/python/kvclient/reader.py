# SPDX-License-Identifier: Apache-2.0
"""Reading resident blocks in place.

A Reader belongs to the thread that opened it, and so does unpinning what it pinned; Python's garbage collector knows
nothing of that and may end a Block in any thread. Such blocks wait in the reader's list of dead and are unpinned by its
own thread, at its next call.
"""
from __future__ import annotations

import collections
import ctypes
import functools
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from . import _native, _tensor
from ._lifeline import Lifeline, Owning
from .errors import Status, error_for
from .schema import DTYPES, Schema

if TYPE_CHECKING:
    from .client import Client


def free_part(client: Lifeline, function: Any, handle: Any) -> None:
    """Frees something of a client, unless the client is closed: then it is freed with it."""
    if client.enter_if_open():
        try:
            function(handle)
        finally:
            client.leave()


class Owner:
    """What the blocks of a reader need to know of it after it is gone: its thread, and those to unpin."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.dead: collections.deque[Any] = collections.deque()
        self.life: Lifeline

    def unpin(self, client: Lifeline, function: Any, handle: Any) -> None:
        if not self.life.enter_if_open():
            return  # the reader's end was the pin's end
        try:
            if threading.get_ident() == self.thread:
                free_part(client, function, handle)
            else:
                self.dead.append(handle)
        finally:
            self.life.leave()


class Reader(Owning):
    """One thread's way to find, match, fetch and pin blocks without a system call or a lock; see Client.reader().

    Only the thread that opened it may use it: RuntimeError elsewhere. close() may be called from any thread.
    """

    def __init__(self, client: Client) -> None:
        handle = ctypes.c_void_p()
        library = client._library
        with client._life:
            client._ask(library.kvc_reader_open, client._handle, ctypes.byref(handle))
            self._owner = Owner()
            self._life = Lifeline("reader", functools.partial(free_part, client._life, library.kvc_reader_close,
                                                              handle))
        self._owner.life = self._life
        self._client = client
        self._handle = handle

    def close(self) -> None:
        """Ends the reader and its pins; pins whose tiles are still looked at, when those views are gone."""
        self._life.close()

    @property
    def closed(self) -> bool:
        return self._life.closed or self._client.closed

    def _prepare(self, client: Client) -> None:
        """Before every call; the caller is a user of the lifeline."""
        if self._client is not client:
            raise ValueError("the reader and the space are of two clients")
        if threading.get_ident() != self._owner.thread:
            raise RuntimeError("a Reader belongs to the thread that opened it; open one for each thread")
        while self._owner.dead:
            client._library.kvc_unpin(self._owner.dead.popleft())


class _Hold:
    """Keeps the memory of a tile while an array shows it."""

    def __init__(self, block: Block) -> None:
        self._lives: list[Lifeline] = []
        for life in block._lives:
            life.__enter__()
            self._lives.append(life)

    def release(self) -> None:
        # The block first: it unpins while its reader and client are there.
        while self._lives:
            self._lives.pop().leave()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()


class Block(Owning):
    """A pinned block: its bytes stay in place until unpin(). `with space.pin(key, reader=reader) as block:`

    tile(), decode() and check() ask nobody and may be called from any thread.
    """

    def __init__(self, client: Client, owner: Optional[Owner], schema: Schema, key: bytes, handle: Any) -> None:
        unpin = client._library.kvc_unpin
        free = functools.partial(free_part, client._life, unpin, handle) if owner is None else \
            functools.partial(owner.unpin, client._life, unpin, handle)
        self._life = Lifeline("block", free)
        self._lives: list[Lifeline] = [client._life, self._life]
        if owner is not None:
            self._lives.insert(1, owner.life)
        self._client = client
        self._handle = handle
        self.key = key
        self.schema = schema
        self.tokens: int = client._library.kvc_block_tokens(handle)

    def unpin(self) -> None:
        """Ends the pin; more than once is fine. Views of tiles must not be used any more. They stay readable memory as
        long as they exist, and until then the block's pin lasts."""
        self._life.close()

    def check(self) -> bool:
        """Whether what was read since the block was pinned was the block. Call it after reading a tile and before using
        the result: a block may be deleted, and a pin may end with the session."""
        with _Hold(self):
            result: int = self._client._library.kvc_block_check(self._handle)
        if result < 0:
            raise error_for(result)
        return result == Status.OK

    def _tile(self, which: str, layer: int, head: int) -> _native.Tile:
        """The caller holds the block."""
        if which not in ("K", "V"):
            raise ValueError(f"which is 'K' or 'V', not {which!r}")
        if not (0 <= layer < self.schema.layers and 0 <= head < self.schema.kv_heads):
            raise IndexError(f"layer {layer}, head {head}: there are {self.schema.layers} layers and "
                             f"{self.schema.kv_heads} heads")
        tile = _native.Tile()
        result = self._client._library.kvc_block_tile(self._handle, which.encode(), layer, head, ctypes.byref(tile))
        if result != 0:
            raise error_for(result, f"block {self.key!r}, {which}, layer {layer}, head {head}: "
                            f"{error_for(result).message}")
        return tile

    def tile(self, which: str, layer: int, head: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The encoded K or V of a layer and head where it lies, as read-only bytes (docs/codecs.md has the formats).

        Not a copy: it is the block's until unpin(), which check() confirms. The array keeps the block in place.
        """
        hold = _Hold(self)
        tile = self._tile(which, layer, head)
        memory = (ctypes.c_uint8 * tile.n).from_address(tile.bytes)
        memory._hold = hold
        memory._block = self
        return np.frombuffer(memoryview(memory).toreadonly(), np.uint8)

    def decode(self, which: str, layer: int, head: int, out: Any = None, *, dtype: Optional[str] = None) -> Any:
        """K or V of a layer and head as [tokens, head_dim], in a new array of this dtype (None: the space's) or in the
        one given. Stale when the block died meanwhile."""
        with _Hold(self):
            tile = self._tile(which, layer, head)
            if out is None:
                dtype = dtype or self.schema.dtype
                out = _tensor.empty((tile.tokens, tile.head_dim), dtype)
            result = self._decode(tile, which, out, dtype)
        if result != 0:
            raise error_for(result, f"block {self.key!r}: {error_for(result).message}")
        return out

    def _decode(self, tile: _native.Tile, which: str, out: Any, dtype: Optional[str]) -> int:
        library = self._client._library
        if len(out.shape) != 2:
            raise ValueError(f"out has shape {tuple(out.shape)}, not [tokens, head_dim]")
        view = _tensor.view_of(out[None, None], "out", dtype=dtype, writable=True)
        _tensor.expect_shape(view, "out", 1, 1, tile.tokens, tile.head_dim)
        result: int = library.kvc_tile_decode(ctypes.byref(tile), which.encode(), view.address, DTYPES[view.dtype],
                                              view.strides[2])
        return result or library.kvc_block_check(self._handle)
