# SPDX-License-Identifier: Apache-2.0
"""Runs pytest on this directory and prints TAP: one line a test, what failed as comments below.

    run_tap.py [PYTEST_ARGUMENT...]
"""
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent


class Tap:
    """A pytest plugin; the plan comes last. What pytest itself has to say goes nowhere."""

    def __init__(self):
        self.count = 0
        self.out = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        sys.stdout = open(os.devnull, "w", encoding="utf-8")

    def close(self):
        sys.stdout.close()
        sys.stdout = sys.__stdout__
        self.out.close()

    def comment(self, text):
        for line in text.splitlines():
            print(f"# {line}", file=self.out)

    def line(self, verdict, name, comment=""):
        self.count += 1
        print(f"{verdict} {self.count} - {name}{comment}", file=self.out)

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.line("not ok", report.nodeid + ("" if report.when == "call" else f" ({report.when})"))
            self.comment(report.longreprtext)
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.line("ok", report.nodeid, f" # SKIP {reason.removeprefix('Skipped: ')}")
        elif report.when == "call":
            self.line("ok", report.nodeid)

    def pytest_collectreport(self, report):
        if report.failed:
            self.line("not ok", f"{report.nodeid or 'collection'}")
            self.comment(report.longreprtext)
        elif report.skipped:
            self.line("ok", report.nodeid, f" # SKIP {report.longrepr[2].removeprefix('Skipped: ')}")


def main():
    if os.environ.get("KVP_PYTHON_SKIP"):
        print(f"1..0 # SKIP {os.environ['KVP_PYTHON_SKIP']}")
        return 0
    try:
        import numpy  # noqa: F401
        import pytest
    except ImportError as error:
        print(f"1..0 # SKIP {error.name} is not installed (Debian: python3-{error.name})")
        return 0
    tap = Tap()
    status = pytest.main(["--rootdir", str(HERE), "-p", "no:cacheprovider", "-p", "no:faulthandler",
                          "-W", "error::pytest.PytestUnraisableExceptionWarning",
                          str(HERE), *sys.argv[1:]], plugins=[tap])
    print(f"1..{tap.count}", file=tap.out)
    tap.close()
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
