# SPDX-License-Identifier: Apache-2.0
"""What client/kvclient.h declares, for ctypes: structs, prototypes, and where the library is found.

Nothing here decides anything; tests/test_header.py compares every number, offset and function with the header. The
library is loaded when it is first needed, so that the package can be imported without it. ctypes releases the GIL
during every call.
"""
from __future__ import annotations

import ctypes
import functools
import os
from ctypes import POINTER, c_char, c_char_p, c_int, c_int64, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from typing import Any

SONAME = "libkvclient.so.0"
# The library's own rule: versions with the same first two numbers go together.
VERSION = "0.1"

KEY_BYTES_MAX = 64
NAME_BYTES_MAX = 128
WHY_ELSEWHERE_MAX = 8
HISTOGRAM_BUCKETS = 22
EVENTS_FROM_NOW = 2**64 - 1
READ_ONLY = 1
NO_RECONNECT = 2
NO_SPIN = 4


class Options(ctypes.Structure):
    _fields_ = [("struct_bytes", c_size_t), ("socket_path", c_char_p), ("client_name", c_char_p),
                ("staging_bytes", c_uint64), ("timeout_ms", c_uint32), ("flags", c_uint32), ("pins_max", c_uint32),
                ("verify", c_uint32)]


class Info(ctypes.Structure):
    _fields_ = [("session_id", c_uint64), ("incarnation", c_uint64), ("arena_bytes", c_uint64),
                ("staging_bytes", c_uint64), ("reconnects", c_uint64), ("lease_ttl_ms_max", c_uint32),
                ("pins_max", c_uint32), ("server_version", c_char * 32)]


class Schema(ctypes.Structure):
    _fields_ = [("model", c_char_p), ("revision", c_char_p), ("dtype", c_uint32), ("layers", c_uint32),
                ("kv_heads", c_uint32), ("head_dim_k", c_uint32), ("head_dim_v", c_uint32),
                ("block_tokens", c_uint32), ("codec_k", c_uint32), ("codec_v", c_uint32), ("page_heads", c_uint32)]


class Key(ctypes.Structure):
    # bytes is only ever given: as c_char_p ctypes keeps the Python object, and n says where it ends.
    _fields_ = [("bytes", c_char_p), ("n", c_size_t)]


class Tensor(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("dtype", c_uint32), ("stride_layer", c_int64), ("stride_head", c_int64),
                ("stride_token", c_int64)]


class Range(ctypes.Structure):
    _fields_ = [("layer_begin", c_uint32), ("layer_count", c_uint32), ("head_begin", c_uint32),
                ("head_count", c_uint32)]


class Fault(ctypes.Structure):
    _fields_ = [("tensor", c_char), ("layer", c_uint32), ("head", c_uint32), ("token", c_uint32),
                ("channel", c_uint32)]


class Append(ctypes.Structure):
    _fields_ = [("key", Key), ("parent", Key), ("tokens", c_uint32), ("range", Range), ("k", Tensor), ("v", Tensor),
                ("status", c_int), ("fault", Fault), ("pages_stored", c_uint32), ("pages_present", c_uint32)]


class Completion(ctypes.Structure):
    _fields_ = [("user_data", c_uint64), ("status", c_int), ("pages_stored", c_uint32), ("pages_present", c_uint32)]


class Fetch(ctypes.Structure):
    _fields_ = [("key", Key), ("range", Range), ("k", Tensor), ("v", Tensor), ("status", c_int),
                ("tokens", c_uint32)]


class Forecast(ctypes.Structure):
    _fields_ = [("resident", c_size_t), ("loadable", c_size_t), ("load_us", c_uint64)]


class Tile(ctypes.Structure):
    _fields_ = [("bytes", c_void_p), ("n", c_size_t), ("codec", c_uint32), ("tokens", c_uint32),
                ("head_dim", c_uint32)]


class Resized(ctypes.Structure):
    _fields_ = [("is_done", c_int), ("bytes", c_uint64), ("held_bytes", c_uint64), ("asked_bytes", c_uint64),
                ("evicted_blocks", c_uint64), ("evicted_bytes", c_uint64), ("moved_bytes", c_uint64),
                ("discarded_bytes", c_uint64)]


class Counter(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("value", c_uint64)]


class SpaceStats(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("schema", Schema), ("blocks", c_uint64), ("blocks_partial", c_uint64),
                ("pages", c_uint64), ("tokens", c_uint64), ("logical_f16_bytes", c_uint64),
                ("logical_f32_bytes", c_uint64), ("stored_bytes", c_uint64), ("overhead_bytes", c_uint64),
                ("sessions", c_uint32)]


