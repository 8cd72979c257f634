#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kvbench as scripts see it: each verb runs, prints JSON with exactly the documented keys and names, and leaves no
process behind; and the file of kvworker --dump-kv that it reads.

    test-kvbench.py KVBENCH

KVWORKER_BIN names kvworker; without it what needs one is skipped. Nothing is said about how fast anything is. Prints
TAP.
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

KEYS = ["bench", "name", "value", "unit", "reference", "ratio"]
ROUNDTRIP = ["append.f32", "append.stored", "append.pages", "fetch.f32", "fetch.stored", "fetch.pages", "memcpy",
             "ping"]
LOOP = ["work.longest", "work.slow", "longest", "slow"]
ERRORS = ["mean_abs_rel", "rms_rel", "bits_per_value"]

METRICS = ["p50", "p99", "p999", "rate"]

# client/worker/dump.h
DUMP_MAGIC = b"KVDUMP\r\n"
DUMP_HEADER = struct.Struct("<8s6I32s")


class Skipped(Exception):
    """What the test needs is not here."""


def run(kvbench, *arguments, **changes):
    """Exit status and the two outputs. The process group shows what is left behind."""
    environment = {name: value for name, value in os.environ.items() if name != "KVPAGED_KV"} | changes
    with subprocess.Popen([kvbench, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          start_new_session=True, env=environment) as process:
        out, err = process.communicate(timeout=600)
        try:
            os.killpg(process.pid, 0)
            raise AssertionError("a process was left behind")
        except ProcessLookupError:
            pass
    return process.returncode, out, err


def rows_of(out, bench):
    rows = [json.loads(line) for line in out.splitlines()]
    for row in rows:
        assert list(row) == KEYS, row
        assert row["bench"] == bench and row["unit"] and row["reference"], row
        assert isinstance(row["value"], (int, float)) and isinstance(row["ratio"], (int, float)), row
    return {row["name"]: row for row in rows}


def test_memory(kvbench):
    """memory: names, and more held than a raw cache could"""
    status, out, err = run(kvbench, "memory", "--json", "--codec", "q8", "--arena-bytes", "64MiB")
    assert status == 0, err
    rows = rows_of(out, "memory")
    assert list(rows) == ["q8.vs_f16", "q8.vs_f32", "q8.token"], rows
    # A small arena pays more for its tables than one of 512 MiB.
    assert 1.6 < rows["q8.vs_f16"]["ratio"] < 2 and rows["q8.vs_f16"]["value"] == rows["q8.vs_f16"]["ratio"], rows
    assert abs(rows["q8.vs_f32"]["ratio"] / rows["q8.vs_f16"]["ratio"] - 2) < 1e-6, rows


def test_roundtrip(kvbench):
    """roundtrip: names of one and two clients, and what was fetched is what was appended"""
    status, out, err = run(kvbench, "roundtrip", "--json", "--rounds", "1", "--shape", "smollm2", "--codec", "q4")
    assert status == 0, err
    rows = rows_of(out, "roundtrip")
    names = [f"smollm2.q4.c{clients}.{what}" for clients in (1, 2) for what in ROUNDTRIP]
    assert list(rows) == names + [f"smollm2.loop.{what}" for what in LOOP], list(rows)
    assert all(rows[name]["value"] > 0 for name in names), rows


def fetch_names(size, place, clients, kinds):
    """Names of the figures of some kinds, in the small and the big set."""
    return {f"{kind}.{working_set}.{metric}{size}{place}{clients}" for kind in kinds for working_set in ("small", "big")
            for metric in METRICS}


def test_fetch(kvbench):
    """fetch: kvpaged, its limits and files under their names, peers where they are, every value sensible"""
    status, out, err = run(kvbench, "fetch", "--json", "--quick", "--rounds", "1")
    assert status == 0, err
    assert all("left out" in line for line in err.splitlines()), err
    rows = rows_of(out, "fetch")
    inside = ["find_pin", "touch", "decode", "bare", "pread_get", "pread_set", "move_out", "move_in"]
    served = ["append", "append_batch", "rpc_fetch", "ping"]
    peers = {"lmdb": (inside, ["lmdb_get", "lmdb_touch", "lmdb_set"])}
    for name in ("redis", "memcached"):
        peers[name] = (served, [f"{name}_get", f"{name}_touch", f"{name}_set"])
    for name, (kinds, its) in peers.items():
        if f"{name} is left out" not in err:
            kinds += its
    for size in ("", ".16k", ".32k", ".64k"):
        wanted = fetch_names(size, "", "", inside + served)
        if len(os.sched_getaffinity(0)) > 1:
            wanted |= fetch_names(size, ".split", "", served) | fetch_names(size, "", ".c2", inside)
        assert wanted <= set(rows), wanted - set(rows)
    assert "deliver.big.p50.64k" in rows and "deliver.small.p50.64k" not in rows, list(rows)
    assert "clock" in rows and "target.daemon_cpu.big" in rows and "target.tables.pages32" in rows, list(rows)
    for name, row in rows.items():
        assert row["value"] > 0 or name == "target.daemon_cpu.big", row
        assert row["reference"].startswith("target: ") == name.startswith("target."), row
        assert row["unit"] in ("us", "1/s", "ns") or name.startswith("target."), row


def test_fetch_without_peers(kvbench):
    """fetch: a peer's server that is not installed is left out with a line, and the rest is measured"""
    environment = {"PATH": "/nonexistent"}
    status, out, err = run(kvbench, "fetch", "--json", "--quick", "--rounds", "1", "--page", "16KiB", **environment)
    assert status == 0, err
    assert "redis is left out" in err and "memcached is left out" in err, err
    rows = rows_of(out, "fetch")
    assert "find_pin.small.p50.16k" in rows and not any("redis" in name for name in rows), list(rows)


def test_scale(kvbench):
    """scale: numbers of blocks and of clients, each beside the first"""
    status, out, err = run(kvbench, "scale", "--json", "--quick", "--rounds", "1")
    assert status == 0 and not err, err
    rows = rows_of(out, "scale")
    names = [f"{what}.{metric}" for what in ("blocks.50", "blocks.1e2", "blocks.200", "blocks.400", "clients.1",
                                             "clients.4", "clients.16", "clients.64")
             for metric in ("p50", "p99", "rate")]
    assert list(rows) == names + ["target.blocks"], list(rows)
    assert all(row["value"] > 0 and row["ratio"] > 0 for row in rows.values()), rows
    assert rows["blocks.50.p50"]["ratio"] == 1 and rows["clients.1.rate"]["ratio"] == 1, rows


def test_scrape(kvbench):
    """scrape: what clients wait with and without scrapes, and what one takes, beside the targets"""
    status, out, err = run(kvbench, "scrape", "--json", "--quick", "--rounds", "2")
    assert status == 0 and not err, err
    rows = rows_of(out, "scrape")
    assert list(rows) == ["rpc.alone.p50", "rpc.alone.p99", "rpc.scraped.p50", "rpc.scraped.p99", "scrape.p50",
                          "scrape.p99", "scrape.cpu", "scrape.spaces256.p50", "scrape.spaces256.p99",
                          "scrape.spaces256.cpu", "scrape.spaces256.bytes", "target.scrape",
                          "target.scrape.spaces256", "target.rpc_p99"], list(rows)
    assert all(row["value"] > 0 and row["ratio"] > 0 for row in rows.values()), rows
    assert rows["scrape.spaces256.bytes"]["value"] > 256 * 6 * 240, rows  # each quote takes two bytes, in six lines


def test_restart(kvbench):
    """restart: how long starts take, cold and warm, and clients wait, beside the targets"""
    status, out, err = run(kvbench, "restart", "--json", "--quick", "--rounds", "2")
    if status != 0 and "/dev/shm" in err:
        raise Skipped("/dev/shm cannot hold an arena")
    assert status == 0 and not err, err
    rows = rows_of(out, "restart")
    names = [f"{setting}.{what}" for setting in ("quick.single", "quick.layers")
             for what in ("blocks", "cold", "warm", "pause.fetch", "pause.read")]
    assert list(rows) == names + ["target.start", "target.pause"], list(rows)
    assert all(row["value"] > 0 for row in rows.values()), rows


def tier_names(fio, uring):
    """Names of the figures of SmolLM2's shape."""
    engines = ("uring", "threads", "cached") if uring else ("threads",)
    names = [f"read.smollm2.{engine}.{what}{cpu}" for engine in engines for what in ("prefetch", "fetch", "ahead")
             for cpu in ("", ".cpu")]
    names += [f"write.smollm2.{what}" for what in [f"{engine}.append" for engine in engines] + ["uring.drain"] * uring]
    names += [f"forecast.smollm2.{engine}" for engine in engines]
    names += [f"{what}.{condition}.{metric}" for what in ("ask", "find")
              for condition in ("alone", "load", "append", "store", "both") for metric in ("p50", "p99")]
    names += [f"daemon.{condition}.{what}" for condition in ("alone", "load", "append", "store", "both")
              for what in ("cpu", "loaded", "stored")]
    names += [f"target.{what}.{condition}.p99" for what in ("ask", "find")
              for condition in ("load", "append", "store", "both")]
    if fio:
        names += [f"limit.smollm2.{what}" for what in ("write.64k", "write.1m")]
        names += [f"limit.smollm2.{engine}.randread.{what}" for engine in engines if engine != "cached"
                  for what in ("64k", "page")]
    if fio and uring:
        names += [f"target.read.smollm2.uring.{what}" for what in ("prefetch", "fetch", "ahead")]
        names += ["target.write.smollm2.uring.append"]
    return set(names)


def test_tier(kvbench):
    """tier: loads, stores and requests beside fio where it is installed, and nothing left on the disk"""
    for environment in ({}, {"PATH": "/nonexistent"}):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
            status, out, err = run(kvbench, "tier", "--json", "--quick", "--rounds", "1", "--shape", "smollm2",
                                   "--directory", directory, **environment)
            assert status == 0, err
            assert os.listdir(directory) == []
        fio = "fio is not installed" not in err
        assert not (fio and environment), err
        uring = "io_uring are left out" not in err
        assert err.count("\n") == (not fio) + 2 * (not uring), err  # of io_uring also why it is refused
        rows = rows_of(out, "tier")
        wanted = tier_names(fio, uring)
        optional = {name for name in rows if name.startswith("write.") and name.endswith(".cpu")}
        assert wanted == set(rows) - optional, wanted ^ set(rows)
        for name, row in rows.items():
            positive = name.startswith(("read.", "ask.", "find.", "limit.", "forecast."))
            assert row["value"] > 0 or not positive, row
            assert row["reference"].startswith("target: ") == name.startswith("target."), row
    status, _, err = run(kvbench, "tier", "--quick", "--rounds", "1", "--directory", "/nonexistent")
    assert status == 1 and "/nonexistent" in err, (status, err)


def test_first_token(kvbench):
    """first-token.py: from the cache, resident or on the tier, comes the same token as computed"""
    worker = os.environ.get("KVWORKER_BIN")
    if not worker:
        raise Skipped("no kvworker")
    build = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(worker))))
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "first-token.py")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        status, out, err = run(sys.executable, script, build, "--dir", directory, "--rounds", "1", "--model", "tiny",
                               "--json")
        assert status == 0, err
        assert os.listdir(directory) == []
    result = json.loads(out)
    assert result["same_token"] and 1300 < result["tokens"] < 1700 and result["blocks"] >= 10, result
    assert all(result[name] > 0 for name in ("computed_ms", "resident_ms", "tier_ms", "speedup")), result


