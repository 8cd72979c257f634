# SPDX-License-Identifier: Apache-2.0
"""K and V of [batch, heads, seq, dim], packed and kept outside of this process: `BitPackedKVCache`, `PagedKVCache`.

    cache = BitPackedKVCache(num_bits=6, page_size_kb=32)
    packed = cache.compress_kv(k, v)            # numpy arrays or CPU tensors of torch
    print(packed.nbytes, packed.compression_ratio)
    k, v = cache.decompress_kv(packed)

The pages lie in the arena of a kvpaged: the one that runs on this machine, or, when none answers, a private one that is
started as a child of this process (a warning says so, once) and ends with the process or with the last cache.

This is a cache. A daemon whose arena is full evicts; these pages are kept before ordinary blocks, but when
they must go decompress_kv() raises Missing and says what became of them.
"""
from __future__ import annotations

import math
import os
import re
import threading
import weakref
from types import TracebackType
from typing import Any, Optional, Union

from . import _private, _tensor
from .client import Client
from .errors import BadValue, KvError, Missing, NoDaemon, Status, error_for
from .records import Append
from .schema import CODECS, DTYPE_BYTES, Schema, number_of
from .space import Space

Codec = Union[str, tuple[str, str]]

_BITS = (4, 5, 6, 8)
_PAGE_KB_MIN, _PAGE_KB_MAX = 16, 64
_BLOCK_TOKENS = (128, 64, 256)  # the first is what the codecs' figures are for
_NEAR = math.sqrt(2)
_KEEP_PRIORITY = 8
_ARENA_BYTES = 1 << 30
_MODEL = "kvclient.paged"


def bits_per_value(codec: str, which: str, tokens: int, head_dim: int) -> float:
    """What a value takes in memory, scales included: the sentence at enum kvc_codec in client/kvclient.h."""
    number_of(CODECS, codec, "codec")
    if codec in DTYPE_BYTES:
        return DTYPE_BYTES[codec] * 8.0
    parts = re.fullmatch(r"[qt](\d)(?:g(\d+))?", codec)
    assert parts is not None
    if which == "K":
        return int(parts[1]) + 32 / tokens
    return int(parts[1]) + (8 / int(parts[2]) if parts[2] else 32 / head_dim)


def choose_page(codec: tuple[str, str], heads: int, dim_k: int, dim_v: int, page_bytes: int) -> tuple[int, int]:
    """Tokens in a block and heads in a page, so that a full page is as near to page_bytes as can be. Blocks have 128
    tokens unless 64 or 256 come nearer and 128 is off by more than a factor of 1.4."""
    def off(tokens: int, page_heads: int) -> float:
        bits = dim_k * bits_per_value(codec[0], "K", tokens, dim_k)
        bits += dim_v * bits_per_value(codec[1], "V", tokens, dim_v)
        return abs(math.log(page_heads * tokens * bits / 8 / page_bytes))

    divisors = [n for n in range(1, heads + 1) if heads % n == 0]
    best = [min((off(tokens, n), i, tokens, n) for n in divisors) for i, tokens in enumerate(_BLOCK_TOKENS)]
    chosen = best[0] if best[0][0] <= math.log(_NEAR) else min(best)
    return chosen[2], chosen[3]


