# SPDX-License-Identifier: Apache-2.0
"""Closing, collecting, forking, and threads: a wrong order is an exception, never a crash."""
from __future__ import annotations

import gc
import itertools
import os
import signal
import threading
import warnings

import numpy as np
import pytest
from conftest import EXACT, tensors

import kvclient as kv
from kvclient import Status


def sessions(daemon) -> int:
    with kv.Client(daemon.socket) as client:
        return client.stats().counters["sessions"] - 1


def test_closed_client(shared_daemon, space):
    space.put("a", *tensors())
    client = kv.Client(shared_daemon.socket)
    mine, reader = client.space(space.name), client.reader()
    block = mine.pin("a", reader=reader)
    follower = client.events()
    client.close()
    client.close()
    assert client.closed and reader.closed
    calls = [client.stats, client.look, client.config, client.info, client.reap, client.fileno, client.evict,
             client.reader, lambda: client.space("x"), lambda: client.drop_space("x"), lambda: next(follower),
             lambda: client.events(), lambda: mine.match(["a"]), lambda: mine.match(["a"], reader=reader),
             lambda: mine.find("a", reader), lambda: mine.fetch(["a"]), lambda: mine.put("a", *tensors()),
             lambda: mine.submit(kv.Append("a", *tensors())), lambda: mine.pin("a"), lambda: mine.delete(["a"]),
             lambda: mine.touch(["a"]), lambda: mine.keep(["a"], 1), lambda: mine.unkeep(["a"]),
             lambda: mine.why("a"), lambda: list(mine.list()), block.check, lambda: block.tile("K", 0, 0),
             lambda: block.decode("K", 0, 0)]
    for call in calls:
        with pytest.raises(ValueError, match="closed"):
            call()
    mine.close()
    reader.close()
    block.unpin()


def test_two_clients_do_not_mix(shared_daemon, space):
    with kv.Client(shared_daemon.socket) as other, other.reader() as reader:
        with pytest.raises(ValueError, match="two clients"):
            space.match(["a"], reader=reader)


def test_view_outlives_everything(daemon):
    client = kv.Client(daemon.socket)
    space = client.space("s", EXACT)
    k, v = tensors()
    space.put("a", k, v)
    for reader in (client.reader(), None):
        block = space.pin("a", reader=reader)
        tile = block.tile("K", 0, 0)[4:]
        block.unpin()
        with pytest.raises(ValueError, match="closed"):
            block.tile("K", 0, 0)
        if reader is not None:
            reader.close()
    client.close()
    assert sessions(daemon) == 1  # it waits for the view
    assert np.array_equal(tile.view(np.float32), k[0, 0].ravel()[1:])
    del tile
    assert sessions(daemon) == 0


def make(daemon) -> list[object]:
    client = kv.Client(daemon.socket)
    space = client.space("gc", EXACT)
    reader = client.reader()
    block = space.pin("a", reader=reader)
    leased = space.pin("a")
    return [client, space, reader, block, leased.tile("V", 1, 1)]


def test_collected_in_any_order(daemon):
    with kv.Client(daemon.socket) as client:
        client.space("gc", EXACT).put("a", *tensors())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for order in itertools.permutations(range(5)):
            things = make(daemon)
            for i in order:
                things[i] = None
        for order in itertools.islice(itertools.permutations(range(5)), 0, None, 7):
            knot = [make(daemon)[i] for i in order]
            knot.append(knot)
            for thing in knot[:5]:
                if not isinstance(thing, np.ndarray):
                    thing.knot = knot
            del knot, thing
            gc.collect()
    assert sessions(daemon) == 0


def test_closed_in_any_order(daemon):
    with kv.Client(daemon.socket) as client:
        client.space("gc", EXACT).put("a", *tensors())
    for order in itertools.permutations(range(4)):
        things = make(daemon)
        for i in order:
            getattr(things[i], "unpin" if isinstance(things[i], kv.Block) else "close")()
        del things
    assert sessions(daemon) == 0


def test_not_closed_is_said(shared_daemon):
    with pytest.warns(ResourceWarning, match="not closed"):
        kv.Client(shared_daemon.socket)
        gc.collect()


def test_close_while_other_threads_call(daemon):
    client = kv.Client(daemon.socket)
    space = client.space("s", EXACT)
    space.put("a", *tensors())
    ended = []

    def work(call):
        try:
            while True:
                call()
        except ValueError as error:
            ended.append(str(error))

    def read():
        with client.reader() as reader:
            work(lambda: space.fetch(["a"], reader=reader))

    follower = client.events()
    threads = [threading.Thread(target=target) for target in (
        read, read, lambda: work(lambda: space.fetch(["a"])), lambda: work(lambda: client.reap(timeout=60)),
        lambda: work(lambda: next(follower)), lambda: work(lambda: space.pin("a").tile("K", 0, 0)))]
    for thread in threads:
        thread.start()
    for _ in range(50):
        space.match(["a"])
    client.close()
    for thread in threads:
        thread.join()
    assert ended == ["the client is closed"] * 6 and sessions(daemon) == 0


def in_thread(call):
    """The call's result or exception, from another thread."""
    result = []

    def run():
        try:
            result.append(call())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return result[0]


