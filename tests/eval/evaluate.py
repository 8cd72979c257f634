#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What kvpaged does to a model of transformers: its answers, its memory, its time. tests/eval/run.sh sets it up.

Every stage goes on where it was broken off: results lie in --work, one JSON file a stage. What is there is not done
again; --fresh STAGE,... does it again. --report only writes the report of what is there.
"""
import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys

import torch
import transformers

import kvclient
from kvclient.transformers import KvpagedCache  # noqa: F401  (fails here, early, when it does not fit transformers)

import errors
import forced
import greedy
import memory
import plots
import private
import prompts
import report
import subject
import timing
from progress import Progress
from results import Results

STAGES = ("errors", "adversarial", "pages", "forced", "greedy", "follow", "first_token", "overhead", "memory")

# Of K and of V. What the targets are about comes first.
CACHES = ("q8/q8", "q6/q6", "t6/t6g16", "q4/q4", "t8/t8g32", "t4/t4g16", "f32/f32")
APART = ("q8/f32", "f32/q8", "q6/f32", "f32/q6", "q4/f32", "f32/q4")
FULL = {"forced": CACHES + APART, "greedy": CACHES, "follow": CACHES,
        "prompts": None, "windows": None, "tokens": greedy.TOKENS, "page_rounds": 50, "rounds": 5,
        "overhead": (512, 128), "first_token": 1600,
        "memory": (("own", "q8", "q6", "q4"), ((512, 1), (512, 8), (2048, 1), (8192, 1)))}
QUICK = {"forced": ("q8/q8", "f32/f32"), "greedy": ("q8/q8", "f32/f32"), "follow": ("q8/q8", "f32/f32"),
         "prompts": 3, "windows": 1, "tokens": 20, "page_rounds": 3, "rounds": 2, "overhead": (150, 16),
         "first_token": 600, "memory": (("own", "q6"), ((256, 1),))}


class Run:
    def __init__(self, args, client, daemon):
        self.args, self.client, self.daemon = args, client, daemon
        self.plan = QUICK if args.quick else FULL
        self.results = Results(os.path.join(args.work, "results"))
        self.model, self.tokenizer = subject.tiny() if args.quick else subject.pretrained(args.model, args.work)
        self.prompts = prompts.prompts(args.root, self.tokenizer)[:self.plan["prompts"]]
        self.windows = prompts.windows(args.root, self.tokenizer, forced.WINDOW)[:self.plan["windows"]]

    def long_text(self, n):
        """The first n tokens of a document of this repository."""
        return self.tokenizer.encode(prompts.read(self.args.root, "docs/operations.md"))[:n]

    def errors(self):
        with Progress("errors", len(errors.CODECS)) as progress:
            errors.measure(self.client, self.results, progress)

    def adversarial(self):
        with Progress("adversarial data", len(errors.CODECS)) as progress:
            errors.measure_adversarial(self.client, self.results, progress)

    def pages(self):
        with Progress("pages", len(timing.PAGE_CODECS)) as progress:
            timing.measure_pages(self.client, self.model, self.results, progress, self.plan["page_rounds"])

    def forced(self):
        caches = self.args.caches or self.plan["forced"]
        with Progress("perplexity", len(self.windows) * len(caches)) as progress:
            forced.measure(self.model, self.client, self.windows, caches, self.results, progress)

    def greedy(self):
        caches = self.args.caches or self.plan["greedy"]
        with Progress("greedy", len(self.prompts) * (1 + len(caches))) as progress:
            greedy.measure(self.model, self.client, self.prompts, caches, self.results, progress, self.plan["tokens"])

    def follow(self):
        without = [number for number, (_, row) in enumerate(self.prompts)
                   if not self.results.has("greedy", "exact", str(number), tokens=row)]
        if without:
            sys.exit(f"evaluate.py: the stage follow needs the stage greedy before it; {len(without)} of "
                     f"{len(self.prompts)} prompts are without, or their text has changed")
        caches = self.args.caches or self.plan["follow"]
        with Progress("teacher forcing", len(self.prompts) * len(caches)) as progress:
            greedy.measure_follow(self.model, self.client, self.prompts, caches, self.results, progress)

    def first_token(self):
        with Progress("first token", self.plan["rounds"]) as progress:
            timing.measure_first_token(self.client, self.model, self.long_text(self.plan["first_token"]),
                                       self.plan["rounds"], self.results, progress)

    def overhead(self):
        prompt, tokens = self.plan["overhead"]
        with Progress("overhead", self.plan["rounds"]) as progress:
            timing.measure_overhead(self.client, self.model, self.long_text(prompt), tokens, self.plan["rounds"],
                                    self.results, progress)

    def memory(self):
        directory = os.path.join(self.args.work, "model-of-memory")
        if not os.path.isdir(directory):
            self.model.save_pretrained(directory)
        codecs, sizes = self.plan["memory"]
        with Progress("memory", len(codecs) * len(sizes)) as progress:
            memory.measure(directory, self.daemon.socket, self.daemon.pid, sizes, codecs, self.results, progress)

    def facts(self):
        """Where and with what this ran; of the last run, when there were several."""
        commit = subprocess.run(["git", "-C", self.args.root, "describe", "--always", "--dirty"], text=True,
                                stdout=subprocess.PIPE, check=False).stdout.strip()
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            processor = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "?")
        facts = {"model": subject.TINY_NAME if self.args.quick else subject.NAME, "torch": torch.__version__,
                 "transformers": transformers.__version__, "python": platform.python_version(), "commit": commit,
                 "processor": processor, "processors": os.cpu_count(), "threads": torch.get_num_threads(),
                 "kvpaged": self.client.info().server_version, "quick": self.args.quick,
                 "planned": {name: list(self.plan[name]) for name in ("greedy", "follow", "forced")},
                 "planned_prompts": len(self.prompts), "planned_windows": len(self.windows)}
        self.results.put(facts, "facts", "run")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="of the source tree")
    parser.add_argument("--kvpaged", required=True, help="the daemon's program")
    parser.add_argument("--model", help="the GGUF file; not with --quick")
    parser.add_argument("--work", required=True, help="directory of results and of what can be made again")
    parser.add_argument("--out", required=True, help="directory of evaluation.md and evaluation/")
    parser.add_argument("--quick", action="store_true", help="a model of random weights, a little of everything")
    parser.add_argument("--stages", type=lambda text: text.split(","), default=list(STAGES))
    parser.add_argument("--fresh", type=lambda text: text.split(","), default=[], help="stages to forget first")
    parser.add_argument("--caches", type=lambda text: text.split(","),
                        help="K/V of the stages forced, greedy and follow: q8/q8,q6/f32 [as they are]")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="only write the report of what is there")
    args = parser.parse_args()
    for name in args.stages + args.fresh:
        if name not in STAGES:
            parser.error(f"{name!r} is none of {', '.join(STAGES)}")
    if not args.quick and not args.model and not args.report:
        parser.error("--model or --quick")
    return args


def measure(args):
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    for name in args.fresh:
        path = os.path.join(args.work, "results", name + ".json")
        if os.path.exists(path):
            os.remove(path)
    with private.Daemon(args.kvpaged, "1GiB") as daemon, kvclient.Client(daemon.socket) as client:
        run = Run(args, client, daemon)
        for name in args.stages:
            getattr(run, name)()
            run.facts()


def main():
    args = parse()
    # Ends like an error, so that the private daemon ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if not args.report:
        if args.quick:
            # Nothing of a short run is worth to be kept.
            shutil.rmtree(os.path.join(args.work, "results"), ignore_errors=True)
        measure(args)
    summary = report.summarise(Results(os.path.join(args.work, "results")))
    folder = os.path.join(args.out, "evaluation")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "results.json"), "w", encoding="utf-8") as file:
        json.dump(summary, file, indent=1)
        file.write("\n")
    drawn = plots.draw(summary, folder)
    with open(os.path.join(args.out, "evaluation.md"), "w", encoding="utf-8") as file:
        file.write(report.markdown(summary, drawn))
    print(os.path.join(args.out, "evaluation.md"))


if __name__ == "__main__":
    main()
