#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast kvworker generates behind a long prompt, with different caches.

Runs kvworker once for each cache and round, caches in turn, so that what the machine does beside falls on all,
and prints the median tokens/s of each cache and the median of its ratio to the first one in the same round.
A cache is a codec and a form: q6/packed, f16/decoded. KVC_ISA forces an instruction set, as ever.
"""
import argparse
import json
import statistics
import subprocess


def tokens_per_s(args, cache):
    codec, _, form = cache.partition("/")
    command = [args.kvworker, "--model", args.model, "--prompt", args.prompt, "--no-cache", "--json", "--quiet",
               "--ignore-eos", "-n", str(args.tokens), "--threads", str(args.threads), "--codec", codec,
               "--attend", form or "packed"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kvworker", required=True)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--text", required=True, help="a file; the prompt is its beginning")
    parser.add_argument("--bytes", type=int, required=True, help="of the text")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--caches", default="f16/packed,q6/packed,q6/decoded")
    args = parser.parse_args()
    with open(args.text, "rb") as file:
        args.prompt = file.read(args.bytes).decode("utf-8", "ignore")
    caches = args.caches.split(",")
    speeds = {cache: [] for cache in caches}
    for _ in range(args.rounds):
        for cache in caches:
            run = tokens_per_s(args, cache)
            speeds[cache].append(run["tokens_per_s"])
    print(f"{run['model']}, {run['tokens_prompt']} tokens of prompt, {run['isa']}, {args.rounds} rounds")
    for cache in caches:
        ratios = [speed / first for speed, first in zip(speeds[cache], speeds[caches[0]], strict=True)]
        print(f"{cache:<12} {statistics.median(speeds[cache]):8.1f} tokens/s  {statistics.median(ratios):6.3f} x"
              f"  ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
