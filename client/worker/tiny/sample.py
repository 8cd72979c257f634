# SPDX-License-Identifier: Apache-2.0
"""Continues prompts with a GGUF file written by export.py; for looking at the model.

Every step computes the whole text again: no cache, so nothing here shares code
with the worker whose cache is under test.
"""
import argparse
import textwrap

import torch

from export import read_gguf


@torch.no_grad()
def continue_text(model, tokenizer, prompt, count, temperature, generator):
    ids = tokenizer.encode(prompt) or [tokenizer.end_of_text]
    start = len(ids)
    while len(ids) - start < count and len(ids) < model.config.context:
        logits = model(torch.tensor([ids]))[0, -1]
        if temperature > 0:
            chances = (logits / temperature).softmax(-1)
            token = torch.multinomial(chances, 1, generator=generator).item()
        else:
            token = logits.argmax().item()
        if token == tokenizer.end_of_text:
            break
        ids.append(token)
    return tokenizer.decode(ids[start:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("-n", type=int, default=80, help="tokens to add")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the best token")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("prompts", nargs="+", metavar="PROMPT")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = read_gguf(args.model)
    for prompt in args.prompts:
        generator = torch.Generator().manual_seed(args.seed)
        text = continue_text(model, tokenizer, prompt, args.n, args.temperature, generator)
        print(textwrap.fill(f"[{prompt}]{text}", 96, replace_whitespace=False), end="\n\n")


if __name__ == "__main__":
    main()
