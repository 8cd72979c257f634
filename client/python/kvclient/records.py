# SPDX-License-Identifier: Apache-2.0
"""What goes into calls and comes out of them: plain data, owned by the caller."""
from __future__ import annotations

import dataclasses
import enum
from typing import Any, NamedTuple, Optional, Union

from .errors import BadValue, Fault, KvError, Status, error_for
from .schema import Schema

Key = Union[bytes, bytearray, memoryview, str]


class Fate(enum.IntEnum):
    """What became of a block."""

    UNKNOWN = 0
    PRESENT = 1
    PARTIAL = 2
    EVICTED = 3
    EVICTED_REQUEST = 4
    DELETED = 5
    SPACE_DROPPED = 6
    WRITER_GONE = 7
    UNFINISHED = 8
    DEMOTED = 9
    LOST = 10


class Verify(enum.IntEnum):
    """When pages are compared with their checksums before they are used."""

    NEVER = 0
    FIRST = 1
    ALWAYS = 2


@dataclasses.dataclass
class Append:
    """A block to store, or a rank's part of one.

    k and v: [layers, heads, tokens, head_dim] of the layers and heads given, which must cover whole pages. tokens None:
    as many as k has. parent: the block before this one, which must be resident. dtype "bf16": uint16 arrays of numpy
    are bfloat16.
    """

    key: Key
    k: Any
    v: Any = None
    parent: Optional[Key] = None
    tokens: Optional[int] = None
    layers: Optional[slice] = None
    heads: Optional[slice] = None
    dtype: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class Appended:
    """What became of an appended block."""

    key: bytes
    status: int
    pages_stored: int
    pages_present: int
    fault: Optional[Fault] = None

    @property
    def ok(self) -> bool:
        """Whether the block is resident now."""
        return self.status in (Status.OK, Status.PRESENT)

    def raise_for_status(self) -> None:
        """Raises what `ok` denies, with the key and, for a value that cannot be stored, its place."""
        if not self.ok:
            raise append_error(self.status, self.key, self.fault)


def append_error(status: int, key: bytes, fault: Optional[Fault]) -> KvError:
    text = f"block {key!r}: {error_for(status).message}"
    if fault is not None:
        return BadValue(status, f"{text} ({fault})", fault)
    return error_for(status, text)


class Completion(NamedTuple):
    """What became of a submitted block. status is a Status, or a negative errno: the connection was lost first."""

    user_data: int
    status: int
    pages_stored: int
    pages_present: int


@dataclasses.dataclass(frozen=True)
class Fetched:
    """What fetch() read: for each key a status and the tokens written.

    In k and v, [layers, heads, tokens, head_dim], the block of the i-th key begins at token i * block_tokens; what
    follows a block's tokens, and blocks that are not OK, are not written.
    """

    keys: list[bytes]
    statuses: list[int]
    tokens: list[int]
    block_tokens: int
    k: Any = None
    v: Any = None

    @property
    def ok(self) -> bool:
        return all(status == Status.OK for status in self.statuses)

    @property
    def prefix_tokens(self) -> int:
        """Tokens from the first on without a gap: k[:, :, :prefix_tokens] is what is there."""
        total = 0
        for status, tokens in zip(self.statuses, self.tokens):
            if status != Status.OK:
                break
            total += tokens
            if tokens < self.block_tokens:
                break
        return total

    def raise_for_status(self) -> None:
        """Raises for the first block that is not OK."""
        for key, status in zip(self.keys, self.statuses):
            if status != Status.OK:
                raise error_for(status, f"block {key!r}: {error_for(status).message}")


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a fetch of a prefix would find: keys from the first on that are in RAM, and behind them those that it would
    have too, some from the daemon's tier, which would take so long."""

    resident: int
    loadable: int
    load_seconds: float


@dataclasses.dataclass(frozen=True)
class Why:
    """What the daemon knows of a key; numbers from tokens to stored_bytes are of a resident block."""

    fate: int
    word: str
    text: str
    ago: float
    tokens: int
    pages_ready: int
    page_count: int
    leases: int
    children: int
    priority: int
    stored_bytes: int
    remembered: int
    elsewhere: list[str]


@dataclasses.dataclass(frozen=True)
class BlockInfo:
    """A block in a list."""

    key: bytes
    tokens: int
    pages_ready: int
    page_count: int
    leases: int
    children: int
    priority: int
    is_root: bool
    stored_bytes: int
    idle: float


class Evicted(NamedTuple):
    """What evict() freed."""

    blocks: int
    bytes: int


class Resized(NamedTuple):
    """How far resize() came. Amounts in bytes."""

    is_done: bool
    bytes: int  # what the arena may take now
    held_bytes: int  # what it takes
    asked_bytes: int  # as rounded; more than bytes while the machine is short of memory
    evicted_blocks: int
    evicted_bytes: int
    moved_bytes: int
    discarded_bytes: int  # given back to the system


class ConfigItem(NamedTuple):
    """A setting of the daemon and where it comes from."""

    value: str
    origin: str


@dataclasses.dataclass(frozen=True)
class Info:
    """Facts about the connection."""

    session_id: int
    incarnation: int
    arena_bytes: int
    staging_bytes: int
    reconnects: int
    lease_ttl_max: float
    pins_max: int
    server_version: str


@dataclasses.dataclass(frozen=True)
class SpaceStats:
    """A space in Stats; bytes as in struct kvc_space_stats."""

    name: str
    schema: Schema
    blocks: int
    blocks_partial: int
    pages: int
    tokens: int
    logical_f16_bytes: int
    logical_f32_bytes: int
    stored_bytes: int
    overhead_bytes: int
    sessions: int


@dataclasses.dataclass(frozen=True)
class Histogram:
    """buckets[i]: how often something took up to 2**i microseconds and more than half of that."""

    name: str
    label: str
    buckets: list[int]
    sum_ns: int


@dataclasses.dataclass(frozen=True)
class Stats:
    """A snapshot of the daemon; counters by name."""

    incarnation: int
    uptime: float
    server_version: str
    counters: dict[str, int]
    spaces: dict[str, SpaceStats]
    histograms: list[Histogram]
