# SPDX-License-Identifier: Apache-2.0
"""TAP for the tests of this directory: one line a test, what is wrong as comments below."""
import sys
import traceback


class Skipped(Exception):
    """What the test needs is not here."""


def run(tests):
    """tests: functions that yield faults and whose first line of documentation is their name."""
    print(f"1..{len(tests)}")
    failed = False
    for number, test in enumerate(tests, 1):
        name = test.__doc__.splitlines()[0]
        try:
            faults = list(test())
        except Skipped as reason:
            print(f"ok {number} - {name} # SKIP {reason}")
            continue
        except Exception:  # a program that is not there, or says what nobody expects, is a fault too
            faults = [traceback.format_exc()]
        failed = failed or bool(faults)
        print(f"{'not ok' if faults else 'ok'} {number} - {name}")
        for fault in faults:
            print("\n".join(f"# {line}" for line in str(fault).splitlines()))
    sys.exit(failed)