def test_a_reader_is_one_threads(space, client):
    space.put("a", *tensors())
    with client.reader() as reader:
        error = in_thread(lambda: space.match(["a"], reader=reader))
        assert isinstance(error, RuntimeError) and "thread" in str(error)
        block = space.pin("a", reader=reader)
        assert in_thread(lambda: block.decode("K", 0, 0).shape) == (32, 16)  # reading in place is anybody's


def test_blocks_that_end_elsewhere_are_unpinned(shared_daemon, space):
    space.put("a", *tensors())
    with kv.Client(shared_daemon.socket, pins_max=32) as client:
        mine, reader = client.space(space.name), client.reader()
        for _ in range(3):
            blocks, statuses = mine.pin_many(["a"] * 32, reader=reader)
            assert statuses == [Status.OK] * 32
            assert mine.pin_many(["a"], reader=reader)[1] == [Status.TOO_MANY]
            in_thread(lambda: [block.unpin() for block in blocks[:16]])
            holder = [blocks]
            del blocks
            in_thread(holder.clear)  # the last references end there


def test_threads_with_readers(space, client):
    blocks = {f"{i}": tensors(i) for i in range(8)}
    stop = threading.Event()
    wrong, reads = [], []

    def read():
        with client.reader() as reader:
            count = 0
            while not stop.is_set() or count == 0:
                for key, (k, v) in blocks.items():
                    got = space.fetch([key], reader=reader)
                    if got.ok and not (np.array_equal(got.k, k) and np.array_equal(got.v, v)):
                        wrong.append(key)
                    try:
                        with space.pin(key, reader=reader) as block:
                            tile = block.tile("V", 1, 3).view(np.float32).reshape(32, 24)
                            same = np.array_equal(tile, v[1, 3])
                            if block.check() and not same:
                                wrong.append(key)
                            count += 1
                    except (kv.Missing, kv.Stale):
                        pass
            reads.append(count)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        space.append([kv.Append(key, k, v) for key, (k, v) in blocks.items()], strict=True)
        space.delete(list(blocks)[::2])
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == [] and len(reads) == 4 and all(reads)


SLOW = {
    "open": lambda s: kv.Client(s.client._test_socket).close(),
    "stats": lambda s: s.client.stats(),
    "append": lambda s: s.put("b", *tensors(2)),
    "fetch": lambda s: s.fetch(["a"], strict=True),
    "match": lambda s: s.match(["a"]),
    "pin": lambda s: s.pin("a").unpin(),
    "delete": lambda s: s.delete(["a"]),
    "list": lambda s: list(s.list()),
    "why": lambda s: s.why("a"),
}


@pytest.mark.parametrize("name", SLOW)
def test_gil_is_released(daemon, name):
    """The daemon is stopped when the call is made, and only another Python thread continues it: a call that kept the
    GIL would wait for the daemon until its time is out."""
    with kv.Client(daemon.socket, timeout=5) as client:
        client._test_socket = daemon.socket
        space = client.space("s", EXACT)
        space.put("a", *tensors())
        calling = threading.Event()

        def go_on():
            calling.wait()
            for _ in range(100):
                pass  # until here the caller may still be on its way; asleep, this thread needs the GIL again
            threading.Event().wait(0.1)
            os.kill(daemon._process.pid, signal.SIGCONT)

        helper = threading.Thread(target=go_on)
        helper.start()
        os.kill(daemon._process.pid, signal.SIGSTOP)
        try:
            calling.set()
            SLOW[name](space)
        finally:
            helper.join()


def in_child(body) -> int:
    """The exit status of a forked child that runs it."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            status = 0
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_fork(daemon):
    client = kv.Client(daemon.socket)
    space, reader = client.space("s", EXACT), client.reader()
    k, v = tensors()
    space.put("a", k, v)
    block = space.pin("a", reader=reader)

    def body():
        for call in (client.stats, lambda: space.match(["a"]), lambda: space.match(["a"], reader=reader),
                     lambda: block.tile("K", 0, 0), block.check, client.reap, lambda: space.put("b", k, v)):
            with pytest.raises(ChildProcessError, match="fork") as caught:
                call()
            assert isinstance(caught.value, kv.Forked) and caught.value.errno == 10
        block.unpin()
        reader.close()
        space.close()
        client.close()
        client.close()
        gc.collect()
        with kv.Client(daemon.socket) as own:
            assert own.space("s").fetch(["a"], strict=True).ok

    assert in_child(body) == 0
    assert np.array_equal(block.tile("K", 1, 1).view(np.float32).reshape(32, 16), k[1, 1]) and block.check()
    assert space.match(["a"], reader=reader) == 1 and sessions(daemon) == 1
    client.close()


def test_fork_while_others_call(daemon):
    """Locks that other threads held at the fork stay locked in the child; nothing there may wait for them."""
    client = kv.Client(daemon.socket)
    space = client.space("s", EXACT)
    stop = threading.Event()

    def work():
        while not stop.is_set():
            space.match(["a"])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()

    def body():
        signal.alarm(30)
        with pytest.raises(kv.Forked):
            space.match(["a"])
        client.close()

    results = [in_child(body) for _ in range(20)]
    stop.set()
    for thread in threads:
        thread.join()
    client.close()
    assert results == [0] * 20