def test_codec(kvbench):
    """codec: names, units and references of one codec on one instruction set"""
    status, out, err = run(kvbench, "codec", "--json", "--rounds", "1", "--codec", "q6", "--isa", "scalar")
    assert status == 0 and not err, err
    rows = rows_of(out, "codec")
    names = []
    for role, last in (("k", "scores"), ("v", "accumulate")):
        names += [f"q6.{role}.{operation}.{dtype}.cache.scalar" for dtype in ("f32", "f16", "bf16")
                  for operation in ("encode", "decode")]
        names += [f"q6.{role}.{last}.f32.cache.scalar{queries}" for queries in ("", ".gqa4", ".gqa8")]
    names += ["page32k.q6.encode", "page32k.q6.decode", "memcpy_f32.cache", "stream_read.cache"]
    assert list(rows) == names, list(rows)
    for name, row in rows.items():
        attention = "scores" in name or "accumulate" in name
        if "gqa" in name:
            # A difference of two times, which can be anything in one round of a busy machine.
            assert row["reference"] == "first_query" and row["unit"] == "x, each more query", row
            continue
        assert row["value"] > 0 and row["ratio"] > 0, row
        if name.startswith("q6."):
            assert row["reference"] == ("stream_read" if attention else "memcpy_f32"), row
            assert row["unit"] == ("GB/s of stored" if attention else "GB/s of f32"), row
    assert rows["page32k.q6.decode"]["unit"] == "us", rows


