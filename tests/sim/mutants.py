#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plants a bug and expects the simulation to find it, for each patch beside this program, as a TAP test.

    mutants.py ROOT BUILD SIM [NAME...]

A patch begins with a line that says what it breaks. The files that it touches are copied, patched and compiled as in
the build directory, and linked before its libraries; no other file is built. First the simulation runs without a bug.
"""
import concurrent.futures
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

SEEDS = 100
STEPS = 1500
PATCHED = re.compile(r"^\+\+\+ b/(\S+)", re.MULTILINE)


class Build:
    def __init__(self, root, directory, sim):
        self.root = root
        self.directory = directory
        self.sim = os.path.relpath(sim, directory)
        with open(os.path.join(directory, "compile_commands.json"), encoding="utf-8") as commands:
            self.compiles = {os.path.realpath(os.path.join(c["directory"], c["file"])): c for c in json.load(commands)}
        listed = subprocess.run(["ninja", "-C", directory, "-t", "commands", "-s", self.sim], check=True,
                                capture_output=True, text=True)
        self.link = shlex.split(listed.stdout.strip().splitlines()[-1])

    def compile(self, file, patched, output):
        """The object of a patched copy."""
        command = shlex.split(self.compiles[os.path.realpath(os.path.join(self.root, file))]["command"])
        source = command.index("-c") + 1
        command[source] = patched
        command[command.index("-o") + 1] = output
        if "-MF" in command:
            command[command.index("-MF") + 1] = output + ".d"
        subprocess.run(command + ["-w"], cwd=self.directory, check=True, capture_output=True, text=True)

    def link_with(self, objects, output):
        """What is in an object is not taken from a library behind it."""
        command = list(self.link)
        at = command.index("-o") + 1
        command[at] = output
        command[at + 1:at + 1] = objects
        subprocess.run(command, cwd=self.directory, check=True, capture_output=True, text=True)


def plant(build, patch, directory):
    """The simulation with this bug."""
    with open(patch, encoding="utf-8") as text:
        files = PATCHED.findall(text.read())
    objects = []
    for file in files:
        copy = os.path.join(directory, file)
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        with open(os.path.join(build.root, file), "rb") as source, open(copy, "wb") as target:
            target.write(source.read())
    subprocess.run(["patch", "-s", "-p1", "-d", directory, "-i", patch], check=True, capture_output=True,
                   text=True)
    for i, file in enumerate(files):
        objects.append(os.path.join(directory, f"{i}.o"))
        build.compile(file, os.path.join(directory, file), objects[-1])
    program = os.path.join(directory, "sim")
    build.link_with(objects, program)
    return program


def simulate(program):
    """Whether something was found, and what."""
    run = subprocess.run([program, "--seeds", str(SEEDS), "--steps", str(STEPS), "--seconds", "120"], check=False,
                         capture_output=True, text=True)
    found = [line[2:] for line in run.stdout.splitlines() if re.match(r"# seed \d+, step", line)]
    return run.returncode != 0 and bool(found), found[0] if found else run.stdout + run.stderr


def try_patch(build, patch):
    """Whether the bug was found, and what was said."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            return simulate(plant(build, patch, directory))
        except subprocess.CalledProcessError as error:
            return False, f"{error}\n{error.stdout}{error.stderr}"


def main():
    root, directory, sim, *names = sys.argv[1:]
    here = os.path.join(root, "tests/sim/mutants")
    patches = [os.path.join(here, p) for p in sorted(os.listdir(here)) if p.endswith(".patch")]
    patches = [p for p in patches if not names or os.path.basename(p)[:-6] in names]
    build = Build(root, directory, sim)
    failed = 0
    print(f"1..{len(patches) + 1}", flush=True)
    found, said = simulate(sim)
    failed += found
    print(f"{'not ' if found else ''}ok 1 - without a bug\n# {said if found else 'nothing found'}", flush=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        tries = [pool.submit(try_patch, build, patch) for patch in patches]
        for number, (patch, attempt) in enumerate(zip(patches, tries), 2):
            found, said = attempt.result()
            failed += not found
            with open(patch, encoding="utf-8") as text:
                broken = text.readline().strip()
            print(f"{'' if found else 'not '}ok {number} - {os.path.basename(patch)[:-6]}: {broken}")
            print("\n".join("# " + line for line in said.splitlines()[:30]), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
