# SPDX-License-Identifier: Apache-2.0
"""Time: of a page, of a generation beside the model's own cache, of the first token behind a prefix that is cached.

What is compared runs in turn, round by round, so that what the machine does beside falls on all; ratios are medians of
the rounds' ratios. CPU time is this process's, which leaves out the daemon's.
"""
import statistics
import time

import torch
from transformers import DynamicCache

import kvclient
from kvclient.transformers import KvpagedCache

PAGE_CODECS = ("f16", "q8", "q6", "q4", "t8", "t6", "t4")


class Watch:
    """with Watch() as watch: ...; watch.wall and watch.cpu are seconds."""

    def __enter__(self):
        self.wall, self.cpu = -time.perf_counter(), -time.process_time()
        return self

    def __exit__(self, *_):
        self.wall += time.perf_counter()
        self.cpu += time.process_time()


def _summary(seconds):
    ordered = sorted(seconds)
    return {"median_ms": 1e3 * statistics.median(ordered), "worst_ms": 1e3 * ordered[-1], "n": len(ordered)}


def _page_times(client, shape, codec, rounds, random):
    """Seconds a page, of storing and of fetching a block of random values, all of it: requests and copies too."""
    schema = kvclient.Schema("evaluation", shape.layers, shape.heads, shape.head_dim, dtype="f32", codec_k=codec)
    name = f"evaluation-pages-{codec}"
    k, v = (torch.randn((shape.layers, shape.heads, schema.block_tokens, shape.head_dim), generator=random)
            for _ in range(2))
    append, fetch = [], []
    with client.space(name, schema) as space, client.reader() as reader:
        for number in range(rounds):
            key = number.to_bytes(8, "little")
            with Watch() as watch:
                space.append([kvclient.Append(key, k, v)])[0].raise_for_status()
            append.append(watch.wall)
            with Watch() as watch:
                space.fetch([key], out=(k, v), reader=reader).raise_for_status()
            fetch.append(watch.wall)
        entry = client.stats().spaces[name]
        pages = entry.pages // entry.blocks
        page_bytes = entry.stored_bytes // entry.pages
    client.drop_space(name)
    return {"pages": pages, "page_bytes": page_bytes, "compress": _summary([s / pages for s in append]),
            "decompress": _summary([s / pages for s in fetch])}


def measure_pages(client, model, results, progress, rounds):
    """Fills results["pages"][codec]."""
    random = torch.Generator().manual_seed(3)
    shape = KvpagedCache(None, model=model).shape
    for codec in progress.missing(PAGE_CODECS, lambda codec: results.has("pages", codec)):
        results.put(_page_times(client, shape, codec, rounds, random), "pages", codec)


def _generate(model, ids, cache, n):
    return model.generate(ids, attention_mask=torch.ones_like(ids), past_key_values=cache, do_sample=False,
                          min_new_tokens=n, max_new_tokens=n)


def _round_overhead(model, client, ids, n, number):
    """One round: the model's own cache and this one, the first of them by turns."""
    seconds = {}
    space = f"evaluation-overhead-{number}"
    kinds = ["own", "kvpaged"] if number % 2 else ["kvpaged", "own"]
    for kind in kinds:
        cache = DynamicCache(config=model.config)
        if kind == "kvpaged":
            # A space of this round's own: nothing is there, everything is stored.
            cache = stored = KvpagedCache(client, model=model, space=space)
        with Watch() as watch:
            _generate(model, ids, cache, n)
        seconds[kind] = {"wall": watch.wall, "cpu": watch.cpu}
    seconds["blocks"] = stored.blocks_stored
    client.drop_space(space)
    return seconds


def measure_overhead(client, model, tokens, n, rounds, results, progress):
    """Fills results["overhead"]: rounds of seconds."""
    ids = torch.tensor([tokens])
    for number in progress.missing(range(rounds), lambda number: results.has("overhead", str(number))):
        results.put(_round_overhead(model, client, ids, n, number) | {"prompt": len(tokens), "tokens": n},
                    "overhead", str(number))


def measure_first_token(client, model, tokens, rounds, results, progress):
    """Fills results["first_token"]: rounds of seconds until the first token is there."""
    ids = torch.tensor([tokens])
    _generate(model, ids, KvpagedCache(client, model=model), 1)
    for number in progress.missing(range(rounds), lambda number: results.has("first_token", str(number))):
        with Watch() as computed:
            _generate(model, ids, DynamicCache(config=model.config), 1)
        with Watch() as cached:
            cache = KvpagedCache(client, model=model)
            with Watch() as loading:
                found = cache.prefill(ids)
            _generate(model, ids, cache, 1)
        results.put({"prompt": len(tokens), "cached": found, "computed": computed.wall, "with_cache": cached.wall,
                     "loading": loading.wall}, "first_token", str(number))


def ratios(rounds, over, under, which=None):
    """The median of the rounds' ratios, and the least and greatest."""
    found = sorted(row[over][which] / row[under][which] if which else row[over] / row[under] for row in rounds)
    return {"median": statistics.median(found), "least": found[0], "greatest": found[-1]}
