#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The table of faults in docs/testing.md names tests that exist.

    test-faults.py ROOT

A cell of its last column is a list of tests, divided by semicolons, then prose:
"core, deadline: a, b; torture. Not tested: c".
A test of C is named by its file and its functions, one of Python or a shell by its file and words in it.
Prints TAP.
"""
import glob
import os
import re
import sys

import tap

ROOT = sys.argv[1]
ROW = re.compile(r"^\| (\d+) \|(.*)\|$", re.MULTILINE)
NAME = re.compile(r"^[a-z][a-z0-9-]*$")
ROWS_MIN = 50

# Tests whose file is not tests/*/test-NAME.c.
ELSEWHERE = {
    "booted": ["tests/systemd/*.sh"],
    "disk-threads": ["tests/unit/disk-*.c"],
    "disk-uring": ["tests/unit/disk-*.c"],
    "deploy-manifests": ["tests/deploy/test-manifests.py"],
    "image": ["tests/package/image.py"],
    "prometheus": ["tests/e2e/test-prometheus.py"],
    "python": ["client/python/tests/*.py"],
    "sim": ["tests/sim/main.c"],
    "sim-mutants": ["tests/sim/mutants.py"],
    "soak": ["tests/soak.sh"],
    "torture": ["tests/torture/test-torture.c"],
    "units": ["tests/systemd/test-units.py"],
}


def text_of(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def rows():
    """Number and last cell of each row below the heading."""
    section = text_of("docs/testing.md").split("## Faults and the tests for them", 1)[1]
    for number, rest in ROW.findall(section):
        yield int(number), rest.split(" | ")[-1].strip()


def files_of(name):
    """Where the test of this name is; empty: nowhere."""
    if name in ELSEWHERE:
        patterns = ELSEWHERE[name]
    elif name.startswith("fuzz-"):
        patterns = [f"tests/fuzz/{name}.c"]
    else:
        patterns = [f"tests/{suite}/test-{name}.{kind}" for suite in ("unit", "e2e") for kind in ("c", "py")]
    return [path for pattern in patterns for path in glob.glob(os.path.join(ROOT, pattern))]


def is_there(what, files):
    """A function of a test in C; a name or words in other programs, or a file."""
    for path in files:
        text = text_of(path)
        if path.endswith(".c") and f"cmocka_unit_test(test_{what})" in text:
            return True
        if not path.endswith(".c") and (what in text or os.path.basename(path) == f"{what}.py"):
            return True
    return False


def words_of(text):
    return [word.strip() for word in text.split(",") if word.strip()]


def entries(cell):
    """Names and functions of a cell, without its prose."""
    tests = re.split(r"(?:^|\. )(?=[A-Z])", re.sub(r"\([^()]*\)", "", cell))[0].rstrip(".")
    for part in tests.split(";"):
        names, _, functions = part.partition(":")
        if words_of(names):
            yield words_of(names), words_of(functions)


def entry_faults(names, functions):
    for name in names:
        files = files_of(name) if NAME.match(name) else []
        if not files:
            yield f"there is no test called '{name}'"
        for function in functions:
            if files and not is_there(function, files):
                yield f"{name}: there is no '{function}'"


def row_numbers():
    """every row is there once"""
    numbers = [number for number, _ in rows()]
    if numbers != list(range(1, len(numbers) + 1)) or len(numbers) < ROWS_MIN:
        yield f"the rows are numbered {numbers}"


def row_tests():
    """every test that a row names exists"""
    for number, cell in rows():
        for names, functions in entries(cell):
            for fault in entry_faults(names, functions):
                yield f"row {number}: {fault}"


def row_reasons():
    """a row without a test says why"""
    for number, cell in rows():
        if not list(entries(cell)) and not cell.startswith("Not "):
            yield f"row {number} has neither a test nor a reason"


tap.run([row_numbers, row_tests, row_reasons])