def test_error(kvbench):
    """error: names, exact bits, and no code beats the bound on normal values"""
    status, out, err = run(kvbench, "error", "--json", "--codec", "t6g16")
    assert status == 0 and "--dump-kv" in err, (status, err)
    rows = rows_of(out, "error")
    assert list(rows) == [f"t6g16.{role}.{data}.{what}" for data in ("gauss", "outlier") for role in "kv"
                          for what in ERRORS], list(rows)
    assert rows["t6g16.k.gauss.bits_per_value"]["value"] == 6.25, rows
    assert rows["t6g16.v.gauss.bits_per_value"]["value"] == 6.5, rows
    for role in "kv":
        for what in ERRORS[:2]:
            row = rows[f"t6g16.{role}.gauss.{what}"]
            assert row["reference"] == "rate_distortion_gauss" and 1 < row["ratio"] < 2, row
    # 2^-6.5
    assert abs(rows["t6g16.v.gauss.rms_rel"]["value"] / rows["t6g16.v.gauss.rms_rel"]["ratio"] - 1.10485) < 1e-4, rows


def make_dump(layers=1, heads=2, tokens=130, head_dim=8, model=b"made", magic=DUMP_MAGIC, version=1):
    """A dump whose values count up; the last two tokens of 130 are in no whole block."""
    values = layers * heads * tokens * head_dim
    data = struct.pack(f"<{values}f", *((i * 37 % 101 - 50) / 10 for i in range(values)))
    return DUMP_HEADER.pack(magic, version, DUMP_HEADER.size, layers, heads, tokens, head_dim, model) + 2 * data


