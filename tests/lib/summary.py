#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts the TAP lines in meson's testlog.json files and prints what failed, what was skipped, and the sums.

A test program that fails without a failed line of its own (it died, timed out, or printed no plan) is one failure.
The last line is "N passed, N failed" or, when tests were skipped, "N passed, N failed, N skipped". The exit status is 0
when none failed.
"""
import json
import re
import sys

TAP_LINE = re.compile(r"^(ok|not ok)\b\s*\d*\s*-?\s*(.*?)(?:\s+#\s*(SKIP)\b\s*(.*))?$", re.IGNORECASE)
GOOD = {"OK", "SKIP"}


def read_log(path):
    """One record a test program."""
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            return [json.loads(line) for line in log if line.strip()]
    except OSError as error:
        return [{"name": path, "result": f"no log: {error.strerror}", "stdout": ""}]


def count(record, passed, failed, skipped):
    """Adds the lines of one test program to the three lists of (program, test, reason)."""
    program = record["name"]
    failed_before = len(failed)
    lines = 0
    for line in (record.get("stdout") or "").splitlines():
        match = TAP_LINE.match(line)
        if not match:
            continue
        lines += 1
        verdict, name, directive, reason = match.groups()
        if directive:
            skipped.append((program, name, reason))
        elif verdict.lower() == "ok":
            passed.append((program, name, ""))
        else:
            failed.append((program, name, ""))
    if record["result"] not in GOOD and len(failed) == failed_before:
        failed.append((program, "the whole program", record["result"]))
    if record["result"] == "OK" and lines == 0:
        passed.append((program, "", ""))
    if record["result"] == "SKIP" and lines == 0:
        skipped.append((program, "all", "no reason given"))


def main(paths):
    passed, failed, skipped = [], [], []
    for path in paths:
        for record in read_log(path):
            count(record, passed, failed, skipped)
    for program, name, reason in skipped:
        print(f"skipped: {program}: {name}: {reason}")
    for program, name, reason in failed:
        print(f"FAILED: {program}: {name}" + (f": {reason}" if reason else ""))
    print(f"{len(passed)} passed, {len(failed)} failed" + (f", {len(skipped)} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