class CompressedKV:
    """What compress_kv() made: K and V in pages of a daemon. They go when this object goes, or with free()."""

    def __init__(self, cache: BitPackedKVCache, space: Space, keys: list[bytes], k: _tensor.View,
                 v: _tensor.View) -> None:
        self.shape_k = k.shape
        self.shape_v = v.shape
        self.dtype = k.dtype
        self.original_nbytes = sum(math.prod(x.shape) * DTYPE_BYTES[x.dtype] for x in (k, v))
        self._cache = cache
        self._space = space
        self._keys = keys
        self._torch = _tensor.is_torch(k.owner)
        self._nbytes: Optional[int] = None
        self._finalizer = weakref.finalize(self, _delete, space, keys)
        cache._live.add(self)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed pages, scales included, as the daemon counts them."""
        if self._nbytes is None:
            found = [self._space.why(key) for key in self._keys]
            for key, why in zip(self._keys, found):
                if not why.page_count or why.pages_ready != why.page_count:
                    raise Missing(Status.MISS, f"page block {key.hex()} is gone: {why.text}")
            self._nbytes = sum(why.stored_bytes for why in found)
        return self._nbytes

    @property
    def compression_ratio(self) -> float:
        """How many times smaller than the arrays that were given."""
        return self.original_nbytes / self.nbytes

    @property
    def pages(self) -> int:
        """How many pages it takes."""
        schema = self._space.schema
        return len(self._keys) * schema.layers * (schema.kv_heads // schema.page_heads)

    def free(self) -> None:
        """Gives the pages back; more than once is fine."""
        self._finalizer()


def _delete(space: Space, keys: list[bytes]) -> None:
    """The first block takes those that follow it along. What cannot be asked any more goes with its daemon."""
    try:
        space.delete(keys[:1])
    except (KvError, ValueError):
        pass


class BitPackedKVCache:
    """Packs K and V to num_bits (4, 5, 6 or 8) and keeps them in pages of about page_size_kb (16 to 64).

    A page holds K and V of some heads over the tokens of a block, of one batch entry: page_size_kb decides how many
    heads (and, where that does not come near, whether a block has 64, 128 or 256 tokens). trellis: codecs with less
    error that take longer to pack. codec: a name of kvclient.CODECS for both, or a pair for K and V, instead of
    num_bits. client: a connection to use (and to leave open); None: of its own, to `socket`, or to the default daemon,
    or to a private one with an arena of arena_bytes.

    May be used from any thread.
    """

    def __init__(self, num_bits: int = 6, page_size_kb: int = 32, *, client: Optional[Client] = None,
                 codec: Optional[Codec] = None, trellis: bool = False,
                 socket: Optional[Union[str, os.PathLike[str]]] = None, arena_bytes: int = _ARENA_BYTES) -> None:
        if num_bits not in _BITS:
            raise ValueError(f"num_bits is {num_bits}, not one of {', '.join(map(str, _BITS))}")
        if not _PAGE_KB_MIN <= page_size_kb <= _PAGE_KB_MAX:
            raise ValueError(f"page_size_kb is {page_size_kb}, not {_PAGE_KB_MIN}..{_PAGE_KB_MAX}")
        name = f"{'t' if trellis else 'q'}{num_bits}" if codec is None else codec
        self.codec = (name, name) if isinstance(name, str) else name
        for one in self.codec:
            number_of(CODECS, one, "codec")
        self.page_size_kb = page_size_kb
        self._spaces: dict[str, Space] = {}
        self._live: weakref.WeakSet[CompressedKV] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._own = client is None
        self.private = False
        self.client = self._connect(socket, arena_bytes) if client is None else client
        self._keep_s = self._keep_limit()
        self._closer = weakref.finalize(self, _close, self.client if self._own else None, self.private, self._spaces,
                                        self._live)

    def _connect(self, socket: Optional[Union[str, os.PathLike[str]]], arena_bytes: int) -> Client:
        try:
            return Client(socket)
        except NoDaemon as error:
            if socket is not None:
                raise  # that very one was asked for
            client = _private.acquire(arena_bytes, error)
            self.private = True
            return client

    def _keep_limit(self) -> float:
        """The longest time that the daemon keeps blocks with priority."""
        return duration(self.client.config()["block.keep_ttl_ms_max"].value)

    def close(self) -> None:
        """Gives all pages back, and ends the connection and the private daemon if they are this cache's."""
        self._closer()

    def __enter__(self) -> BitPackedKVCache:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.close()

    def _space(self, k: _tensor.View, v: _tensor.View) -> Space:
        """The space for this shape; whoever packs the same shape the same way shares it, with keys of his own."""
        batch, heads, _, dim_k = k.shape
        tokens, page_heads = choose_page(self.codec, heads, dim_k, v.shape[3], self.page_size_kb << 10)
        name = f"{_MODEL}-b{batch}-h{heads}-k{dim_k}-v{v.shape[3]}-{k.dtype}-{'-'.join(self.codec)}-" \
            f"t{tokens}-p{page_heads}"
        with self._lock:
            if name not in self._spaces:
                self._spaces[name] = self.client.space(name, Schema(
                    _MODEL, layers=batch, kv_heads=heads, head_dim_k=dim_k, head_dim_v=v.shape[3], dtype=k.dtype,
                    codec_k=self.codec[0], codec_v=self.codec[1], block_tokens=tokens, page_heads=page_heads))
            return self._spaces[name]

    def compress_kv(self, k: Any, v: Any, *, dtype: Optional[str] = None) -> CompressedKV:
        """Packs K and V of [batch, heads, seq, dim]; dtype "bf16" for uint16 arrays of numpy that are bfloat16.

        ValueError, with the place, for NaN, infinity, and what is beyond 65504 (the codecs keep f16 scales); Full when
        the daemon has no room. Then nothing is kept.
        """
        view_k = _tensor.view_of(k, "k", dtype=dtype)
        view_v = _tensor.view_of(v, "v", dtype=dtype)
        if view_k.shape[:3] != view_v.shape[:3] or view_k.dtype != view_v.dtype:
            raise ValueError(f"k is {view_k.dtype} {list(view_k.shape)} and v {view_v.dtype} {list(view_v.shape)}: "
                             "type, batch, heads and seq must be the same")
        if 0 in view_k.shape + view_v.shape:
            raise ValueError(f"k has shape {list(view_k.shape)}, v {list(view_v.shape)}: there is nothing to pack")
        space = self._space(view_k, view_v)
        size = space.schema.block_tokens
        stem = os.urandom(16)
        keys = [stem + i.to_bytes(4, "big") for i in range(-(-view_k.shape[2] // size))]
        blocks = [Append(key, k[:, :, i * size:(i + 1) * size], v[:, :, i * size:(i + 1) * size],
                         parent=keys[i - 1] if i else None, dtype=dtype) for i, key in enumerate(keys)]
        packed = CompressedKV(self, space, keys, view_k, view_v)
        try:
            for i, result in enumerate(space.append(blocks)):
                if result.fault is not None:
                    raise self._bad_value(result.status, result.fault._replace(token=result.fault.token + i * size))
                result.raise_for_status()
            space.keep(keys, self._keep_s, priority=_KEEP_PRIORITY)
        except BaseException:
            packed.free()
            raise
        return packed

    @staticmethod
    def _bad_value(status: int, fault: Any) -> BadValue:
        place = f"{fault.tensor}[{fault.layer}, {fault.head}, {fault.token}, {fault.channel}]"
        return BadValue(status, f"{error_for(status).message}: {place} (batch, head, position, channel)", fault)

    def decompress_kv(self, packed: CompressedKV) -> tuple[Any, Any]:
        """K and V in the shape, type and kind of array (numpy or torch) that were given. Missing when they are gone."""
        if packed._cache is not self:
            raise ValueError("this was compressed by another cache")
        k = _like(packed.shape_k, packed)
        v = _like(packed.shape_v, packed)
        space = packed._space
        size = space.schema.block_tokens
        whole = packed.shape_k[2] // size
        statuses = space.fetch(packed._keys[:whole], out=(k, v), dtype=packed.dtype).statuses if whole else []
        rest = packed.shape_k[2] - whole * size
        if rest:
            # A destination has room for all tokens that a block may have.
            room_k, room_v = (_like((*s[:2], size, s[3]), packed) for s in (packed.shape_k, packed.shape_v))
            last = space.fetch(packed._keys[whole:], dtype=packed.dtype, out=(room_k, room_v))
            k[:, :, whole * size:] = last.k[:, :, :rest]
            v[:, :, whole * size:] = last.v[:, :, :rest]
            statuses += last.statuses
        for key, status in zip(packed._keys, statuses):
            if status != Status.OK:
                raise self._gone(space, key, status)
        return k, v

    @staticmethod
    def _gone(space: Space, key: bytes, status: int) -> KvError:
        token = int.from_bytes(key[16:], "big") * space.schema.block_tokens
        return error_for(status, f"the pages of tokens from {token} on are gone: {space.why(key).text}")


def _like(shape: tuple[int, ...], packed: CompressedKV) -> Any:
    if not packed._torch:
        return _tensor.empty(shape, packed.dtype)
    return _tensor.empty_torch(shape, packed.dtype)


def duration(text: str) -> float:
    """Seconds of a setting: "24h", "500ms"."""
    units = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "": 0.001}
    parts = re.fullmatch(r"(\d+)([a-z]*)", text)
    if parts is None or parts[2] not in units:
        raise ValueError(f"{text!r} is no time")
    return int(parts[1]) * units[parts[2]]


def _close(client: Optional[Client], private: bool, spaces: dict[str, Space],
           live: weakref.WeakSet[CompressedKV]) -> None:
    """Without a reference to the cache. A space that others have open, or a client that is closed, stays as it is."""
    for packed in list(live):
        packed.free()
    for name, space in spaces.items():
        try:
            space.close()
            if client is not None:
                client.drop_space(name)
        except (KvError, ValueError):
            pass
    spaces.clear()
    if client is not None:
        client.close()
    if private:
        _private.release()


class PagedKVCache:
    """K and V by page number: allocate_page(k, v) -> id, fetch_page(id) -> (k, v), free_page(id), memory().

    What is called a page here is one call's worth, of any number of tokens: K and V of [batch, heads, seq, dim] or
    [heads, seq, dim]. Arguments as of BitPackedKVCache.
    """

    def __init__(self, num_bits: int = 6, page_size_kb: int = 32, **options: Any) -> None:
        self._cache = BitPackedKVCache(num_bits, page_size_kb, **options)
        self._pages: dict[int, tuple[CompressedKV, bool]] = {}
        self._lock = threading.Lock()
        self._next = 0

    @property
    def client(self) -> Client:
        return self._cache.client

    def close(self) -> None:
        """Gives all pages back."""
        with self._lock:
            pages, self._pages = self._pages, {}
        for packed, _ in pages.values():
            packed.free()
        self._cache.close()

    def __enter__(self) -> PagedKVCache:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._pages)

    def allocate_page(self, k: Any, v: Any, *, dtype: Optional[str] = None) -> int:
        """Packs and keeps K and V; errors as of compress_kv()."""
        flat = len(k.shape) == 3
        if flat:
            k, v = k[None], v[None]
        packed = self._cache.compress_kv(k, v, dtype=dtype)
        with self._lock:
            self._next += 1
            self._pages[self._next] = packed, flat
            return self._next

    def _page(self, page_id: int) -> tuple[CompressedKV, bool]:
        with self._lock:
            if page_id not in self._pages:
                raise KeyError(f"there is no page {page_id}")
            return self._pages[page_id]

    def fetch_page(self, page_id: int) -> tuple[Any, Any]:
        """K and V of the page; KeyError for a number that is none, Missing for pages that the daemon evicted."""
        packed, flat = self._page(page_id)
        k, v = self._cache.decompress_kv(packed)
        return (k[0], v[0]) if flat else (k, v)

    def free_page(self, page_id: int) -> None:
        """Gives it back; KeyError for a number that is none."""
        packed, _ = self._page(page_id)
        with self._lock:
            self._pages.pop(page_id, None)
        packed.free()

    def memory(self) -> dict[str, float]:
        """pages; bytes: packed, as the daemon counts them; original_bytes: as they were given; ratio."""
        with self._lock:
            pages = list(self._pages.values())
        packed = sum(page.nbytes for page, _ in pages)
        original = sum(page.original_nbytes for page, _ in pages)
        return {"pages": len(pages), "bytes": packed, "original_bytes": original,
                "ratio": original / packed if packed else 0.0}
