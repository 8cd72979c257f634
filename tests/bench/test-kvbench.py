#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kvbench as scripts see it: each verb runs, prints JSON with exactly the documented keys and names, and leaves no
process behind.

    test-kvbench.py KVBENCH

Nothing is said about how fast anything is. Prints TAP.
"""
import json
import os
import subprocess
import sys

KEYS = ["bench", "name", "value", "unit", "reference", "ratio"]
ROUNDTRIP = ["append.f32", "append.stored", "append.pages", "fetch.f32", "fetch.stored", "fetch.pages", "memcpy",
             "ping"]
LOOP = ["work.longest", "work.slow", "longest", "slow"]


def run(kvbench, *arguments):
    """Exit status and the two outputs. The process group shows what is left behind."""
    with subprocess.Popen([kvbench, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          start_new_session=True) as process:
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


def test_table(kvbench):
    """without --json there is a table for people"""
    status, out, err = run(kvbench, "memory", "--codec", "f16", "--arena-bytes", "32MiB")
    assert status == 0, err
    assert "NAME" in out and "f16.vs_f16" in out and not out.startswith("{"), out


def test_usage(kvbench):
    """bad arguments are refused, help is given"""
    for arguments in ([], ["nothing"], ["memory", "memory"], ["memory", "--codec", "q7"],
                      ["roundtrip", "--rounds", "0"], ["roundtrip", "--shape", "x"], ["--frobnicate"]):
        status, out, err = run(kvbench, *arguments)
        assert status == 2 and not out and err, (arguments, status, out, err)
    status, out, err = run(kvbench, "--help")
    assert status == 0 and "roundtrip" in out and "memory" in out and not err, (status, out, err)


TESTS = (test_memory, test_roundtrip, test_table, test_usage)


def main():
    failed = False
    print(f"1..{len(TESTS)}")
    for number, test in enumerate(TESTS, 1):
        try:
            test(sys.argv[1])
            print(f"ok {number} - {test.__doc__}")
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            failed = True
            print(f"not ok {number} - {test.__doc__}")
            for line in f"{type(error).__name__}: {error}".splitlines():
                print(f"# {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
