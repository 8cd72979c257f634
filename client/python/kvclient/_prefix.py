# SPDX-License-Identifier: Apache-2.0
"""Names of a model's blocks: what a cached K and V depends on is in the key, and nothing else is.

A block's key is the hash of the key before it and of the block's tokens, the first one's of the model's identity. So a
key stands for a model and a whole prefix, and two processes that agree on both find each other's blocks.
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

KEY_BYTES = 32

# Say nothing about the values of K and V, and change between releases and machines.
_VOLATILE = {"transformers_version", "use_cache", "architectures", "torch_dtype", "quantization_config",
             "output_attentions", "output_hidden_states", "return_dict", "id2label", "label2id"}

# So many values of each parameter are looked at: enough to tell apart weights that were trained differently.
_SAMPLES = 64


def fingerprint(model: Any) -> str:
    """16 hexadecimal digits that change with the weights: names, shapes and a sample of each parameter."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten()
        step = max(1, values.numel() // _SAMPLES)
        sample = values[::step][:_SAMPLES].float().cpu().numpy()
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}\n".encode())
        digest.update(np.ascontiguousarray(sample, dtype="<f4").tobytes())
    return digest.hexdigest()[:16]


def root_key(model_id: str, revision: str, dtype: str, config: dict[str, Any]) -> bytes:
    """What the chain of a model begins with. The whole configuration is in it: that of the rotation, for one,
    decides what K is."""
    facts = {name: value for name, value in config.items() if name not in _VOLATILE and not name.startswith("_")}
    text = json.dumps(["kvclient.transformers 1", model_id, revision, dtype, facts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).digest()


def block_keys(root: bytes, tokens: Sequence[int], block_tokens: int) -> Iterator[bytes]:
    """The keys of all whole blocks of tokens, first to last."""
    key = root
    for begin in range(0, len(tokens) - block_tokens + 1, block_tokens):
        block = np.asarray(tokens[begin:begin + block_tokens], dtype="<i8")
        key = hashlib.sha256(key + block.tobytes()).digest()
        yield key
