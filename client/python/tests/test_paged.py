# SPDX-License-Identifier: Apache-2.0
"""kvclient.paged on a daemon, and on the private one that it starts where none runs."""
from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

import kvclient as kv
from kvclient import _private
from kvclient.paged import BitPackedKVCache, PagedKVCache, bits_per_value, choose_page, duration


def pair(shape=(1, 4, 300, 64), dtype=np.float32, seed=0):
    random = np.random.default_rng(seed)
    return tuple(random.standard_normal(shape, dtype=np.float32).astype(dtype) for _ in "kv")


def blocks(client) -> int:
    return sum(space.blocks for space in client.stats().spaces.values())


def error(got, wanted) -> float:
    return float(np.abs(got - wanted).mean() / np.abs(wanted).mean())


@pytest.mark.parametrize("options, limit, ratio", [
    ({"num_bits": 8}, 0.007, 3.7), ({"num_bits": 6}, 0.03, 4.9), ({"num_bits": 5}, 0.06, 5.8),
    ({"num_bits": 4}, 0.12, 7.0), ({"num_bits": 6, "trellis": True}, 0.022, 4.9), ({"codec": "t6g32"}, 0.022, 4.9),
    ({"codec": ("q8", "q4")}, 0.12, 4.9), ({"codec": "f32"}, 0.0, 1.0)])
def test_there_and_back(client, options, limit, ratio):
    k, v = pair()
    cache = BitPackedKVCache(client=client, **options)
    packed = cache.compress_kv(k, v)
    got_k, got_v = cache.decompress_kv(packed)
    assert got_k.shape == k.shape and got_k.dtype == k.dtype and got_k.flags.c_contiguous
    assert error(got_k, k) <= limit and error(got_v, v) <= limit
    assert packed.original_nbytes == k.nbytes + v.nbytes
    assert packed.compression_ratio == pytest.approx(packed.original_nbytes / packed.nbytes) and \
        packed.compression_ratio >= ratio
    before = blocks(client)
    packed.free()
    assert blocks(client) == before - len(packed._keys)
    cache.close()


@pytest.mark.parametrize("shape", [(1, 1, 1, 8), (3, 2, 128, 16), (2, 6, 129, 96), (1, 2, 127, 256)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_shapes(client, shape, dtype):
    k, v = pair(shape, dtype)
    v = v[..., :8]
    with BitPackedKVCache(8, client=client) as cache:
        packed = cache.compress_kv(k, np.ascontiguousarray(v))
        got_k, got_v = cache.decompress_kv(packed)
        assert got_k.shape == k.shape and got_v.shape == v.shape and got_k.dtype == dtype
        assert np.abs(got_k.astype(np.float32) - k).max() < 0.05


def test_bf16_arrays(client):
    k = np.random.default_rng(0).integers(0x3f00, 0x4000, (1, 2, 40, 16), dtype=np.uint16)
    with BitPackedKVCache(client=client, codec="bf16") as cache:
        got, _ = cache.decompress_kv(cache.compress_kv(k, k, dtype="bf16"))
        assert got.dtype == np.uint16 and np.array_equal(got, k)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65600.0])
def test_bad_values_are_named(client, value):
    k, v = pair((2, 4, 300, 64))
    with BitPackedKVCache(client=client) as cache:
        before = blocks(client)
        v[1, 3, 200, 5] = value
        with pytest.raises(ValueError, match=r"V\[1, 3, 200, 5\]") as caught:
            cache.compress_kv(k, v)
        assert caught.value.fault == ("V", 1, 3, 200, 5) and blocks(client) == before


def test_bad_arguments(client):
    for bad in ({"num_bits": 7}, {"page_size_kb": 8}, {"page_size_kb": 65}, {"codec": "q7"}, {"codec": ("q8", "x")}):
        with pytest.raises(ValueError):
            BitPackedKVCache(client=client, **bad)
    k, v = pair()
    with BitPackedKVCache(client=client) as cache:
        for bad in ((k[0], v[0]), (k, v[:, :, :5]), (k, v.astype(np.float16)), (k.astype(np.float64), v),
                    (k[:, :, :0], v[:, :, :0]), (k[..., ::2], v), (k[..., :7].copy(), v)):
            with pytest.raises(ValueError):
                cache.compress_kv(*bad)
        with BitPackedKVCache(client=client) as other, pytest.raises(ValueError, match="another cache"):
            other.decompress_kv(cache.compress_kv(k, v))


