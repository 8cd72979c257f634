# SPDX-License-Identifier: Apache-2.0
"""The daemon goes, and comes again, under a client."""
from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest
from conftest import EXACT, tensors

import kvclient as kv


def test_killed_and_started_again(daemon):
    with kv.Client(daemon.socket) as client, client.reader() as reader:
        space = client.space("s", EXACT)
        k, v = tensors()
        space.put("a", k, v)
        pinned, leased = space.pin("a", reader=reader), space.pin("a")
        tile = pinned.tile("K", 0, 1)
        daemon.kill()
        daemon.start()
        assert space.match(["a"]) == 0  # it starts empty
        assert client.info().reconnects == 1
        assert np.array_equal(tile.view(np.float32).reshape(32, 16), k[0, 1])
        assert not leased.check()
        with pytest.raises(kv.Stale):
            leased.tile("K", 0, 0)
        space.put("a", k, v)
        assert space.match(["a"], reader=reader) == 1
        assert np.array_equal(space.fetch(["a"], reader=reader, strict=True).k, k)


def test_gone_for_a_while(daemon):
    with kv.Client(daemon.socket, timeout=1) as client, kv.Client(daemon.socket, reconnect=False) as once:
        space = client.space("s", EXACT)
        daemon.stop()
        for call in (client.stats, lambda: space.match(["a"]), lambda: space.put("a", *tensors()), once.stats):
            with pytest.raises(kv.ConnectionLost) as caught:
                call()
            assert isinstance(caught.value, ConnectionError) and caught.value.errno == 107 and str(caught.value)
        daemon.start()
        with pytest.raises(kv.ConnectionLost):
            once.stats()
        tries = 0
        while tries < 1000:  # it looks twice a second
            try:
                space.put("a", *tensors())
                break
            except kv.ConnectionLost:
                tries += 1
                threading.Event().wait(0.05)
        assert space.match(["a"]) == 1


def test_no_answer_in_time(daemon):
    with kv.Client(daemon.socket, timeout=1) as client:
        os.kill(daemon._process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(kv.TimedOut) as caught:
                client.stats()
            assert isinstance(caught.value, TimeoutError)
        finally:
            os.kill(daemon._process.pid, signal.SIGCONT)


def test_submitted_over_a_restart(daemon):
    """Each submitted block has one completion: stored, or lost with the connection."""
    with kv.Client(daemon.socket, timeout=30) as client:
        space = client.space("s", EXACT)
        space.submit(kv.Append("first", *tensors()), 1)
        assert client.reap(timeout=30)[0].status == kv.Status.OK
        os.kill(daemon._process.pid, signal.SIGSTOP)
        for i in range(2, 5):
            space.submit(kv.Append(f"{i}", *tensors(i)), i)
        daemon.kill()
        daemon.start()
        done: list[kv.Completion] = []
        tries = 0
        while len(done) < 3 and tries < 100:
            done += client.reap(timeout=1)
            tries += 1
        assert sorted(one.user_data for one in done) == [2, 3, 4]
        assert all(one.status < 0 for one in done)  # an errno: the connection went
        space.submit(kv.Append("last", *tensors(9)), 9)
        last = client.reap(timeout=30)
        assert [(one.user_data, one.status) for one in last] == [(9, kv.Status.OK)]
        assert space.match(["last"]) == 1 and space.match(["first"]) == 0


def test_restarts_in_the_middle_of_work(daemon):
    """What was acknowledged is there until the next restart; nothing but a miss is seen of one. A call is made once
    more after a restart, and no more often, so each restart waits until every thread has got over the one before."""
    with kv.Client(daemon.socket, timeout=30) as client:
        space = client.space("s", EXACT)
        blocks = [tensors(i) for i in range(4)]
        stop = threading.Event()
        rounds = [0, 0]
        wrong = []

        def work(index):
            try:
                with client.reader() as reader:
                    while not stop.is_set():
                        for i, (k, v) in enumerate(blocks):
                            space.put(f"{i}", k, v)
                            got = space.fetch([f"{i}"], reader=reader)
                            if got.ok and not np.array_equal(got.k, k):
                                wrong.append(i)
                        rounds[index] += 1
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
        for how in (daemon.kill, daemon.stop, daemon.kill):
            how()
            daemon.start()
            before = list(rounds)
            while not wrong and any(now < then + 2 for now, then in zip(rounds, before)):
                threading.Event().wait(0.01)
        stop.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        space.put("last", *blocks[0])
        assert space.match(["last"]) == 1


def test_another_schema_after_a_restart(daemon):
    with kv.Client(daemon.socket) as client:
        space = client.space("s", EXACT)
        daemon.stop()
        daemon.start()
        with kv.Client(daemon.socket) as other:
            other.space("s", kv.Schema("other", layers=1, kv_heads=1, head_dim_k=8))
            with pytest.raises(kv.SpaceError) as caught:
                space.match(["a"])
            assert caught.value.status == kv.Status.SCHEMA
