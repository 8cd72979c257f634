# SPDX-License-Identifier: Apache-2.0
"""Between Python values and the C structs: keys, ranges, times, and what calls give back."""
from __future__ import annotations

import ctypes
from typing import Any, Optional, Sequence

from . import _native
from .errors import Fault, Status, status_of
from .records import BlockInfo, Fate, Histogram, Info, Key, SpaceStats, Stats, Why
from .schema import Schema, schema_from, uint32


def key_bytes(key: Key) -> bytes:
    """A key as the daemon keeps it; str is UTF-8."""
    if isinstance(key, str):
        encoded = key.encode("utf-8")
    elif isinstance(key, (bytes, bytearray, memoryview)):
        encoded = bytes(key)
    else:
        raise TypeError(f"a key is bytes or str, not {type(key).__name__}")
    if not 1 <= len(encoded) <= _native.KEY_BYTES_MAX:
        raise ValueError(f"a key has 1..{_native.KEY_BYTES_MAX} bytes, not {len(encoded)}")
    return encoded


def key_native(key: Key) -> _native.Key:
    encoded = key_bytes(key)
    return _native.Key(bytes=encoded, n=len(encoded))


def keys_native(keys: Sequence[Key]) -> Any:
    """An array of keys. One key instead of a sequence is a mistake that would go unnoticed: str is a sequence."""
    if isinstance(keys, (str, bytes, bytearray, memoryview)):
        raise TypeError("keys is a sequence of keys, not one key")
    array = (_native.Key * len(keys))()
    for place, key in zip(array, keys):
        encoded = key_bytes(key)
        place.bytes, place.n = encoded, len(encoded)
    return array


def _part(part: Optional[slice], total: int, what: str) -> tuple[int, int]:
    """Begin and count."""
    if part is None:
        return 0, total
    begin, end, step = part.indices(total)
    if step != 1 or end <= begin or (part.stop is not None and part.stop > total):
        raise ValueError(f"{what} {part} is no range within 0..{total}")
    return begin, end - begin


def range_native(schema: Schema, layers: Optional[slice], heads: Optional[slice]) -> _native.Range:
    """Of slices; ValueError for what is empty, outside, or cuts pages."""
    layer_begin, layer_count = _part(layers, schema.layers, "layers")
    head_begin, head_count = _part(heads, schema.kv_heads, "heads")
    if head_begin % schema.page_heads or head_count % schema.page_heads:
        raise ValueError(f"heads {heads} do not cover whole pages of {schema.page_heads} heads")
    return _native.Range(layer_begin, layer_count, head_begin, head_count)


def milliseconds(seconds: float, what: str) -> int:
    """At least 1 of what is more than 0: 0 means something else to the library."""
    if not seconds >= 0:
        raise ValueError(f"{what} is {seconds}")
    return min(uint32(int(seconds * 1000), what) + (0 < seconds < 0.001), 2**32 - 1)


def statuses(numbers: Sequence[int]) -> list[int]:
    return [status_of(number) for number in numbers]


def fault_from(status: int, native: _native.Fault) -> Optional[Fault]:
    if status not in (Status.NONFINITE, Status.VALUE_RANGE):
        return None
    return Fault(native.tensor.decode("ascii", "replace"), native.layer, native.head, native.token, native.channel)


def text_from(text: Optional[bytes]) -> str:
    return (text or b"").decode("utf-8", "replace")


def info_from(native: _native.Info) -> Info:
    return Info(native.session_id, native.incarnation, native.arena_bytes, native.staging_bytes, native.reconnects,
                native.lease_ttl_ms_max / 1000, native.pins_max, text_from(native.server_version))


def block_info_from(native: _native.ListItem) -> BlockInfo:
    return BlockInfo(bytes(native.key[:native.key_n]), native.tokens, native.pages_ready, native.page_count,
                     native.leases, native.children, native.priority, bool(native.is_root), native.stored_bytes,
                     native.idle_ms / 1000)


def fate_of(number: int) -> int:
    try:
        return Fate(number)
    except ValueError:
        return number


def why_from(native: _native.Why) -> Why:
    library = _native.library()
    return Why(fate_of(native.fate), text_from(library.kvc_fate_word(native.fate)),
               text_from(library.kvc_fate_text(native.fate)), native.ago_ms / 1000, native.tokens, native.pages_ready,
               native.page_count, native.leases, native.children, native.priority, native.stored_bytes,
               native.remembered, [text_from(native.elsewhere[i].value) for i in range(native.n_elsewhere)])


def _space_stats_from(native: _native.SpaceStats) -> SpaceStats:
    return SpaceStats(text_from(native.name), schema_from(native.schema), native.blocks, native.blocks_partial,
                      native.pages, native.tokens, native.logical_f16_bytes, native.logical_f32_bytes,
                      native.stored_bytes, native.overhead_bytes, native.sessions)


def stats_from(native: _native.Stats) -> Stats:
    counters = [native.counters[i] for i in range(native.n_counters)]
    spaces = [_space_stats_from(native.spaces[i]) for i in range(native.n_spaces)]
    histograms = [native.histograms[i] for i in range(native.n_histograms)]
    return Stats(native.incarnation, native.uptime_ms / 1000, text_from(native.server_version),
                 {text_from(counter.name): counter.value for counter in counters},
                 {space.name: space for space in spaces},
                 [Histogram(text_from(h.name), text_from(h.label), list(h.buckets), h.sum_ns) for h in histograms])


def status_array(n: int) -> Any:
    return (ctypes.c_int * n)()