def test_capture(kvbench):
    """error --kv: a captured file under its name, and damaged ones refused"""
    huge = DUMP_HEADER.pack(DUMP_MAGIC, 1, DUMP_HEADER.size, *[0xffffffff] * 3, 256, b"made")
    damaged = {
        "short": DUMP_MAGIC, "header": make_dump()[:DUMP_HEADER.size], "cut": make_dump()[:-1],
        "longer": make_dump() + b"x", "magic": make_dump(magic=b"KVDUMPED"), "version": make_dump(version=2),
        "dim": make_dump(head_dim=4), "none": make_dump(tokens=0), "name": make_dump(model=b"../x"),
        "unnamed": make_dump(model=b""), "endless": make_dump(model=b"x" * 32), "huge": huge,
        "few": make_dump(tokens=127), "empty": b"",
        "nan": make_dump()[:DUMP_HEADER.size] + b"\xff" * (len(make_dump()) - DUMP_HEADER.size),
    }
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "kv")
        with open(path, "wb") as stream:
            stream.write(make_dump())
        status, out, err = run(kvbench, "error", "--json", "--codec", "q8", "--kv", path)
        assert status == 0 and not err, err
        rows = rows_of(out, "error")
        assert list(rows)[12:] == [f"q8.{role}.made.{what}" for role in "kv" for what in ERRORS], list(rows)
        assert rows["q8.v.made.bits_per_value"]["value"] == 12, rows
        assert 0 < rows["q8.k.made.rms_rel"]["value"] < 1, rows
        for name, content in damaged.items():
            with open(path, "wb") as stream:
                stream.write(content)
            status, out, err = run(kvbench, "error", "--json", "--codec", "q8", "--kv", path)
            assert status == 1 and err.startswith("kvbench: ") and err.count("\n") == 1, (name, status, err)
        for bad in (directory, os.path.join(directory, "missing"), "/dev/null"):
            status, _, err = run(kvbench, "error", "--kv", bad)
            assert status == 1 and bad in err, (bad, status, err)


