# SPDX-License-Identifier: Apache-2.0
"""Greedy generations with and without a codec in the cache.

Prompts of about the same length run as a batch, padded on the left, with the same batches for all caches, so that the
only difference between two runs is the codec. Blocks are counted from each prompt's own first token.
"""
import torch
from transformers import DynamicCache

from kvclient.transformers import KvpagedCache

TOKENS = 100
BATCH = 32
BATCH_TOKENS_MAX = 8192  # of the prompts of a batch, padding included


def batches(prompts):
    """Lists of prompt numbers."""
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number][1]))
    found = []
    for number in order:
        longest = len(prompts[number][1])
        if not found or len(found[-1]) == BATCH or (len(found[-1]) + 1) * longest > BATCH_TOKENS_MAX:
            found.append([])
        found[-1].append(number)
    return found


def _cache(model, client, name, starts, room):
    if name == "exact":
        return DynamicCache(config=model.config)
    k, v = name.split("/")
    return KvpagedCache(client, model=model, codec_k=k, codec_v=v, simulate=True, row_starts=starts, capacity=room)


def _generate(model, rows, cache, starts, n):
    """n tokens for each row, and how far each was ahead of the second best (in logits). Also behind the end of text:
    what comes there is compared too."""
    width = max(map(len, rows))
    ids = torch.tensor([[0] * start + row for start, row in zip(starts, rows)])
    mask = torch.tensor([[0] * start + [1] * (width - start) for start in starts])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    tokens, margins = [], []
    for _ in range(n):
        logits = model(ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
                       logits_to_keep=1).logits[:, -1]
        if not torch.isfinite(logits).all():
            raise FloatingPointError("a logit is not a number")
        best = logits.topk(2, dim=1)
        tokens.append(best.indices[:, 0])
        margins.append(best.values[:, 0] - best.values[:, 1])
        ids = best.indices[:, :1]
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, torch.ones(len(rows), 1, dtype=mask.dtype)], 1)
    return torch.stack(tokens, 1).tolist(), torch.stack(margins, 1)


def _follow(model, rows, generated, cache, starts):
    """The choices behind the same tokens: the prompts, then all of the exact run's tokens in one pass."""
    width, n = max(map(len, rows)), len(generated[0])
    mask = torch.tensor([[0] * start + [1] * (width + n - start) for start in starts])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    ids = torch.tensor([[0] * start + row for start, row in zip(starts, rows)])
    first = model(ids, attention_mask=mask[:, :width], position_ids=positions[:, :width], past_key_values=cache,
                  use_cache=True, logits_to_keep=1).logits
    rest = model(torch.tensor(generated)[:, :-1], attention_mask=mask[:, :-1], position_ids=positions[:, width:-1],
                 past_key_values=cache, use_cache=True).logits
    return torch.cat([first.argmax(2), rest.argmax(2)], 1).tolist()


class _Batches:
    """Of one stage and cache, those batches that have a prompt without a result."""

    def __init__(self, prompts, results, progress, stage):
        self.prompts, self.results, self.progress, self.stage = prompts, results, progress, stage

    def missing(self, name):
        for batch in self.progress.missing(batches(self.prompts), lambda batch: self._there(name, batch), len):
            rows = [self.prompts[number][1] for number in batch]
            yield batch, rows, [max(map(len, rows)) - len(row) for row in rows]

    def _there(self, name, batch):
        return all(self.results.has(self.stage, name, str(number), tokens=self.prompts[number][1]) for number in batch)

    def put(self, name, number, piece):
        self.results.put(piece, self.stage, name, str(number), tokens=self.prompts[number][1])


def measure_follow(model, client, prompts, caches, results, progress):
    """Fills results["follow"][cache][prompt]: where the choices behind the exact run's own tokens differ."""
    work = _Batches(prompts, results, progress, "follow")
    with torch.inference_mode():
        for name in caches:
            for batch, rows, starts in work.missing(name):
                exact = [results.get("greedy", "exact", str(number), tokens=row)["tokens"]
                         for number, row in zip(batch, rows)]
                cache = _cache(model, client, name, starts, max(map(len, rows)) + len(exact[0]))
                for number, expected, got in zip(batch, exact, _follow(model, rows, exact, cache, starts)):
                    at = [place for place, (a, b) in enumerate(zip(expected, got, strict=True)) if a != b]
                    work.put(name, number, {"different": at, "of": len(expected)})


def measure(model, client, prompts, caches, results, progress, n=TOKENS):
    """Fills results["greedy"][cache][prompt] where it is empty: tokens, and the margins of the exact run."""
    work = _Batches(prompts, results, progress, "greedy")
    with torch.inference_mode():
        for name in ["exact", *caches]:
            for batch, rows, starts in work.missing(name):
                cache = _cache(model, client, name, starts, max(map(len, rows)) + n)
                tokens, margins = _generate(model, rows, cache, starts, n)
                for number, row, margin in zip(batch, tokens, margins):
                    piece = {"kind": prompts[number][0], "prompt_tokens": len(prompts[number][1]), "tokens": row}
                    if name == "exact":
                        piece["margins"] = [round(value, 4) for value in margin.tolist()]
                    work.put(name, number, piece)


def _first_difference(expected, got):
    return next((at for at, (a, b) in enumerate(zip(expected, got)) if a != b), None)


def sums(exact, piece):
    """Of one cache's generations against the exact ones."""
    kinds, first, margins, equal, total = {}, {}, [], 0, 0
    for number, row in piece.items():
        expected = exact[number]["tokens"]
        same = sum(a == b for a, b in zip(expected, row["tokens"]))
        at = _first_difference(expected, row["tokens"])
        equal, total = equal + same, total + len(expected)
        sum_kind = kinds.setdefault(row["kind"], [0, 0, 0, 0])
        for index, value in enumerate((same, len(expected), at is None, 1)):
            sum_kind[index] += value
        if at is not None:
            first[number] = at
            margins.append(exact[number]["margins"][at])
    choices = sum(first.get(number, len(exact[number]["tokens"]) - 1) + 1 for number in piece)
    return {"prompts": len(piece), "equal": equal / total, "whole": 1 - len(first) / len(piece),
            "first_differences": sorted(first.values()), "margins_there": sorted(margins),
            "choices": choices, "choices_equal": 1 - len(first) / choices,
            "kinds": {kind: {"equal": a / b, "whole": c / d, "prompts": d} for kind, (a, b, c, d) in kinds.items()}}


def follow_sums(exact, piece):
    """Of one cache's choices behind the exact run's tokens; margins are the exact run's where they differ."""
    margins = sorted(exact[number]["margins"][at] for number, row in piece.items() for at in row["different"])
    choices = sum(row["of"] for row in piece.values())
    return {"prompts": len(piece), "choices": choices, "different": len(margins),
            "same_choice": 1 - len(margins) / choices, "margins_there": margins}
