# SPDX-License-Identifier: Apache-2.0
"""Tests of files: functions that yield faults, and whose first line of documentation is the name. Printed as TAP."""
import inspect


class Skip(Exception):
    """Says why a test cannot be run here."""


def one(test):
    """(verdict, faults, reason to skip)"""
    try:
        faults = list(test())
    except Skip as skip:
        return "ok", [], str(skip)
    return ("not ok" if faults else "ok"), faults, ""


def run(tests):
    """Returns the exit status."""
    failed = False
    print(f"1..{len(tests)}")
    for number, test in enumerate(tests, 1):
        verdict, faults, skipped = one(test)
        name = inspect.getdoc(test).splitlines()[0]
        print(f"{verdict} {number} - {name}" + (f" # SKIP {skipped}" if skipped else ""), flush=True)
        for fault in faults:
            print("\n".join(f"# {line}" for line in str(fault).splitlines()))
        failed = failed or verdict != "ok"
    return 1 if failed else 0