def test_dump(kvbench):
    """kvworker --dump-kv: the file is what its header says, replaces only a file, and can be measured"""
    if not os.environ.get("KVWORKER_BIN"):
        raise Skipped("no kvworker")
    prompt = "The history of the town is long, and not all of it was written down. " * 12
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "kv")
        command = [os.environ["KVWORKER_BIN"], "--no-cache", "--codec", "f32", "--attend", "decoded",
                   "--prompt", prompt, "--json", "--quiet", "--ignore-eos", "-n", "4", "--dump-kv"]
        for _ in range(2):
            status, out, err = run(*command, path)
            assert status == 0, err
        assert os.listdir(directory) == ["kv"]
        with open(path, "rb") as stream:
            data = stream.read()
        magic, version, size, layers, heads, tokens, head_dim, model = DUMP_HEADER.unpack_from(data)
        assert (magic, version, size, model.rstrip(b"\0")) == (DUMP_MAGIC, 1, DUMP_HEADER.size, b"tiny"), data[:64]
        assert len(data) == size + 2 * 4 * layers * heads * tokens * head_dim
        assert tokens == json.loads(out)["tokens_prompt"] + 3, out  # the last one generated is not computed
        status, out, err = run(kvbench, "error", "--json", "--codec", "q8", "--kv", path)
        assert status == 0 and "q8.k.tiny.rms_rel" in rows_of(out, "error"), err
        for bad in (directory, os.path.join(directory, "no", "kv")):
            status, _, err = run(*command, bad)
            assert status == 1 and "--dump-kv" in err, (bad, status, err)
        assert os.listdir(directory) == ["kv"]
        for arguments in (["--codec", "q8"], ["--codec-v", "f16"], ["--attend", "packed"]):
            status, _, err = run(*command, path, *arguments)
            assert status == 2 and "--dump-kv wants" in err, (arguments, status, err)


def test_table(kvbench):
    """without --json there is a table for people"""
    status, out, err = run(kvbench, "memory", "--codec", "f16", "--arena-bytes", "32MiB")
    assert status == 0, err
    assert "NAME" in out and "f16.vs_f16" in out and not out.startswith("{"), out


def test_disk(kvbench):
    """disk: every engine of this machine does everything, beside fio where that is, and leaves no file"""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        status, out, err = run(kvbench, "disk", "--json", "--quick", "--rounds", "1", "--directory", directory)
        assert status == 0, err
        assert os.listdir(directory) == [], os.listdir(directory)
    rows = rows_of(out, "disk")
    for work in ("write.new", "write", "read"):
        assert rows[f"{work}.threads"]["value"] > 0 and rows[f"{work}.threads.cpu"]["value"] > 0, rows
        for other in ("plain", "arena"):
            assert (f"{work}.io_uring" in rows) == (f"{work}.io_uring.{other}" in rows), rows
        assert (f"{work}.fio" in rows) == bool(shutil.which("fio")), rows
    assert ("target.read" in rows) == ("read.io_uring" in rows and "read.fio" in rows), rows


def test_usage(kvbench):
    """bad arguments are refused, help is given"""
    for arguments in ([], ["nothing"], ["memory", "memory"], ["memory", "--codec", "q7"],
                      ["roundtrip", "--rounds", "0"], ["roundtrip", "--shape", "x"], ["--frobnicate"],
                      ["memory", "--codec", "t6"], ["memory", "--rounds", "3"], ["codec", "--shape", "smollm2"],
                      ["codec", "--isa", "mmx"], ["codec", "--codec", "q7"], ["error", "--isa", "scalar"],
                      ["roundtrip", "--kv", "x"], ["fetch", "--page", "8KiB"], ["fetch", "--codec", "q8"],
                      ["scale", "--page", "16KiB"], ["memory", "--quick"],
                      ["fetch", "--directory", "/tmp"], ["tier", "--codec", "q8"], ["tier", "--part", "x"],
                      ["disk", "--part", "reads"]):
        status, out, err = run(kvbench, *arguments)
        assert status == 2 and not out and err, (arguments, status, out, err)
    status, out, err = run(kvbench, "--help")
    for verb in ("roundtrip", "memory", "fetch", "scale", "scrape", "restart", "codec", "error", "disk", "tier"):
        assert status == 0 and f"\n  {verb} " in out and not err, (status, out, err)


TESTS = (test_memory, test_roundtrip, test_fetch, test_fetch_without_peers, test_scale, test_scrape, test_restart,
         test_tier, test_first_token, test_codec, test_error, test_capture, test_dump, test_table, test_disk,
         test_usage)


def main():
    failed = False
    print(f"1..{len(TESTS)}")
    for number, test in enumerate(TESTS, 1):
        try:
            test(sys.argv[1])
            print(f"ok {number} - {test.__doc__}")
        except Skipped as reason:
            print(f"ok {number} - {test.__doc__} # SKIP {reason}")
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            failed = True
            print(f"not ok {number} - {test.__doc__}")
            for line in f"{type(error).__name__}: {error}".splitlines():
                print(f"# {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
