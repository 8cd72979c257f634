#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the table at the end of docs/metrics.md up to date with proto/metrics.def.

    test-metrics-doc.py METRICS_TABLE docs/metrics.md [--write]

METRICS_TABLE prints the table. --write puts it into the file; otherwise the two are compared, and TAP is printed.
"""
import difflib
import subprocess
import sys

MARKER = "<!-- The table below is made from proto/metrics.def: see docs/testing.md -->\n"


def main():
    table = subprocess.run([sys.argv[1]], capture_output=True, text=True, check=True).stdout
    with open(sys.argv[2], encoding="utf-8") as stream:
        document = stream.read()
    head, marker, found = document.partition(MARKER)
    assert marker, f"{sys.argv[2]} has no line {MARKER}"
    if "--write" in sys.argv[3:]:
        with open(sys.argv[2], "w", encoding="utf-8") as stream:
            stream.write(head + marker + "\n" + table)
        return 0
    print("1..1")
    differences = list(difflib.unified_diff(found.lstrip("\n").splitlines(), table.splitlines(), "docs/metrics.md",
                                            "proto/metrics.def", n=0, lineterm=""))
    print(f"{'not ok' if differences else 'ok'} 1 - the table of docs/metrics.md is that of proto/metrics.def")
    for line in differences:
        print(f"# {line}")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