class Histogram(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("label", c_char_p), ("buckets", c_uint64 * HISTOGRAM_BUCKETS),
                ("sum_ns", c_uint64)]


class Stats(ctypes.Structure):
    _fields_ = [("incarnation", c_uint64), ("uptime_ms", c_uint64), ("server_version", c_char_p),
                ("n_counters", c_size_t), ("counters", POINTER(Counter)), ("n_spaces", c_size_t),
                ("spaces", POINTER(SpaceStats)), ("n_histograms", c_size_t), ("histograms", POINTER(Histogram))]


class ListItem(ctypes.Structure):
    _fields_ = [("key", c_uint8 * KEY_BYTES_MAX), ("key_n", c_size_t), ("tokens", c_uint32),
                ("pages_ready", c_uint32), ("page_count", c_uint32), ("leases", c_uint32), ("children", c_uint32),
                ("priority", c_uint32), ("is_root", c_int), ("stored_bytes", c_uint64), ("idle_ms", c_uint64)]


class Why(ctypes.Structure):
    _fields_ = [("fate", c_int), ("ago_ms", c_uint64), ("tokens", c_uint32), ("pages_ready", c_uint32),
                ("page_count", c_uint32), ("leases", c_uint32), ("children", c_uint32), ("priority", c_uint32),
                ("stored_bytes", c_uint64), ("remembered", c_uint32), ("n_elsewhere", c_size_t),
                ("elsewhere", (c_char * (NAME_BYTES_MAX + 1)) * WHY_ELSEWHERE_MAX)]


class Event(ctypes.Structure):
    _fields_ = [("number", c_uint64), ("kind", c_int), ("reason", c_int), ("tokens", c_uint32), ("key_n", c_size_t),
                ("key", c_uint8 * KEY_BYTES_MAX), ("space", c_char * (NAME_BYTES_MAX + 1))]


class EventCursor(ctypes.Structure):
    _fields_ = [("incarnation", c_uint64), ("after", c_uint64), ("lost", c_uint64), ("restarted", c_int)]


class ConfigItem(ctypes.Structure):
    _fields_ = [("key", c_char_p), ("value", c_char_p), ("origin", c_char_p)]


# The C name of each struct above.
STRUCTS = {
    "kvc_options": Options, "kvc_info": Info, "kvc_schema": Schema, "kvc_key": Key, "kvc_tensor": Tensor,
    "kvc_range": Range, "kvc_fault": Fault, "kvc_append": Append, "kvc_completion": Completion, "kvc_fetch": Fetch,
    "kvc_forecast": Forecast,
    "kvc_tile": Tile, "kvc_counter": Counter, "kvc_space_stats": SpaceStats, "kvc_histogram": Histogram,
    "kvc_stats": Stats, "kvc_list_item": ListItem, "kvc_why": Why, "kvc_event": Event,
    "kvc_event_cursor": EventCursor, "kvc_config_item": ConfigItem, "kvc_resized": Resized,
}

