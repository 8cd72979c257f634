# SPDX-License-Identifier: Apache-2.0
"""Blocks below RAM: forecasts, prefetch, and fetches layer by layer."""
from __future__ import annotations

import time

import numpy as np
import pytest
from conftest import Daemon

import kvclient as kv

SCHEMA = kv.Schema(model="m", layers=6, kv_heads=2, head_dim_k=64, head_dim_v=64, block_tokens=32, dtype="f32",
                   codec_k="f32", codec_v="f32")


def tensors(seed):
    random = np.random.default_rng(seed)
    return tuple(random.standard_normal((6, 2, 32, 64), dtype=np.float32) for _ in "kv")


@pytest.fixture
def tiered(tmp_path):
    daemon = Daemon(tmp_path, "--tier-dir", str(tmp_path / "tier"), "--tier-bytes", "64MiB", "--tier-segment-bytes",
                    "16MiB", "--tier-admit", "all", "--tier-free-percent", "100")
    yield daemon
    daemon.stop()


def stored_below(client, n):
    end = time.monotonic() + 60
    while client.stats().counters["tier_stored_blocks_total"] < n:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def evicted(tiered):
    """A space whose four blocks are on the tier alone."""
    with kv.Client(tiered.socket, timeout=60) as client:
        space = client.space("s", SCHEMA)
        for i in range(4):
            space.put(f"{i}", *tensors(i), parent=f"{i - 1}" if i else None)
        stored_below(client, 4)
        client.evict()
        yield space


KEYS = ["0", "1", "2", "3"]


def test_forecast(evicted):
    forecast = evicted.forecast([*KEYS, "nowhere"])
    assert (forecast.resident, forecast.loadable) == (0, 4)
    assert forecast.load_seconds > 0
    assert evicted.fetch(KEYS).ok
    assert evicted.forecast(KEYS) == kv.Forecast(4, 0, 0.0)


def test_why(evicted):
    assert evicted.why("1").fate == kv.Fate.DEMOTED


def test_prefetch(evicted):
    assert evicted.prefetch(["nowhere", *KEYS]) == [kv.Status.MISS] + [kv.Status.OK] * 4
    end = time.monotonic() + 60
    while evicted.match(KEYS) < 4:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("asking", [True, False])
def test_layers(evicted, asking):
    with evicted.client.reader() as reader:
        seen = []
        for layer, got in evicted.fetch_layers(KEYS, reader=None if asking else reader):
            seen.append(layer)
            assert got.ok
            for i in range(4):
                k, v = tensors(i)
                np.testing.assert_array_equal(got.k[layer, :, 32 * i:32 * i + 32], k[layer])
                np.testing.assert_array_equal(got.v[layer, :, 32 * i:32 * i + 32], v[layer])
    assert seen == list(range(6))


def test_layers_of_a_range(evicted):
    assert [layer for layer, _ in evicted.fetch_layers(KEYS, layers=slice(2, 5))] == [2, 3, 4]


def test_layers_left_early(evicted):
    for layer, got in evicted.fetch_layers([*KEYS, "nowhere"]):
        assert got.statuses == [kv.Status.OK] * 4 + [kv.Status.MISS]
        if layer == 1:
            break
    assert evicted.fetch(KEYS).ok


def test_a_restart_keeps_the_tier(tiered, evicted):
    tiered.stop()
    tiered.start()
    end = time.monotonic() + 60
    while evicted.client.stats().counters["tier_ready"] != 1:
        assert time.monotonic() < end
        time.sleep(0.01)
    got = evicted.fetch(KEYS, strict=True)
    np.testing.assert_array_equal(got.k[:, :, 32:64], tensors(1)[0])
