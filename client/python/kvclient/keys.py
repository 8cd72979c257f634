# SPDX-License-Identifier: Apache-2.0
"""Keys for blocks of tokens: equal prefixes get equal keys, in every process."""
from __future__ import annotations

import hashlib
from typing import Sequence

import numpy as np


def prefix_keys(tokens: Sequence[int], block_tokens: int = 128, *, salt: bytes = b"") -> list[bytes]:
    """A key of 32 bytes for each whole block of the tokens; each depends on all tokens before it.

    salt: whatever else decides K and V and is not in the space's schema, such as an adapter. What is left over at the
    end gets no key: only whole blocks are worth sharing.
    """
    if block_tokens < 1:
        raise ValueError(f"block_tokens is {block_tokens}")
    numbers = np.asarray(tokens, dtype="<i8")
    if numbers.ndim != 1:
        raise ValueError(f"tokens has shape {numbers.shape}, not one dimension")
    keys = []
    key = hashlib.sha256(b"kvclient" + salt).digest()
    for begin in range(0, len(numbers) - block_tokens + 1, block_tokens):
        key = hashlib.sha256(key + numbers[begin:begin + block_tokens].tobytes()).digest()
        keys.append(key)
    return keys
