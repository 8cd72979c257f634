# SPDX-License-Identifier: Apache-2.0
"""The KV cache of kvpaged: store K and V of finished token blocks, read them back in any process on the node.

    with kvclient.Client() as client:
        space = client.space("my-model", kvclient.Schema("my-model", layers=32, kv_heads=8, head_dim_k=128))
        space.put("first", k, v)                # [layers, heads, tokens, head_dim]
        n = space.match(["first", "second"])    # how many from the first on are there
        k = space.fetch(["first"]).k

This is a cache: a block may be gone at any time, and every caller needs a way to go on without it. K and V come back as
the space's codec keeps them; only f32, f16 and bf16 are exact. client/kvclient.h, which this package wraps, says all.
"""
from .client import Client
from .errors import (AccessDenied, BadValue, Conflict, ConnectionLost, Corrupt, Fault, Forked, Full, Invalid, KvError,
                     KvOSError, Missing, NoDaemon, NotAllowed, SpaceError, StagingFull, Stale, Status, TimedOut)
from .events import Event, EventCursor, EventKind, Events
from .keys import prefix_keys
from .reader import Block, Reader
from .records import (Append, Appended, BlockInfo, Completion, ConfigItem, Evicted, Fate, Fetched, Forecast, Histogram,
                      Info, Resized, SpaceStats, Stats, Verify, Why)
from .schema import CODECS, DTYPES, Schema
from .space import Space

__version__ = "0.1.0"

__all__ = [
    "AccessDenied", "Append", "Appended", "BadValue", "Block", "BlockInfo", "CODECS", "Client", "Completion",
    "ConfigItem", "Conflict", "ConnectionLost", "Corrupt", "DTYPES", "Event", "EventCursor", "EventKind", "Events",
    "Evicted", "Fate", "Fault", "Fetched", "Forecast", "Forked", "Full", "Histogram", "Info", "Invalid", "KvError",
    "KvOSError", "Missing", "NoDaemon", "NotAllowed", "Reader", "Resized", "Schema", "Space", "SpaceError",
    "SpaceStats", "StagingFull", "Stale", "Stats", "Status", "TimedOut", "Verify", "Why", "prefix_keys",
]
