# SPDX-License-Identifier: Apache-2.0
"""Trains the model of model.py on the CPU and leaves model.pt and training.json.

Documents are shuffled once by the seed and packed into one stream, each behind
an end-of-text token; batches are windows of that stream. Windows grow with the
progress (PHASES), so that the last part sees the whole context. Progress is
step/steps, or the share of the time limit if that is ahead: a slow machine still ends in
time with the learning rate run down, but then with fewer tokens, and a run in
which the clock was ever ahead is not repeatable ("clock_ruled" in the result).
The checkpoint is replaced whole, so the build folder always holds a usable one.
"""
import argparse
import dataclasses
import json
import math
import os
import time

import numpy
import torch
from torch.nn import functional as F

from bpe import Tokenizer
from corpus import SEPARATOR
from model import Config, Llama

# (progress at which it ends, window length, windows in a batch)
PHASES = ((0.55, 256, 16), (0.85, 512, 8), (1.0, 2048, 2))
WARM_UP_STEPS = 100
LAST_RATE = 0.03
CLOCK_FREE = 0.05
REPORT_STEPS = 50
CHECK_STEPS = 500
SHORT_CHECK_WINDOWS = 12


def token_stream(tokenizer, path, rng=None):
    """All documents of a corpus part as one array of ids, and the bytes of their text."""
    with open(path) as file:
        docs = file.read().split(SEPARATOR)
    if rng is not None:
        docs = [docs[i] for i in rng.permutation(len(docs))]
    ids = []
    for doc in docs:
        ids.append(tokenizer.end_of_text)
        ids.extend(tokenizer.encode(doc))
    ids.append(tokenizer.end_of_text)
    return numpy.array(ids, dtype=numpy.int64), sum(len(d.encode()) for d in docs)


def batches(stream, length, rows, rng):
    """Endless batches (rows, length + 1) that cover the stream once before any part repeats."""
    while True:
        first = int(rng.integers(length))
        starts = numpy.arange(first, len(stream) - length - 1, length)
        rng.shuffle(starts)
        for i in range(0, len(starts) - rows + 1, rows):
            windows = [stream[s:s + length + 1] for s in starts[i:i + rows]]
            yield torch.from_numpy(numpy.stack(windows))


def batch_loss(model, batch, dtype, reduction="mean"):
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        logits = model(batch[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten(),
                           reduction=reduction)


@torch.no_grad()
def validation_loss(model, stream, dtype, windows=None):
    """Mean loss in nats a token, over disjoint windows of the whole context."""
    length, total, count = model.config.context, 0.0, 0
    starts = range(0, len(stream) - 1, length)
    step = max(1, len(starts) // windows) if windows else 1
    for start in starts[::step]:
        window = torch.from_numpy(stream[start:start + length + 1])[None]
        total += batch_loss(model, window, dtype, "sum").item()
        count += window.shape[1] - 1
    return total / count


def optimizer_for(model, rate):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1},
                              {"params": vectors, "weight_decay": 0.0}],
                             lr=rate, betas=(0.9, 0.95), fused=True)


def learning_rate(peak, step, progress):
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return peak * min(1.0, (step + 1) / WARM_UP_STEPS) * (LAST_RATE + (1 - LAST_RATE) * cosine)


def clock_progress(elapsed, minutes):
    """Share of the time limit used up; a first part is free, so a slow start does not rule."""
    return (elapsed / (60 * minutes) - CLOCK_FREE) / (1 - CLOCK_FREE)


def save_checkpoint(path, model, result):
    torch.save({"config": dataclasses.asdict(model.config), "state": model.state_dict(),
                "result": result}, path + ".part")
    os.replace(path + ".part", path)


def train(args, model, stream, valid, bits_per_nat_token, rng):
    optimizer = optimizer_for(model, args.rate)
    feeds = [batches(stream, length, rows, rng) for _, length, rows in PHASES]
    started, step, tokens, losses, clock_ruled = time.monotonic(), 0, 0, [], False
    while True:
        elapsed = time.monotonic() - started
        progress = max(step / args.steps, clock_progress(elapsed, args.minutes))
        clock_ruled = clock_ruled or progress > step / args.steps
        finished = progress >= 1.0
        if finished or (step and step % CHECK_STEPS == 0):
            loss = validation_loss(model, valid, args.dtype,
                                   None if finished else SHORT_CHECK_WINDOWS)
            result = {"steps": step, "planned_steps": args.steps, "tokens": tokens,
                      "seconds": round(elapsed), "seed": args.seed, "dtype": args.dtype,
                      "clock_ruled": clock_ruled,
                      "valid_nats_per_token": round(loss, 4),
                      "valid_bits_per_byte": round(loss * bits_per_nat_token, 4)}
            print("train: validation", json.dumps(result), flush=True)
            save_checkpoint(f"{args.build}/model.pt", model, result)
            if finished:
                return result
        phase = next(i for i, (end, _, _) in enumerate(PHASES) if progress < end)
        batch = next(feeds[phase])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(args.rate, step, progress)
        loss = batch_loss(model, batch, args.dtype)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step, tokens = step + 1, tokens + batch.numel() - batch.shape[0]
        losses.append(loss.item())
        if step % REPORT_STEPS == 0:
            elapsed = time.monotonic() - started
            progress = max(step / args.steps, clock_progress(elapsed, args.minutes))
            print(f"train: {100 * progress:5.1f} %  step {step}/{args.steps}  "
                  f"window {PHASES[phase][1]}  loss {sum(losses) / len(losses):.3f}  "
                  f"{tokens / elapsed:.0f} tokens/s  "
                  f"{elapsed * (1 / progress - 1) / 60:.1f} min left", flush=True)
            losses.clear()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", required=True, help="folder with the corpus and merges.json")
    parser.add_argument("--steps", type=int, default=3600, help="steps of 4096 tokens")
    parser.add_argument("--minutes", type=float, default=55, help="upper limit of the time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=2.5e-3, help="peak learning rate")
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="bf16",
                        help="arithmetic of the matrix products; weights stay f32")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = numpy.random.default_rng(args.seed)
    tokenizer = Tokenizer.load(f"{args.build}/merges.json")
    stream, size = token_stream(tokenizer, f"{args.build}/train.txt", rng)
    valid, valid_size = token_stream(tokenizer, f"{args.build}/valid.txt")
    model = Llama(Config(vocabulary=len(tokenizer.tokens)))
    print(f"train: {model.parameter_count()} parameters, {len(stream)} tokens of "
          f"{size / len(stream):.2f} bytes, validation {len(valid)} tokens", flush=True)
    bits_per_nat_token = (len(valid) - 1) / valid_size / math.log(2)
    result = train(args, model, stream, valid, bits_per_nat_token, rng)
    result.update(parameters=model.parameter_count(), train_tokens=len(stream),
                  train_bytes=size, valid_tokens=len(valid), valid_bytes=valid_size)
    with open(f"{args.build}/training.json", "w") as file:
        json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
