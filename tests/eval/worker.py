#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a codec of the KV cache does to a model's output, measured with kvworker.

Prints a table, or JSON lines. Each codec is measured with attention on what its blocks decode to and
with attention on the encoded blocks (--attend decoded and packed), both against the uncompressed cache
(f32, decoded) of the same program, on greedy generations of 100 tokens for each prompt and on a text:

tokens_equal   The uncompressed run's generation is the text. The share of its tokens that are also the
               codec's choice behind the same tokens: every choice is compared once, in the same place.
free.*         The codec's own generations, each left to itself: the share of positions with the same
               token, the share of generations that are the same from end to end, and the earliest
               position of a difference. One choice that falls the other way changes everything
               behind it, also where both texts are as good.
perplexity     exp of the mean negative log-likelihood, as kvworker --perplexity defines it.

f32.packed is exact values under the other order of sums: what is left of a difference then is not the codec's.
"""
import argparse
import json
import subprocess
import sys
import tempfile

PERPLEXITY_CONTEXT = 1024
FORMS = ("decoded", "packed")
REFERENCE = ("f32", "decoded")


def run_worker(args, *more):
    """The JSON objects that kvworker prints. It talks on stderr only to warn."""
    command = [args.kvworker, "--model", args.model, "--no-cache", "--json", "--quiet", *more]
    if args.threads:
        command += ["--threads", str(args.threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        sys.exit(f"worker.py: {' '.join(command)}: exit status {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def cache_options(cache):
    """A cache is a codec and a form. q8 is for both tensors, q8/f32 is K at q8 and V at f32."""
    codec, form = cache
    k, _, v = codec.partition("/")
    return ["--codec-k", k, "--codec-v", v or k, "--attend", form]


def generate(args, cache, *more):
    """One list of tokens a prompt."""
    runs = run_worker(args, "--prompts", args.prompts, *cache_options(cache), "--ignore-eos", "-n", str(args.tokens),
                      *more)
    for run in runs:
        if run["tokens_prompt"] < run["block_tokens"]:
            sys.exit(f"worker.py: a prompt has only {run['tokens_prompt']} tokens: no block of it is finished")
        if run["tokens_generated"] != args.tokens:
            sys.exit("worker.py: a generation ended early")
    return [run["tokens"] for run in runs]


def follow(args, cache, reference):
    """What this cache would say at each place of the reference generations."""
    with tempfile.NamedTemporaryFile("w", suffix=".tokens") as file:
        file.writelines(" ".join(map(str, tokens)) + "\n" for tokens in reference)
        file.flush()
        return generate(args, cache, "--follow", file.name)


def compare(reference, tokens):
    """The share of equal tokens, and where each generation first differs (None: nowhere)."""
    equal = total = 0
    first = []
    for expected, got in zip(reference, tokens, strict=True):
        same = [a == b for a, b in zip(expected, got, strict=True)]
        equal += sum(same)
        total += len(same)
        first.append(None if all(same) else same.index(False))
    return equal / total, first


def measure_equal(args, report):
    """Returns the share of equal tokens of each cache."""
    reference = generate(args, REFERENCE)
    shares = {}
    if compare(reference, follow(args, REFERENCE, reference))[0] != 1:
        sys.exit("worker.py: the uncompressed run does not follow itself: the comparison is worth nothing")
    for cache in args.caches:
        shares[cache], _ = compare(reference, follow(args, cache, reference))
        report(cache, "tokens_equal", shares[cache], "ratio", 1.0)
    for cache in args.caches:
        if cache[0] not in (args.free or args.codecs):
            continue
        free, first = compare(reference, generate(args, cache))
        diverged = [at for at in first if at is not None]
        report(cache, "free.tokens_equal", free, "ratio", 1.0)
        report(cache, "free.generations_equal", first.count(None) / len(first), "ratio", 1.0)
        report(cache, "free.first_divergence", min(diverged) if diverged else args.tokens, "tokens", args.tokens)
    return shares


def measure_perplexity(args, report):
    reference = None
    for cache in [REFERENCE] + args.caches:
        (run,) = run_worker(args, "--perplexity", args.text, "--context", str(PERPLEXITY_CONTEXT),
                            *cache_options(cache))
        if reference is None:
            reference = run["perplexity"]
            report(None, "perplexity_tokens", run["tokens_scored"], "tokens", run["tokens_scored"])
        report(cache, "perplexity", run["perplexity"], "perplexity", reference)


class Report:
    """Prints each result when it is there."""

    def __init__(self, as_json, bench):
        self.as_json = as_json
        self.bench = bench
        if not as_json:
            print(f"{'name':<38} {'value':>12} {'reference':>12} {'ratio':>9}  unit")

    def __call__(self, cache, metric, value, unit, reference):
        name = ".".join((*cache, metric)) if cache else metric
        ratio = value / reference
        if self.as_json:
            row = {"bench": self.bench, "name": name, "value": value, "unit": unit, "reference": reference,
                   "ratio": ratio}
            if cache:
                row |= {"codec": cache[0], "attend": cache[1]}
            print(json.dumps(row), flush=True)
        else:
            print(f"{name:<38} {value:>12.6g} {reference:>12.6g} {ratio:>9.5f}  {unit}", flush=True)


def check_least(args, shares):
    for (codec, form), share in shares.items():
        if codec == "q8" and share < args.q8_least:
            sys.exit(f"worker.py: only {share:.2%} of the tokens are equal at q8 ({form}), not {args.q8_least:.0%}")


def parse():
    def names(text):
        return text.split(",")

    parser = argparse.ArgumentParser(description="Measures what codecs of the KV cache do to a model's output.")
    parser.add_argument("--kvworker", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--text", help="measure the perplexity of this file too")
    parser.add_argument("--codecs", type=names, required=True, help="of K and V, or K/V: q8,q8/f32")
    parser.add_argument("--free", type=names, help="those of them that also generate freely [all]")
    parser.add_argument("--attend", type=names, default=FORMS, help="forms [decoded,packed]")
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--q8-least", type=float, default=0.0,
                        help="fail when a smaller share of tokens is equal at q8")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.caches = [(codec, form) for form in args.attend for codec in dict.fromkeys(["f32", *args.codecs])
                   if (codec, form) != REFERENCE]
    return args


def main():
    args = parse()
    report = Report(args.json, f"eval-{args.model.rsplit('/', 1)[-1]}")
    shares = measure_equal(args, report)
    if args.text:
        measure_perplexity(args, report)
    check_least(args, shares)


if __name__ == "__main__":
    main()
