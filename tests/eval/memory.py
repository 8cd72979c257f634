# SPDX-License-Identifier: Apache-2.0
"""Memory of weights and cache: of this process as the kernel counts it, of the daemon as it counts itself.

A child process loads the model, keeps the K and V of conversations in the model's own cache or leaves them in the
daemon, and says what it and the daemon occupy. K and V are random numbers: sizes do not depend on values.

    memory.py MODEL-DIRECTORY SOCKET DAEMON-PID TOKENS CONVERSATIONS CODEC
"""
import gc
import json
import os
import subprocess
import sys

import torch


def resident(pid="self"):
    """Bytes of anonymous and of shared memory that the process has in RAM."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    return {name: 1024 * int(fields[key].split()[0]) for name, key in
            (("anonymous", "RssAnon"), ("shared", "RssShmem"), ("files", "RssFile"))}


def _fill(cache, shape, tokens, random):
    """As a model would fill it, in pieces of 512 tokens."""
    for begin in range(0, tokens, 512):
        size = (1, shape.heads, min(512, tokens - begin), shape.head_dim)
        for layer in range(shape.layers):
            cache.update(torch.randn(size, generator=random), torch.randn(size, generator=random), layer)


def _child(directory, socket, daemon, tokens, conversations, codec):
    from transformers import AutoModelForCausalLM, DynamicCache, logging

    import kvclient
    from kvclient.transformers import KvpagedCache

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    random = torch.Generator().manual_seed(4)
    client = kvclient.Client(socket)
    shape = KvpagedCache(None, model=model).shape
    report = {"weights": sum(p.numel() * p.element_size() for p in model.parameters())}
    gc.collect()
    before = resident()["anonymous"]
    kept = []
    for number in range(conversations):
        if codec == "own":
            cache = DynamicCache(config=model.config)
            kept.append(cache)
        else:
            cache = KvpagedCache(client, model=model, codec_k=codec, space=f"evaluation-memory-{codec}",
                                 revision="evaluation", capacity=tokens)
            cache.prefill(torch.full((1, tokens), number % 100))
        _fill(cache, shape, tokens, random)
        report["working_set"] = resident()["anonymous"] - before
        del cache
        gc.collect()
    report |= {"process": resident()["anonymous"] - before, "before": before, "daemon": resident(daemon)}
    if codec != "own":
        entry = client.stats().spaces[f"evaluation-memory-{codec}"]
        report |= {"stored": entry.stored_bytes, "overhead": entry.overhead_bytes, "tokens_stored": entry.tokens,
                   "f32": entry.logical_f32_bytes}
        client.drop_space(f"evaluation-memory-{codec}")
    print(json.dumps(report))


def measure(directory, socket, daemon, sizes, codecs, results, progress):
    """Fills results["memory"][codec]["tokens x conversations"]."""
    pieces = [(codec, f"{size[0]} x {size[1]}", size) for codec in codecs for size in sizes]
    for codec, name, size in progress.missing(pieces, lambda piece: results.has("memory", *piece[:2])):
        done = subprocess.run([sys.executable, os.path.abspath(__file__),
                               *map(str, (directory, socket, daemon, *size, codec))],
                              stdout=subprocess.PIPE, check=True)
        results.put(json.loads(done.stdout), "memory", codec, name)


if __name__ == "__main__":
    _child(sys.argv[1], sys.argv[2], *(int(number) for number in sys.argv[3:6]), sys.argv[6])
