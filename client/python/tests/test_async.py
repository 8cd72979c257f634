# SPDX-License-Identifier: Apache-2.0
"""submit() and reap(), and following events."""
from __future__ import annotations

import copy
import select
import threading

import pytest
from conftest import EXACT, tensors

import kvclient as kv
from kvclient import Status
from kvclient.events import EventKind


def test_submit_and_reap(space, client):
    assert client.reap() == []
    for i in range(5):
        space.submit(kv.Append(f"{i}", *tensors(i)), 2**64 - 1 - i)
    space.submit(kv.Append("orphan", *tensors(9), parent="none"), 7)
    done = {}
    while len(done) < 6:
        assert select.select([client], [], [], 30)[0] == [client]
        done.update((c.user_data, c) for c in client.reap(2, timeout=30))
    assert done[7].status == Status.NO_PARENT
    assert all(done[2**64 - 1 - i][1:] == (Status.OK, 4, 0) for i in range(5))
    assert space.match([f"{i}" for i in range(5)]) == 5
    with pytest.raises(ValueError):
        space.submit(kv.Append("x", *tensors()), 2**64)


def test_staging_full(daemon):
    schema = kv.Schema("big", layers=16, kv_heads=8, head_dim_k=64, dtype="f32", codec_k="f32", block_tokens=32)
    with kv.Client(daemon.socket, staging_bytes=1) as client:  # the least there is
        space = client.space("big", schema)
        k, v = tensors(schema=schema)
        blocks = 0
        with pytest.raises(kv.StagingFull) as caught:
            while blocks < 10000:
                space.submit(kv.Append(f"{blocks}", k, v), blocks)
                blocks += 1
        assert isinstance(caught.value, BlockingIOError) and blocks > 0
        done = []
        while len(done) < blocks:
            done += client.reap(timeout=30)
        assert sorted(c.user_data for c in done) == list(range(blocks))
        space.submit(kv.Append("again", k, v))


def test_reap_lets_others_call(space, client):
    got = []
    thread = threading.Thread(target=lambda: got.extend(client.reap(timeout=60)))
    thread.start()
    space.submit(kv.Append("a", *tensors()), 5)
    thread.join()
    assert [c.user_data for c in got] == [5]


def test_events(daemon):
    with kv.Client(daemon.socket) as client, kv.Client(daemon.socket) as own:
        space = client.space("s", EXACT)
        follower = own.events(timeout=30)
        space.put("a", *tensors())
        space.put("b", *tensors(1), parent="a")
        space.delete(["a"])
        seen = [next(follower) for _ in range(4)]
        assert [(e.kind, e.space, e.key) for e in seen[:2]] == \
            [(EventKind.STORED, "s", b"a"), (EventKind.STORED, "s", b"b")]
        assert {(e.kind, e.key, e.reason) for e in seen[2:]} == \
            {(EventKind.REMOVED, key, kv.Fate.DELETED) for key in (b"a", b"b")}
        assert seen[0].tokens == 32
        assert list(own.events(timeout=0)) == []
        oldest = own.events(kv.EventCursor(), timeout=0)
        assert next(oldest) == seen[0]
        later = own.events(copy.copy(oldest.cursor), timeout=0)  # behind the one handed out, not behind the batch
        assert list(later) == seen[1:]
        client.drop_space("s")
        assert next(follower).kind == EventKind.CLEARED


def test_events_over_a_restart(daemon):
    with kv.Client(daemon.socket) as client:
        space = client.space("s", EXACT)
        follower = client.events(timeout=30)
        space.put("a", *tensors())
        assert next(follower).key == b"a"
        daemon.kill()
        daemon.start()
        space.put("b", *tensors())
        assert [next(follower).kind for _ in range(2)] == [EventKind.RESTARTED, EventKind.STORED]


def test_forgotten_events(tmp_path):
    from conftest import Daemon
    daemon = Daemon(tmp_path, "--events-kept", "16")
    try:
        with kv.Client(daemon.socket) as client:
            space = client.space("s", EXACT)
            follower = client.events(timeout=0)
            for _ in range(20):
                space.put("a", *tensors())
                space.delete(["a"])
            seen = list(follower)
            assert seen[0].kind == EventKind.LOST and seen[0].lost + len(seen) - 1 == 40
    finally:
        daemon.stop()