@pytest.mark.parametrize("kb", [16, 24, 32, 48, 64])
@pytest.mark.parametrize("codec", ["q4", "q6", "t8g16", "f32"])
@pytest.mark.parametrize("heads, dim", [(1, 64), (8, 128), (32, 96), (12, 8), (7, 256)])
def test_pages_are_as_near_as_can_be(client, kb, codec, heads, dim):
    tokens, page_heads = choose_page((codec, codec), heads, dim, dim, kb << 10)
    assert heads % page_heads == 0 and tokens in (64, 128, 256)
    k, v = pair((1, heads, tokens, dim))
    with BitPackedKVCache(page_size_kb=kb, client=client, codec=codec) as cache:
        packed = cache.compress_kv(k, v)
        page = packed.nbytes / packed.pages
    value = dim * (bits_per_value(codec, "K", tokens, dim) + bits_per_value(codec, "V", tokens, dim)) / 8
    assert page == pytest.approx(value * tokens * page_heads, rel=0.05)  # chosen by what the daemon has
    if value * 64 < kb << 10 and value * 256 * heads > kb << 10:
        assert kb / 2 <= page / 1024 <= kb * 2


def test_pages_go_with_their_objects(client):
    k, v = pair()
    cache = BitPackedKVCache(client=client)
    before = blocks(client)
    kept, dropped = cache.compress_kv(k, v), cache.compress_kv(k, v)
    assert blocks(client) == before + 6
    del dropped
    gc.collect()
    assert blocks(client) == before + 3
    cache.close()
    assert blocks(client) == before
    with pytest.raises(ValueError, match="closed"):
        cache.decompress_kv(kept)
    assert not client.closed


def test_evicted_pages_are_told_of(daemon):
    with kv.Client(daemon.socket) as client, BitPackedKVCache(client=client) as cache:
        packed = cache.compress_kv(*pair())
        client.evict()
        with pytest.raises(kv.Missing, match="evicted"):
            cache.decompress_kv(packed)
        with pytest.raises(kv.Missing, match="evicted"):
            packed.nbytes
        again = cache.compress_kv(*pair())
        daemon.kill()
        daemon.start()
        with pytest.raises(kv.Missing):
            cache.decompress_kv(again)
        assert cache.decompress_kv(cache.compress_kv(*pair()))[0].shape == (1, 4, 300, 64)


def test_full(daemon):
    with kv.Client(daemon.socket) as client, BitPackedKVCache(client=client, codec="f32") as cache:
        k, v = pair((4, 32, 2048, 64))
        with pytest.raises((kv.Full, kv.Missing)):
            cache.compress_kv(k, v)  # 128 MiB into 64


def test_paged(client):
    k, v = pair()
    with PagedKVCache(num_bits=8, page_size_kb=16, client=client) as cache:
        first, second = cache.allocate_page(k, v), cache.allocate_page(k[0], v[0])
        assert first != second and len(cache) == 2
        assert error(cache.fetch_page(first)[0], k) < 0.007 and cache.fetch_page(second)[1].shape == v[0].shape
        memory = cache.memory()
        assert memory["pages"] == 2 and memory["original_bytes"] == 2 * (k.nbytes + v.nbytes)
        assert memory["ratio"] == pytest.approx(memory["original_bytes"] / memory["bytes"]) and memory["ratio"] > 3.5
        cache.free_page(first)
        for call in (cache.fetch_page, cache.free_page):
            with pytest.raises(KeyError):
                call(first)
        assert cache.memory()["pages"] == 1
    assert len(cache) == 0


def test_paged_over_a_restart(daemon):
    k, v = pair()
    with kv.Client(daemon.socket) as client, PagedKVCache(num_bits=8, client=client) as cache:
        page = cache.allocate_page(k, v)
        daemon.kill()
        daemon.start()
        with pytest.raises(kv.Missing):
            cache.fetch_page(page)
        again = cache.allocate_page(k, v)
        assert error(cache.fetch_page(again)[0], k) < 0.007
        cache.free_page(page)
        assert len(cache) == 1


