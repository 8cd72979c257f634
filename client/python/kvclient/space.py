# SPDX-License-Identifier: Apache-2.0
"""A space: blocks of one model's K and V, stored, found and read."""
from __future__ import annotations

import contextlib
import ctypes
import functools
from typing import TYPE_CHECKING, Any, Iterator, Optional, Sequence

from . import _convert, _native, _tensor
from ._lifeline import Lifeline, Owning
from .errors import Status, error_for, status_of
from .reader import Block, Reader, free_part
from .records import Append, Appended, BlockInfo, Fetched, Forecast, Key, Why, append_error
from .schema import Schema, schema_from, text_bytes, uint32

if TYPE_CHECKING:
    from .client import Client

_LIST_BATCH = 256


class Space(Owning):
    """Made by Client.space(). Usable from any thread.

    Where a method takes a reader, None asks the daemon. layers and heads are slices; heads must cover whole pages
    (schema.page_heads heads each); None is all.
    """

    def __init__(self, client: Client, name: str, schema: Optional[Schema]) -> None:
        handle = ctypes.c_void_p()
        library = client._library
        native = None if schema is None else ctypes.byref(schema._native())
        with client._life:
            client._ask(library.kvc_space_open, client._handle, text_bytes(name, "name"), native,
                        ctypes.byref(handle))
            self._life = Lifeline("space", functools.partial(free_part, client._life, library.kvc_space_close,
                                                             handle))
            self.schema = schema_from(library.kvc_space_schema(handle).contents)
        self.name = name
        self.client = client
        self._library = library
        self._handle = handle

    def close(self) -> None:
        """Closes this handle; blocks stay, pins too."""
        self._life.close()

    @contextlib.contextmanager
    def _using(self, reader: Optional[Reader]) -> Iterator[Any]:
        """What a call with or without a reader needs; gives the reader's handle or None."""
        with self.client._life, self._life:
            if reader is None:
                yield None
            else:
                with reader._life:
                    reader._prepare(self.client)
                    yield reader._handle

    def _read(self, reader: Optional[Reader], function: Any, *arguments: Any) -> None:
        """A call that takes a reader: with one, no lock is taken."""
        if reader is None:
            self.client._ask(function, *arguments)
            return
        result = function(*arguments)
        if result != 0:
            raise self.client._error(result)

    # ---- Append ----

    def _append_native(self, block: Append, native: _native.Append) -> list[Any]:
        """Fills the struct; gives what must live as long as it does."""
        schema = self.schema
        native.key = _convert.key_native(block.key)
        if block.parent is not None:
            native.parent = _convert.key_native(block.parent)
        native.range = _convert.range_native(schema, block.layers, block.heads)
        layers, heads = native.range.layer_count, native.range.head_count
        views = [_tensor.view_of(block.k, "k", dtype=block.dtype)]
        tokens = views[0].shape[2] if block.tokens is None else block.tokens
        if not 1 <= tokens <= (schema.block_tokens or 0):
            raise ValueError(f"a block of this space has 1..{schema.block_tokens} tokens, not {tokens}")
        _tensor.expect_shape(views[0], "k", layers, heads, tokens, schema.head_dim_k)
        native.tokens = tokens
        native.k = views[0].native()
        if schema.head_dim_v:
            if block.v is None:
                raise ValueError("v is missing, and the space has V")
            views.append(_tensor.view_of(block.v, "v", dtype=block.dtype))
            _tensor.expect_shape(views[1], "v", layers, heads, tokens, schema.head_dim_v)
            native.v = views[1].native()
        elif block.v is not None:
            raise ValueError("v is given, and the space has no V")
        return views

    def append(self, blocks: Sequence[Append], *, strict: bool = False) -> list[Appended]:
        """Encodes and stores blocks in order, so that one may name the one before it as parent.

        The outcome of each is in its status: a cache may refuse one for good reasons (no space, no parent), and values
        that cannot be stored (NaN, infinity, too large) are found here. strict: raises for the first that is not ok,
        after all were tried. Raises at once, with nothing stored, for wrong shapes and types.
        """
        if isinstance(blocks, Append):
            raise TypeError("blocks is a sequence of Append")
        natives = (_native.Append * len(blocks))()
        held = [self._append_native(block, native) for block, native in zip(blocks, natives)]
        with self._using(None):
            self.client._ask(self._library.kvc_append, self._handle, natives, len(blocks))
        del held
        results = [Appended(_convert.key_bytes(block.key), status_of(native.status), native.pages_stored,
                            native.pages_present, _convert.fault_from(native.status, native.fault))
                   for block, native in zip(blocks, natives)]
        for result in results if strict else []:
            result.raise_for_status()
        return results

    def put(self, key: Key, k: Any, v: Any = None, *, parent: Optional[Key] = None,
            dtype: Optional[str] = None) -> None:
        """Stores one whole block, or raises."""
        self.append([Append(key, k, v, parent=parent, dtype=dtype)], strict=True)

    def submit(self, block: Append, user_data: int = 0) -> None:
        """As append(), without waiting: the arrays are free again on return, the outcome comes through Client.reap()
        with user_data. Raises StagingFull when completions must be reaped first, BadValue for values that cannot be
        stored."""
        native = _native.Append()
        if not 0 <= user_data < 2**64:
            raise ValueError("user_data is a number of 64 bits")
        held = self._append_native(block, native)
        with self._using(None), self.client._words:
            result = self._library.kvc_submit(self._handle, ctypes.byref(native), user_data)
            fault = _convert.fault_from(result, native.fault)
            if fault is not None:
                raise append_error(result, _convert.key_bytes(block.key), fault)
            if result != 0:
                raise self.client._error(result)
        del held

    # ---- Look up and read ----

    def match(self, keys: Sequence[Key], *, reader: Optional[Reader] = None, layers: Optional[slice] = None,
              heads: Optional[slice] = None) -> int:
        """How many of the keys, from the first on, are resident with every page; they are marked as used."""
        native = _convert.keys_native(keys)
        wanted = _convert.range_native(self.schema, layers, heads)
        matched = ctypes.c_size_t()
        with self._using(reader) as handle:
            self._read(reader, self._library.kvc_match, self._handle, handle, native, len(keys),
                       ctypes.byref(wanted), ctypes.byref(matched))
        return matched.value

    def find(self, key: Key, reader: Reader, *, layers: Optional[slice] = None,
             heads: Optional[slice] = None) -> int:
        """Status.OK, MISS or PARTIAL; the block is not marked as used."""
        native = _convert.key_native(key)
        wanted = _convert.range_native(self.schema, layers, heads)
        with self._using(reader) as handle:
            result: int = self._library.kvc_find(self._handle, handle, ctypes.byref(native), ctypes.byref(wanted))
            if result not in (Status.OK, Status.MISS, Status.PARTIAL):
                raise self.client._error(result)
        return status_of(result)

    def fetch(self, keys: Sequence[Key], *, out: Optional[tuple[Any, Any]] = None,
              into: Optional[Sequence[tuple[Any, Any]]] = None, layers: Optional[slice] = None,
              heads: Optional[slice] = None, dtype: Optional[str] = None, reader: Optional[Reader] = None,
              strict: bool = False) -> Fetched:
        """Decodes blocks into one K and one V array, the i-th block from token i * block_tokens on.

        New arrays of numpy, of this dtype (None: the space's; bf16 comes as uint16), unless out=(k, v) gives them:
        numpy arrays or CPU tensors [layers, heads, at least len(keys) * block_tokens, head_dim], None where K or V is
        not wanted. into=[(k, v), ...] gives a pair for each key instead. Blocks that cannot be read have their reason
        in the result's statuses; strict raises for the first.
        """
        natives, held, out = self._fetch_natives(keys, out, into, layers, heads, dtype)
        if len(keys) > 0:
            with self._using(reader) as handle:
                self._read(reader, self._library.kvc_fetch, self._handle, handle, natives, len(keys))
        del held
        result = self._fetched(keys, natives, out)
        if strict:
            result.raise_for_status()
        return result

    def fetch_layers(self, keys: Sequence[Key], *, out: Optional[tuple[Any, Any]] = None,
                     into: Optional[Sequence[tuple[Any, Any]]] = None, layers: Optional[slice] = None,
                     heads: Optional[slice] = None, dtype: Optional[str] = None,
                     reader: Optional[Reader] = None) -> Iterator[tuple[int, Fetched]]:
        """fetch() in steps: yields each layer when it is in the arrays, so that computing can begin with the first
        while others are loaded from the daemon's tier. A block's status says whether all its layers so far came."""
        natives, held, out = self._fetch_natives(keys, out, into, layers, heads, dtype)
        wanted = _convert.range_native(self.schema, layers, heads)
        fetching = ctypes.c_void_p()
        layer = ctypes.c_uint32()
        with self._using(reader) as handle:
            self._read(reader, self._library.kvc_fetch_begin, self._handle, handle, natives, len(keys),
                       ctypes.byref(fetching))
        try:
            for _ in range(wanted.layer_count):
                with self._using(reader):
                    self._read(reader, self._library.kvc_fetch_next, fetching, ctypes.byref(layer))
                yield layer.value, self._fetched(keys, natives, out)
        finally:
            self._library.kvc_fetch_end(fetching)
            del held

    def forecast(self, keys: Sequence[Key], *, layers: Optional[slice] = None,
                 heads: Optional[slice] = None) -> Forecast:
        """What a fetch of this prefix would find, and how long loading from the daemon's tier would take."""
        native = _native.Forecast()
        wanted = _convert.range_native(self.schema, layers, heads)
        with self._using(None):
            self._read(None, self._library.kvc_forecast, self._handle, _convert.keys_native(keys), len(keys),
                       ctypes.byref(wanted), ctypes.byref(native))
        return Forecast(native.resident, native.loadable, native.load_us / 1e6)

    def prefetch(self, keys: Sequence[Key], *, layers: Optional[slice] = None,
                 heads: Optional[slice] = None) -> list[int]:
        """Has blocks brought up from the daemon's tier, and returns when that has begun: for each key Status.OK
        (resident, or on its way), or why not."""
        statuses = (ctypes.c_int * len(keys))()
        wanted = _convert.range_native(self.schema, layers, heads)
        with self._using(None):
            self._read(None, self._library.kvc_prefetch, self._handle, _convert.keys_native(keys), len(keys),
                       ctypes.byref(wanted), statuses)
        return _convert.statuses(list(statuses))

    def _fetch_natives(self, keys: Sequence[Key], out: Optional[tuple[Any, Any]],
                       into: Optional[Sequence[tuple[Any, Any]]], layers: Optional[slice], heads: Optional[slice],
                       dtype: Optional[str]) -> tuple[Any, list[Any], Optional[tuple[Any, Any]]]:
        """The structs, what must live as long as they do, and the arrays of all blocks, made where none were given."""
        if out is not None and into is not None:
            raise ValueError("out and into exclude each other")
        natives = (_native.Fetch * len(keys))()
        wanted = _convert.range_native(self.schema, layers, heads)
        for native, key in zip(natives, _convert.keys_native(keys)):
            native.key, native.range = key, wanted
        if into is not None:
            return natives, self._place_each(natives, into, dtype), out
        out = self._allocate(wanted, len(keys), dtype) if out is None else out
        return natives, self._place_all(natives, out, dtype), out

    def _fetched(self, keys: Sequence[Key], natives: Any, out: Optional[tuple[Any, Any]]) -> Fetched:
        k, v = (None, None) if out is None else out
        return Fetched([_convert.key_bytes(key) for key in keys],
                       _convert.statuses([native.status for native in natives]),
                       [native.tokens for native in natives], self.schema.block_tokens, k, v)

    def _allocate(self, wanted: _native.Range, n: int, dtype: Optional[str]) -> tuple[Any, Any]:
        schema = self.schema
        shape = (wanted.layer_count, wanted.head_count, n * schema.block_tokens)
        name = dtype or schema.dtype
        return (_tensor.empty((*shape, schema.head_dim_k), name),
                _tensor.empty((*shape, schema.head_dim_v), name) if schema.head_dim_v else None)

    def _target(self, array: Any, which: str, wanted: _native.Range, blocks: int,
                dtype: Optional[str]) -> Optional[_tensor.View]:
        """The array as room for so many blocks."""
        if array is None:
            return None
        schema = self.schema
        dim = schema.head_dim_k if which == "k" else schema.head_dim_v
        if not dim:
            raise ValueError("the space has no V")
        if dtype is None and _tensor.is_uint16(array):
            dtype = "bf16"  # nothing else can be meant
        view = _tensor.view_of(array, which, dtype=dtype, writable=True)
        _tensor.expect_shape(view, which, wanted.layer_count, wanted.head_count, blocks * schema.block_tokens, dim)
        return view

    def _place_all(self, natives: Any, out: tuple[Any, Any], dtype: Optional[str]) -> list[Any]:
        if len(natives) == 0:
            return []
        views = [self._target(array, which, natives[0].range, len(natives), dtype)
                 for array, which in zip(out, "kv")]
        for i, native in enumerate(natives):
            for view, which in zip(views, "kv"):
                if view is not None:
                    setattr(native, which, view.native(i * self.schema.block_tokens))
        return views

    def _place_each(self, natives: Any, into: Sequence[tuple[Any, Any]], dtype: Optional[str]) -> list[Any]:
        if len(into) != len(natives):
            raise ValueError(f"into has {len(into)} pairs for {len(natives)} keys")
        held = []
        for native, pair in zip(natives, into):
            for array, which in zip(pair, "kv"):
                view = self._target(array, which, native.range, 1, dtype)
                held.append(view)
                if view is not None:
                    setattr(native, which, view.native())
        return held

    def pin_many(self, keys: Sequence[Key], *, reader: Optional[Reader] = None, ttl: Optional[float] = None,
                 layers: Optional[slice] = None, heads: Optional[slice] = None
                 ) -> tuple[list[Optional[Block]], list[int]]:
        """Pins blocks for reading in place: a Block or None for each key, and a status. With a reader nobody is asked;
        without one the pin is a lease, for ttl seconds (None: the daemon's default)."""
        native = _convert.keys_native(keys)
        wanted = _convert.range_native(self.schema, layers, heads)
        handles = (ctypes.c_void_p * len(keys))()
        numbers = _convert.status_array(len(keys))
        if reader is not None and ttl is not None:
            raise ValueError("a reader's pins have no ttl")
        with self._using(reader) as handle:
            if reader is not None:
                self._read(reader, self._library.kvc_pin, self._handle, handle, native, len(keys),
                           ctypes.byref(wanted), handles, numbers)
            else:
                self._read(None, self._library.kvc_lease, self._handle, native, len(keys), ctypes.byref(wanted),
                           0 if ttl is None else max(_convert.milliseconds(ttl, "ttl"), 1), handles, numbers)
            owner = None if reader is None else reader._owner
            blocks = [Block(self.client, owner, self.schema, _convert.key_bytes(key), ctypes.c_void_p(place))
                      if place else None for key, place in zip(keys, handles)]
        return blocks, _convert.statuses(numbers)

    def pin(self, key: Key, *, reader: Optional[Reader] = None, ttl: Optional[float] = None,
            layers: Optional[slice] = None, heads: Optional[slice] = None) -> Block:
        """As pin_many() for one block; Missing when it is not there."""
        blocks, numbers = self.pin_many([key], reader=reader, ttl=ttl, layers=layers, heads=heads)
        if blocks[0] is None:
            raise error_for(numbers[0], f"block {_convert.key_bytes(key)!r}: {error_for(numbers[0]).message}")
        return blocks[0]

    # ---- Removing and keeping ----

    def _on_keys(self, function: Any, keys: Sequence[Key], *arguments: Any) -> list[int]:
        native = _convert.keys_native(keys)
        numbers = _convert.status_array(len(keys))
        with self._using(None):
            self.client._ask(function, self._handle, native, len(keys), *arguments, numbers)
        return _convert.statuses(numbers)

    def delete(self, keys: Sequence[Key]) -> list[int]:
        """Removes each block and all that descend from it: Status.OK or MISS for each key."""
        return self._on_keys(self._library.kvc_delete, keys)

    def touch(self, keys: Sequence[Key]) -> list[int]:
        """Marks blocks as used now: Status.OK or MISS for each key."""
        return self._on_keys(self._library.kvc_touch, keys)

    def keep(self, keys: Sequence[Key], ttl: float, *, priority: int = 1) -> list[int]:
        """For ttl seconds evicts these only when nothing of lower priority (1..15; others have 0) can be."""
        if not ttl > 0:
            raise ValueError(f"ttl is {ttl}")
        return self._on_keys(self._library.kvc_keep, keys, uint32(priority, "priority"),
                             max(_convert.milliseconds(ttl, "ttl"), 1))

    def unkeep(self, keys: Sequence[Key]) -> list[int]:
        """Takes keep() back: Status.OK or MISS for each key."""
        return self._on_keys(self._library.kvc_unkeep, keys)

    # ---- Looking around ----

    def why(self, key: Key) -> Why:
        """What became of a block: resident, evicted, deleted, never stored, ..."""
        native = _convert.key_native(key)
        found = _native.Why()
        with self._using(None):
            self.client._ask(self._library.kvc_why, self._handle, ctypes.byref(native), ctypes.byref(found))
        return _convert.why_from(found)

    def list(self) -> Iterator[BlockInfo]:
        """The space's blocks in no order; those that come or go meanwhile may or may not be among them."""
        items = (_native.ListItem * _LIST_BATCH)()
        cursor = ctypes.c_uint64()
        count = ctypes.c_size_t()
        while True:
            with self._using(None):
                self.client._ask(self._library.kvc_list, self._handle, ctypes.byref(cursor), items, _LIST_BATCH,
                                 ctypes.byref(count))
            yield from [_convert.block_info_from(item) for item in items[:count.value]]
            if cursor.value == 0:
                return
