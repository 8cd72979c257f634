# SPDX-License-Identifier: Apache-2.0
"""Every method of Client, Space, Reader and Block once, and what bad arguments get."""
from __future__ import annotations

import numpy as np
import pytest
from conftest import EXACT, tensors

import kvclient as kv
from kvclient import Status


def fill(space: kv.Space, keys: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """A chain of whole blocks."""
    blocks = [tensors(i) for i, _ in enumerate(keys)]
    results = space.append([kv.Append(key, k, v, parent=keys[i - 1] if i else None)
                            for i, (key, (k, v)) in enumerate(zip(keys, blocks))])
    assert [r.status for r in results] == [Status.OK] * len(keys)
    assert all(r.ok and r.pages_stored == 4 for r in results)
    return blocks


def test_append_and_fetch(space):
    blocks = fill(space, ["a", "b"])
    got = space.fetch(["a", "b", "c"])
    assert got.statuses == [Status.OK, Status.OK, Status.MISS] and got.tokens == [32, 32, 0]
    assert not got.ok and got.prefix_tokens == 64
    for i, (k, v) in enumerate(blocks):
        assert np.array_equal(got.k[:, :, i * 32:(i + 1) * 32], k)
        assert np.array_equal(got.v[:, :, i * 32:(i + 1) * 32], v)
    with pytest.raises(kv.Missing, match="'c'"):
        space.fetch(["a", "c"], strict=True)
    assert space.fetch([]).statuses == []


def test_append_again_and_other_outcomes(space):
    (k, v), _ = fill(space, ["a", "b"])
    again, orphan, conflict = space.append([kv.Append("a", k, v), kv.Append("x", k, v, parent="none"),
                                            kv.Append("b", k, v)])
    assert (again.status, again.ok, again.pages_present) == (Status.PRESENT, True, 4)
    assert (orphan.status, orphan.ok, conflict.status) == (Status.NO_PARENT, False, Status.CONFLICT)
    with pytest.raises(kv.Missing, match="'x'"):
        space.append([kv.Append("x", k, v, parent="none")], strict=True)
    with pytest.raises(kv.Conflict):
        conflict.raise_for_status()


def test_short_block_ends_the_prefix(space):
    k, v = tensors(1, tokens=20)
    space.put("short", k, v)
    space.put("next", *tensors(2), parent="short")
    got = space.fetch(["short", "next"])
    assert got.tokens == [20, 32] and got.prefix_tokens == 20
    assert np.array_equal(got.k[:, :, :20], k) and np.array_equal(got.v[:, :, :20], v)


def test_ranges(space):
    k, v = tensors()
    halves = [kv.Append("a", k[:, h:h + 2], v[:, h:h + 2], heads=slice(h, h + 2)) for h in (0, 2)]
    assert space.append(halves[:1])[0].pages_stored == 2
    assert space.match(["a"], heads=slice(0, 2)) == 1 and space.match(["a"]) == 0
    assert space.fetch(["a"]).statuses == [Status.PARTIAL]
    space.append(halves[1:], strict=True)
    got = space.fetch(["a"], layers=slice(1, None), heads=slice(2, 4))
    assert np.array_equal(got.k, k[1:, 2:])
    for bad in ({"heads": slice(1, 3)}, {"layers": slice(2, 2)}, {"layers": slice(0, 3)}, {"layers": slice(0, 2, 2)}):
        with pytest.raises(ValueError):
            space.fetch(["a"], **bad)


def test_values_that_cannot_be_stored(client):
    space = client.space("faults", kv.Schema("test", layers=2, kv_heads=4, head_dim_k=16, head_dim_v=24, dtype="f32",
                                             codec_k="q8", block_tokens=32))
    k, v = tensors()
    v[1, 3, 7, 5] = np.nan
    bad, good = space.append([kv.Append("bad", k, v), kv.Append("good", k, k[..., :1].repeat(24, 3))])
    assert bad.status == Status.NONFINITE and bad.fault == ("V", 1, 3, 7, 5) and good.ok
    with pytest.raises(ValueError, match="V, layer 1, head 3, token 7, channel 5") as caught:
        bad.raise_for_status()
    assert caught.value.fault == bad.fault and caught.value.status == Status.NONFINITE
    v[1, 3, 7, 5] = 70000
    with pytest.raises(kv.BadValue) as caught:
        space.submit(kv.Append("bad", k, v))
    assert caught.value.status == Status.VALUE_RANGE and caught.value.fault == ("V", 1, 3, 7, 5)
    assert space.match(["bad"]) == 0 and space.match(["good"]) == 1


def test_keys(space):
    k, v = tensors()
    for key, same in (("text", b"text"), ("\u00fc", b"\xc3\xbc"), (b"nul\0in it", bytearray(b"nul\0in it")),
                      (b"x" * 64, memoryview(b"x" * 64))):
        space.put(key, k, v)
        assert space.match([same]) == 1
    assert space.match([b"nul"]) == 0
    for bad in (b"", "", b"x" * 65, "\u00fc" * 33):
        with pytest.raises(ValueError, match="1..64"):
            space.put(bad, k, v)
    for wrong in (1, None, 1.5):
        with pytest.raises(TypeError):
            space.match([wrong])
    with pytest.raises(TypeError, match="not one key"):
        space.match("abc")


def test_reader_finds_matches_fetches(space, client):
    blocks = fill(space, ["a", "b"])
    with client.reader() as reader:
        assert space.find("a", reader) is Status.OK and space.find("x", reader) is Status.MISS
        assert space.match(["a", "b", "x"], reader=reader) == 2
        got = space.fetch(["a", "b"], reader=reader, strict=True)
        assert np.array_equal(got.k[:, :, 32:], blocks[1][0])
    with pytest.raises(ValueError, match="closed"):
        space.match(["a"], reader=reader)


@pytest.mark.parametrize("with_reader", [True, False])
def test_pin(space, client, with_reader):
    (k, v), = fill(space, ["a"])
    reader = client.reader() if with_reader else None
    with space.pin("a", reader=reader) as block:
        assert block.tokens == 32 and block.key == b"a" and block.check()
        tile = block.tile("K", 1, 2)
        assert tile.dtype == np.uint8 and not tile.flags.writeable
        assert np.array_equal(tile.view(np.float32).reshape(32, 16), k[1, 2])
        with pytest.raises(ValueError):
            tile.flags.writeable = True
        assert np.array_equal(block.decode("V", 0, 3), v[0, 3])
        out = np.zeros((40, 24), np.float16)
        assert block.decode("V", 0, 3, out) is out
        assert np.array_equal(out[:32], v[0, 3].astype(np.float16)) and not out[32:].any()
        for bad in (("X", 0, 0), ("K", 2, 0), ("K", 0, 4), ("K", -1, 0)):
            with pytest.raises((ValueError, IndexError)):
                block.tile(*bad)
        for out in (np.zeros((31, 24), np.float32), np.zeros((32, 16), np.float32), np.zeros((1, 32, 24), np.float32)):
            with pytest.raises(ValueError, match="shape"):
                block.decode("V", 0, 3, out)
        space.delete(["a"])
        assert not block.check()
        with pytest.raises(kv.Stale):
            block.decode("V", 0, 3)
    with pytest.raises(ValueError, match="closed"):
        block.tile("K", 0, 0)
    with pytest.raises(kv.Missing, match="'a'"):
        space.pin("a", reader=reader)


def test_pin_many_and_leases(space, client):
    fill(space, ["a"])
    blocks, statuses = space.pin_many(["a", "x"], ttl=5)
    assert statuses == [Status.OK, Status.MISS] and blocks[1] is None
    assert [item.leases for item in space.list()] == [1]
    blocks[0].unpin()
    blocks[0].unpin()
    space.match(["a"])
    assert [item.leases for item in space.list()] == [0]
    with pytest.raises(ValueError, match="ttl"):
        space.pin("a", ttl=-1)
    with client.reader() as reader, pytest.raises(ValueError, match="ttl"):
        space.pin("a", reader=reader, ttl=1)


def test_remove_and_keep(space):
    fill(space, ["a", "b", "c"])
    assert space.touch(["a", "x"]) == [Status.OK, Status.MISS]
    assert space.keep(["a", "x"], 60, priority=3) == [Status.OK, Status.MISS]
    assert space.why("a").priority == 3
    assert space.unkeep(["a"]) == [Status.OK] and space.why("a").priority == 0
    for bad in ({"ttl": 0}, {"ttl": 1e9}, {"ttl": 1, "priority": 16}, {"ttl": 1, "priority": -1}):
        with pytest.raises(ValueError):
            space.keep(["a"], **bad)
    assert space.delete(["b", "x"]) == [Status.OK, Status.MISS]
    assert space.match(["a", "b", "c"]) == 1 and space.why("c").fate is kv.Fate.DELETED


def test_looking_around(space, client):
    fill(space, ["a", "b"])
    why = space.why("a")
    assert (why.fate, why.word, why.tokens, why.pages_ready, why.page_count, why.children) == \
        (kv.Fate.PRESENT, "present", 32, 4, 4, 1)
    assert space.why("x").fate is kv.Fate.UNKNOWN and space.why("x").text
    items = {item.key: item for item in space.list()}
    assert set(items) == {b"a", b"b"} and items[b"a"].is_root and not items[b"b"].is_root
    assert items[b"a"].stored_bytes == why.stored_bytes > 0
    stats = client.stats()
    assert stats.spaces[space.name].blocks == 2 and stats.spaces[space.name].schema == space.schema
    assert stats.counters and stats.uptime > 0 and stats.server_version == kv.__version__
    looked = client.look()
    assert looked.spaces.keys() == stats.spaces.keys() and any(h.name == "request_seconds" for h in looked.histograms)
    assert client.config()["arena.bytes"] == ("64MiB", "argument --arena-bytes")
    info = client.info()
    assert info.server_version == kv.__version__ and info.arena_bytes >= 64 << 20 and info.lease_ttl_max > 0


def test_evict(space, client):
    fill(space, ["a", "b", "c"])
    assert client.evict(space, blocks=1) == (1, pytest.approx(client.evict(space, blocks=1).bytes))
    assert space.match(["a", "b", "c"]) == 1  # from the end of the chain
    assert client.evict(space).blocks == 1 and space.why("a").fate is kv.Fate.EVICTED_REQUEST
    with pytest.raises(ValueError):
        client.evict(bytes=-1)


def test_resize(space, client):
    fill(space, ["a", "b", "c"])
    size = client.info().arena_bytes
    smaller = client.resize(size // 2 + 5)
    assert smaller.is_done and smaller.bytes == smaller.held_bytes == smaller.asked_bytes == size // 2
    assert smaller.discarded_bytes == size - size // 2 and smaller.evicted_blocks == 0
    assert space.match(["a", "b", "c"]) == 3
    assert client.stats().counters["retired_bytes"] == size - size // 2
    assert client.resize(size).held_bytes == size
    for wrong in (size + 1, 1 << 63, 0):
        with pytest.raises(kv.Invalid):
            client.resize(wrong)
    for wrong in ((-1, 1), (size, -1)):
        with pytest.raises(ValueError):
            client.resize(*wrong)


def test_spaces(client):
    opened = client.space("spaces", EXACT)
    assert client.space("spaces").schema == opened.schema == EXACT.__class__(**{**EXACT.__dict__, "codec_v": "f32"})
    with pytest.raises(kv.SpaceError, match="layers") as caught:
        client.space("spaces", kv.Schema(**{**EXACT.__dict__, "layers": 3}))
    assert caught.value.status == Status.SCHEMA
    with pytest.raises(kv.SpaceError):
        client.space("no such space")
    for bad in ({"head_dim_k": 7}, {"layers": 0}, {"layers": -1}, {"dtype": "f64"}, {"codec_k": "q3"}, {"model": ""},
                {"page_heads": 3}, {"revision": "a\0b"}):
        with pytest.raises(ValueError):
            client.space("bad", kv.Schema(**{**EXACT.__dict__, **bad}))
    for bad in ("", "a\0b", "x" * 129, "\n"):
        with pytest.raises(ValueError):
            client.space(bad, EXACT)
    with client.space("spaces") as second:
        assert second.match(["a"]) == 0
    with pytest.raises(ValueError, match="closed"):
        second.match(["a"])
    client.drop_space("spaces")
    with pytest.raises(kv.SpaceError):
        opened.match(["a"])


def test_space_without_v(client):
    space = client.space("no v", kv.Schema("test", layers=1, kv_heads=2, head_dim_k=16, head_dim_v=0, dtype="f16",
                                           codec_k="f16", block_tokens=8))
    k = np.ones((1, 2, 8, 16), np.float16)
    space.put("a", k)
    got = space.fetch(["a"])
    assert np.array_equal(got.k, k) and got.v is None
    with pytest.raises(ValueError, match="no V"):
        space.put("a", k, k)
    with pytest.raises(ValueError, match="no V"):
        space.fetch(["a"], out=(None, k))


def test_read_only_and_options(shared_daemon, space):
    with kv.Client(shared_daemon.socket, read_only=True, timeout=5, verify=kv.Verify.ALWAYS, pins_max=64,
                   reconnect=False) as client:
        mine = client.space(space.name)
        with pytest.raises(kv.NotAllowed):
            mine.put("a", *tensors())
        assert client.info().pins_max == 64
    with kv.Client(shared_daemon.socket, staging_bytes=1 << 20, name="named") as client:
        assert client.info().staging_bytes == 1 << 20
    for bad in ({"timeout": -1}, {"name": "a\0b"}, {"name": "\n"}, {"pins_max": 1 << 40}, {"verify": 3}):
        with pytest.raises(ValueError):
            kv.Client(shared_daemon.socket, **bad)


def test_no_daemon(tmp_path):
    with pytest.raises(kv.NoDaemon) as caught:
        kv.Client(tmp_path / "none")
    assert isinstance(caught.value, ConnectionError) and caught.value.errno == 2 and "none" in str(caught.value)
    with pytest.raises(OSError):
        kv.Client("/" + "x" * 200)
