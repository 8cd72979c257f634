#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time to the first token of a prompt of about 1,500 tokens, its blocks being resident, on the tier and not resident,
or nowhere, so that they are computed. Rounds take turns; medians.

    first-token.py BUILD [--dir DIRECTORY] [--rounds N] [--model MODEL] [--codec CODEC] [--json]

BUILD is a build directory. The model is smollm2 where client/worker/get-smollm2.sh has put it, otherwise the built-in
one. Starts its own daemon, with a tier in a private directory below DIRECTORY (/var/tmp).
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

PROMPT = "The history of the town is long, and not all of it was written down. "
PROMPT_TOKENS = 16  # about, of either model; counted by kvworker
TOKENS = 1500
TARGET = 5
FORMS = ("computed", "resident", "tier")


class Failed(Exception):
    """What could not be measured, in words."""


class Bench:
    """The daemon and what runs against it."""

    def __init__(self, options, directory, disk):
        self.options = options
        self.directory = directory
        self.socket = os.path.join(directory, "s")
        config = os.path.join(directory, "conf")
        with open(config, "w", encoding="utf-8") as stream:
            stream.write("")
        self.prompt = os.path.join(directory, "prompt")
        self.daemon = subprocess.Popen(
            [self.program("daemon/kvpaged"), "--config", config, "--socket", self.socket, "--log-level", "warning",
             "--arena-bytes", "256MiB", "--arena-prefault", "yes", "--tier-dir", os.path.join(disk, "tier"),
             "--tier-bytes", "1GiB", "--tier-segment-bytes", "64MiB", "--tier-admit", "all",
             "--tier-free-percent", "100"])

    def program(self, name):
        return os.path.join(self.options.build, name)

    def close(self):
        self.daemon.terminate()
        self.daemon.wait()

    def await_socket(self):
        for _ in range(1000):
            if os.path.exists(self.socket):
                return
            if self.daemon.poll() is not None:
                raise Failed("kvpaged did not start")
            time.sleep(0.01)
        raise Failed("kvpaged does not listen")

    def run(self, *command):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"{command[0]}: status {done.returncode}")
        return done.stdout

    def kvctl(self, *arguments):
        return json.loads(self.run(self.program("client/kvctl/kvctl"), *arguments, "--socket", self.socket, "--json"))

    def counter(self, name):
        return self.kvctl("stats")["counters"][name]

    def worker(self, *more):
        command = [self.program("client/worker/kvworker"), "--model", self.options.model, "--prompt-file", self.prompt,
                   "-n", "1", "--ignore-eos", "--json", "--quiet", "--codec", self.options.codec,
                   "--socket", self.socket, *more]
        return json.loads(self.run(*command))

    def make_prompt(self):
        """As many sentences as are about TOKENS tokens: one try tells how many a sentence has."""
        for sentences in (TOKENS // PROMPT_TOKENS, None):
            if sentences is None:
                sentences = TOKENS * tried // tokens
            tried = sentences
            with open(self.prompt, "w", encoding="utf-8") as stream:
                stream.write(PROMPT * sentences)
            tokens = self.worker("--no-cache")["tokens_prompt"]
        return tokens

    def store(self):
        """The blocks, from a first run, on their way to the tier; waits until they are there."""
        stored = self.worker("--require-cache")["blocks_stored"]
        for _ in range(1000):
            if self.counter("tier_stored_blocks_total") >= stored:
                return stored
            time.sleep(0.01)
        raise Failed("the blocks do not get to the tier")

    def measure(self, form):
        if form == "tier":
            self.kvctl("evict", "--all")
        elif form == "resident":
            self.worker("--require-cache")
        before = self.counter("tier_loaded_blocks_total")
        answer = self.worker(*(("--no-cache",) if form == "computed" else ("--require-cache",)))
        loaded = self.counter("tier_loaded_blocks_total") - before
        wanted = self.blocks if form == "tier" else 0
        if loaded != wanted:
            raise Failed(f"{form}: {loaded} blocks were loaded, not {wanted}")
        if (answer["tokens_from_cache"] > 0) != (form != "computed"):
            raise Failed(f"{form}: {answer['tokens_from_cache']} tokens came from the cache")
        return answer


def measure(bench):
    tokens = bench.make_prompt()
    bench.blocks = bench.store()
    times = {form: [] for form in FORMS}
    texts = set()
    for _ in range(bench.options.rounds):
        for form in FORMS:
            answer = bench.measure(form)
            times[form].append(answer["time_to_first_token_ms"])
            texts.add((form == "computed", tuple(answer["tokens"])))
    return {"model": answer["model"], "codec": bench.options.codec, "tokens": tokens, "blocks": bench.blocks,
            "from_cache": answer["tokens_from_cache"], "same_token": len({text for _, text in texts}) == 1,
            **{f"{form}_ms": statistics.median(times[form]) for form in FORMS},
            "speedup": statistics.median(computed / tier for computed, tier in zip(times["computed"], times["tier"]))}


def report(result, as_json):
    if as_json:
        print(json.dumps(result))
        return
    print(f"{result['model']}, {result['codec']}: {result['tokens']} tokens, {result['from_cache']} of them in "
          f"{result['blocks']} blocks; first token after, median:")
    for form in FORMS:
        print(f"  {form:<10} {result[f'{form}_ms']:10.1f} ms")
    met = "met" if result["speedup"] >= TARGET else "missed"
    print(f"  from the tier {result['speedup']:.1f} x as fast as computed; target: at least {TARGET} x, {met}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--dir", default="/var/tmp")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model")
    parser.add_argument("--codec", default="q8")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    smollm2 = os.path.expanduser("~/.cache/kvpaged/SmolLM2-135M-Instruct.Q4_1.gguf")
    if not options.model:
        options.model = "smollm2" if os.path.exists(smollm2) else "tiny"
    with tempfile.TemporaryDirectory(prefix="kvbench-") as directory, \
            tempfile.TemporaryDirectory(prefix="kvbench-", dir=options.dir) as disk:
        bench = Bench(options, directory, disk)
        try:
            bench.await_socket()
            report(measure(bench), options.json)
        finally:
            bench.close()


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"first-token.py: {failed}")
