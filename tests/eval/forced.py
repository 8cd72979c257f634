# SPDX-License-Identifier: Apache-2.0
"""A model that is given a text, with and without a codec in its cache: perplexity, the same choices, KL.

Every window of text goes through the model in one pass, so all tokens attend to whole blocks as the codec made them;
only the tokens behind the last whole block attend to exact ones, of which WINDOW leaves none.
"""
import math

import torch

from kvclient.transformers import KvpagedCache

WINDOW = 1024  # tokens, a multiple of a block's


def _log_probabilities(model, tokens, cache):
    # The cache's hook and generate() pass more, a text needs only this.
    return torch.log_softmax(model(tokens, past_key_values=cache, use_cache=cache is not None).logits[0, :-1], -1)


def _against(reference, got, targets):
    """What one window's numbers are; sums, so that windows can be added up."""
    probabilities = reference.exp()
    return {"tokens": len(targets),
            "nll": -got.gather(1, targets[:, None]).double().sum().item(),
            "nll_exact": -reference.gather(1, targets[:, None]).double().sum().item(),
            "same_choice": int((reference.argmax(1) == got.argmax(1)).sum()),
            "kl": (probabilities * (reference - got)).sum(1).double().sum().item(),
            "finite": bool(torch.isfinite(got).all())}


def measure(model, client, windows, caches, results, progress):
    """Fills results["forced"][cache][window] where it is empty."""
    with torch.inference_mode():
        for number, (source, tokens) in enumerate(windows):
            ids, reference = torch.tensor([tokens]), None
            for name in progress.missing(caches, lambda name: results.has("forced", name, str(number), tokens=tokens)):
                if reference is None:
                    reference = _log_probabilities(model, ids, None)
                k, v = name.split("/")
                cache = KvpagedCache(client, model=model, codec_k=k, codec_v=v, simulate=True, capacity=len(tokens))
                got = _log_probabilities(model, ids, cache)
                results.put(_against(reference, got, ids[0, 1:]) | {"source": source}, "forced", name, str(number),
                            tokens=tokens)


def sums(piece):
    """Of all windows of one cache: what is reported."""
    rows = list(piece.values())
    tokens = sum(row["tokens"] for row in rows)
    exact = math.exp(sum(row["nll_exact"] for row in rows) / tokens)
    perplexity = math.exp(sum(row["nll"] for row in rows) / tokens)
    return {"windows": len(rows), "tokens": tokens, "perplexity": perplexity, "perplexity_exact": exact,
            "increase": perplexity / exact - 1, "same_choice": sum(row["same_choice"] for row in rows) / tokens,
            "kl": sum(row["kl"] for row in rows) / tokens, "finite": all(row["finite"] for row in rows)}