# Name: result and arguments. Clients, spaces, readers and blocks are plain addresses.
_HANDLE = c_void_p
_KEYS = POINTER(Key)
_RANGE = POINTER(Range)
_STATUSES = POINTER(c_int)
PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "kvc_open": (c_int, [POINTER(Options), POINTER(_HANDLE), c_char_p, c_size_t]),
    "kvc_close": (c_void_p, [_HANDLE]),
    "kvc_error": (c_char_p, [_HANDLE]),
    "kvc_strerror": (c_char_p, [c_int]),
    "kvc_version": (c_char_p, []),
    "kvc_client_info": (c_int, [_HANDLE, POINTER(Info)]),
    "kvc_space_open": (c_int, [_HANDLE, c_char_p, POINTER(Schema), POINTER(_HANDLE)]),
    "kvc_space_close": (c_void_p, [_HANDLE]),
    "kvc_space_schema": (POINTER(Schema), [_HANDLE]),
    "kvc_space_drop": (c_int, [_HANDLE, c_char_p]),
    "kvc_append": (c_int, [_HANDLE, POINTER(Append), c_size_t]),
    "kvc_submit": (c_int, [_HANDLE, POINTER(Append), c_uint64]),
    "kvc_completion_fd": (c_int, [_HANDLE]),
    "kvc_reap": (c_int, [_HANDLE, POINTER(Completion), c_size_t, c_uint32, POINTER(c_size_t)]),
    "kvc_reader_open": (c_int, [_HANDLE, POINTER(_HANDLE)]),
    "kvc_reader_close": (c_void_p, [_HANDLE]),
    "kvc_find": (c_int, [_HANDLE, _HANDLE, _KEYS, _RANGE]),
    "kvc_match": (c_int, [_HANDLE, _HANDLE, _KEYS, c_size_t, _RANGE, POINTER(c_size_t)]),
    "kvc_fetch": (c_int, [_HANDLE, _HANDLE, POINTER(Fetch), c_size_t]),
    "kvc_forecast": (c_int, [_HANDLE, _KEYS, c_size_t, _RANGE, POINTER(Forecast)]),
    "kvc_prefetch": (c_int, [_HANDLE, _KEYS, c_size_t, _RANGE, _STATUSES]),
    "kvc_fetch_begin": (c_int, [_HANDLE, _HANDLE, POINTER(Fetch), c_size_t, POINTER(_HANDLE)]),
    "kvc_fetch_next": (c_int, [_HANDLE, POINTER(c_uint32)]),
    "kvc_fetch_end": (c_void_p, [_HANDLE]),
    "kvc_pin": (c_int, [_HANDLE, _HANDLE, _KEYS, c_size_t, _RANGE, POINTER(_HANDLE), _STATUSES]),
    "kvc_lease": (c_int, [_HANDLE, _KEYS, c_size_t, _RANGE, c_uint32, POINTER(_HANDLE), _STATUSES]),
    "kvc_unpin": (c_void_p, [_HANDLE]),
    "kvc_block_tokens": (c_uint32, [_HANDLE]),
    "kvc_block_tile": (c_int, [_HANDLE, c_char, c_uint32, c_uint32, POINTER(Tile)]),
    "kvc_block_check": (c_int, [_HANDLE]),
    "kvc_tile_decode": (c_int, [POINTER(Tile), c_char, c_void_p, c_uint32, c_int64]),
    "kvc_delete": (c_int, [_HANDLE, _KEYS, c_size_t, _STATUSES]),
    "kvc_touch": (c_int, [_HANDLE, _KEYS, c_size_t, _STATUSES]),
    "kvc_keep": (c_int, [_HANDLE, _KEYS, c_size_t, c_uint32, c_uint64, _STATUSES]),
    "kvc_unkeep": (c_int, [_HANDLE, _KEYS, c_size_t, _STATUSES]),
    "kvc_evict": (c_int, [_HANDLE, _HANDLE, c_uint64, c_uint64, POINTER(c_uint64), POINTER(c_uint64)]),
    "kvc_resize": (c_int, [_HANDLE, c_uint64, c_uint32, POINTER(Resized)]),
    "kvc_stats_get": (c_int, [_HANDLE, POINTER(POINTER(Stats))]),
    "kvc_stats_look": (c_int, [_HANDLE, POINTER(POINTER(Stats))]),
    "kvc_stats_free": (c_void_p, [POINTER(Stats)]),
    "kvc_stats_counter": (c_uint64, [POINTER(Stats), c_char_p]),
    "kvc_list": (c_int, [_HANDLE, POINTER(c_uint64), POINTER(ListItem), c_size_t, POINTER(c_size_t)]),
    "kvc_fate_word": (c_char_p, [c_int]),
    "kvc_fate_text": (c_char_p, [c_int]),
    "kvc_why": (c_int, [_HANDLE, _KEYS, POINTER(Why)]),
    "kvc_events": (c_int, [_HANDLE, POINTER(EventCursor), POINTER(Event), c_size_t, c_uint32, POINTER(c_size_t)]),
    "kvc_config": (c_int, [_HANDLE, POINTER(POINTER(ConfigItem)), POINTER(c_size_t)]),
}


def _open_library() -> ctypes.CDLL:
    named = os.environ.get("KVCLIENT_LIBRARY")
    try:
        return ctypes.CDLL(named or SONAME)
    except OSError as error:
        raise ImportError(f"libkvclient cannot be loaded: {error}. Install it (Debian: libkvclient0, or "
                          "ninja -C build install and ldconfig), or name the file in KVCLIENT_LIBRARY") from error


@functools.lru_cache(maxsize=None)
def library() -> Any:
    """The library with its prototypes; ImportError where there is none or it is of another version."""
    loaded = _open_library()
    for name, (result, arguments) in PROTOTYPES.items():
        try:
            function = getattr(loaded, name)
        except AttributeError as error:
            raise ImportError(f"{loaded._name} has no {name}: it is not libkvclient {VERSION}") from error
        function.restype = result
        function.argtypes = arguments
    version = loaded.kvc_version().decode()
    if version.split(".")[:2] != VERSION.split("."):
        raise ImportError(f"{loaded._name} is version {version}, and this package is written for {VERSION}")
    return loaded


@functools.lru_cache(maxsize=None)
def libc_free() -> Any:
    free = ctypes.CDLL(None).free
    free.restype = None
    free.argtypes = [c_void_p]
    return free
