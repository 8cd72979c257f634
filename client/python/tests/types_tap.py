# SPDX-License-Identifier: Apache-2.0
"""mypy --strict on the package, and on the examples as a user's code, as TAP."""
import importlib.util
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
CHECKS = {"kvclient": ["--strict", "kvclient"],
          "examples": ["--disallow-untyped-defs", *sorted(str(p) for p in (ROOT / "examples").glob("*.py"))]}


def main():
    if importlib.util.find_spec("mypy") is None:
        print("1..0 # SKIP mypy is not installed (Debian: mypy)")
        return 0
    print(f"1..{len(CHECKS)}")
    failed = False
    for number, (name, arguments) in enumerate(CHECKS.items(), 1):
        done = subprocess.run([sys.executable, "-m", "mypy", "--cache-dir", os.devnull, *arguments], cwd=ROOT,
                              capture_output=True, text=True, check=False,
                              env={**os.environ, "MYPYPATH": f"{ROOT}:{ROOT / 'examples'}"})
        print(f"{'not ok' if done.returncode else 'ok'} {number} - {name}")
        if done.returncode:
            failed = True
            for line in (done.stdout + done.stderr).splitlines():
                print(f"# {line}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