def test_paged_on_a_closed_client(shared_daemon):
    k, v = pair()
    client = kv.Client(shared_daemon.socket)
    cache = PagedKVCache(num_bits=8, client=client)
    page = cache.allocate_page(k, v)
    client.close()
    for call in (lambda: cache.allocate_page(k, v), lambda: cache.fetch_page(page), cache.memory,
                 lambda: PagedKVCache(client=client)):
        with pytest.raises(ValueError, match="closed"):
            call()
    cache.free_page(page)
    cache.close()


def test_paged_from_threads(client):
    results = []
    with PagedKVCache(num_bits=8, client=client) as cache:
        def work(seed):
            k, v = pair((1, 2, 50, 16), seed=seed)
            ids = [cache.allocate_page(k, v) for _ in range(5)]
            results.append(all(error(cache.fetch_page(i)[0], k) < 0.01 for i in ids))
            for i in ids:
                cache.free_page(i)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [True] * 4 and len(cache) == 0


def test_durations():
    assert [duration(text) for text in ("24h", "500ms", "30s", "10min", "1d")] == [86400, 0.5, 30, 600, 86400]
    with pytest.raises(ValueError):
        duration("soon")


@pytest.fixture
def no_daemon(monkeypatch, tmp_path):
    monkeypatch.setenv("KVPAGED_SOCKET", str(tmp_path / "none"))
    monkeypatch.setattr(_private, "_said", False)


def test_private_daemon(no_daemon):
    k, v = pair()
    with pytest.warns(RuntimeWarning, match="starting a private one"):
        cache = BitPackedKVCache()
    assert cache.private
    directory = os.path.dirname(cache.client._library and _private._shared.socket)
    assert error(cache.decompress_kv(cache.compress_kv(k, v))[0], k) < 0.03
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = PagedKVCache(8)  # the same one, and not said again
    page = other.allocate_page(k, v)
    cache.close()
    assert other.fetch_page(page)[0].shape == k.shape and os.path.exists(directory)
    other.close()
    assert not os.path.exists(directory) and _private._shared is None


PROGRAM = """
import numpy, sys, warnings
warnings.simplefilter("ignore")
from kvclient import _private
from kvclient.paged import PagedKVCache
cache = PagedKVCache()
cache.allocate_page(numpy.ones((1, 2, 9, 8), "f4"), numpy.ones((1, 2, 9, 8), "f4"))
print(_private._shared.socket, flush=True)
if len(sys.argv) > 1:
    sys.stdin.read()
"""


def gone(path: str) -> bool:
    for _ in range(1000):
        if not os.path.exists(path):
            return True
        threading.Event().wait(0.02)
    return False


def test_private_daemon_ends_with_its_process(no_daemon):
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and gone(os.path.dirname(done.stdout.strip()))
    with subprocess.Popen([sys.executable, "-c", PROGRAM, "wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as killed:
        directory = os.path.dirname(killed.stdout.readline().strip())
        assert os.path.exists(directory)
        killed.send_signal(signal.SIGKILL)
    assert gone(directory)


def test_no_program(no_daemon, monkeypatch, tmp_path):
    monkeypatch.delenv("KVPAGED_BIN")
    monkeypatch.setattr(_private, "_program", lambda: None)
    with pytest.raises(kv.NoDaemon, match="KVPAGED_BIN"):
        BitPackedKVCache()
    monkeypatch.undo()
    monkeypatch.setenv("KVPAGED_SOCKET", str(tmp_path / "none"))
    monkeypatch.setenv("KVPAGED_BIN", str(tmp_path / "nothing"))
    with pytest.warns(RuntimeWarning), pytest.raises(kv.NoDaemon, match="does not start: .*nothing"):
        _private._said = False
        BitPackedKVCache()
    assert _private._shared is None


def test_a_named_socket_is_meant(tmp_path):
    with pytest.raises(kv.NoDaemon):
        BitPackedKVCache(socket=tmp_path / "none")
