#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts the TAP lines in meson's testlog.json files and prints what failed, what was skipped, and the sums.

A test program that fails without a failed line of its own (it died, timed out, or printed no plan) is one failure.
What a failed test says of why is repeated below its name: its first comment, and the lines that look like reasons.
The last line is "N passed, N failed" or, when tests were skipped, "N passed, N failed, N skipped". The exit status is 0
when none failed.
"""
import json
import re
import sys

TAP_LINE = re.compile(r"^(ok|not ok)\b\s*\d*\s*-?\s*(.*?)(?:\s+#\s*(SKIP)\b\s*(.*))?$", re.IGNORECASE)
COMMENT = re.compile(r"^\s*# ?(.*)$")
REASON = re.compile(r"\berror\b|^E  |\w+(Error|Exception):|Sanitizer|\[\s*(ERROR|LINE)\s*\]|assert", re.IGNORECASE)
REASONS_MAX = 4
REASON_CHARS = 160
GOOD = {"OK", "SKIP"}


def read_log(path):
    """One record a test program."""
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            return [json.loads(line) for line in log if line.strip()]
    except OSError as error:
        return [{"name": path, "result": f"no log: {error.strerror}", "stdout": ""}]


def reasons(lines):
    """Of the comments below a failed line: the first, and those that look like reasons; cut to a readable size."""
    comments = []
    for line in lines:
        match = COMMENT.match(line)
        if not match:
            break
        comments.append(match.group(1).strip())
    told = comments[:1] + [comment for comment in comments[1:] if REASON.search(comment)]
    return [comment[:REASON_CHARS] for comment in told[:REASONS_MAX]]


def count(record, passed, failed, skipped):
    """Adds the lines of one test program to the three lists of (program, test, reason)."""
    program = record["name"]
    failed_before = len(failed)
    lines = 0
    output = (record.get("stdout") or "").splitlines()
    for i, line in enumerate(output):
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
            failed.append((program, name, "".join(f"\n    {reason}" for reason in reasons(output[i + 1:]))))
    if record["result"] not in GOOD and len(failed) == failed_before:
        failed.append((program, "the whole program", f": {record['result']}"))
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
        print(f"FAILED: {program}: {name}{reason}")
    print(f"{len(passed)} passed, {len(failed)} failed" + (f", {len(skipped)} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
