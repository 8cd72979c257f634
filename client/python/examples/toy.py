# SPDX-License-Identifier: Apache-2.0
"""A small transformer in numpy for the examples. Tokens are bytes. Its weights are random, so its text is nonsense, but
its K and V depend on every token before, as a real model's do."""
from __future__ import annotations

from typing import Any

import numpy as np

import kvclient as kv

Array = np.ndarray[Any, np.dtype[np.float32]]
LAYERS, HEADS, DIM, BLOCK = 2, 4, 32, 32
WIDTH = HEADS * DIM
SYLLABLES = [first + second for first in "bdfgklmnprstvwzh" for second in "a e i o u ai oo ay en or is ut".split()]


class Model:
    """forward() appends to k and v, [layers, heads, tokens, dim]; `computed` counts the tokens that went through it."""

    def __init__(self, seed: int = 1) -> None:
        random = np.random.default_rng(seed)
        self.embedding = random.standard_normal((256, WIDTH), dtype=np.float32)
        self.weights = random.standard_normal((LAYERS, 4, WIDTH, WIDTH), dtype=np.float32) / np.sqrt(WIDTH)
        self.computed = 0

    def forward(self, tokens: list[int], k: Array, v: Array, past: int) -> int:
        """Runs tokens[past:], writes their K and V, and returns the most likely next token."""
        x = self.embedding[tokens[past:]]
        n, total = len(x), len(tokens)
        visible = np.arange(total) <= np.arange(past, total)[:, None]
        for layer, (to_q, to_k, to_v, to_out) in enumerate(self.weights):
            q, new_k, new_v = ((x @ w).reshape(n, HEADS, DIM).transpose(1, 0, 2) for w in (to_q, to_k, to_v))
            k[layer, :, past:total], v[layer, :, past:total] = new_k, new_v
            scores = q @ k[layer, :, :total].transpose(0, 2, 1) / np.sqrt(DIM)
            scores = np.where(visible, scores, -np.inf)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            mixed = (scores / scores.sum(-1, keepdims=True)) @ v[layer, :, :total]
            x = x + mixed.transpose(1, 0, 2).reshape(n, WIDTH) @ to_out
            x = x / np.sqrt((x * x).mean(-1, keepdims=True))
        self.computed += n
        return int(np.argmax(self.embedding @ x[-1]))

    def speak(self, token: int) -> str:
        return SYLLABLES[token % len(SYLLABLES)]


def schema(codec: str = "q8") -> kv.Schema:
    """The space of this model: everybody who uses it opens it with this."""
    return kv.Schema("kvclient-toy", layers=LAYERS, kv_heads=HEADS, head_dim_k=DIM, dtype="f32", codec_k=codec,
                     block_tokens=BLOCK)


class Session:
    """A worker's tokens with their K and V; whole blocks are taken from the cache and given to it."""

    def __init__(self, space: kv.Space, room: int = 1024) -> None:
        self.space = space
        self.model = Model()
        self.tokens: list[int] = []
        self.k = np.zeros((LAYERS, HEADS, room, DIM), np.float32)
        self.v = np.zeros_like(self.k)
        self.filled = 0  # tokens whose K and V are here
        self.cached = 0  # of these, how many came from the cache

    def feed(self, tokens: list[int]) -> int:
        """Adds tokens and returns the next one: computes only what the cache does not have."""
        self.tokens += tokens
        keys = kv.prefix_keys(self.tokens, BLOCK)
        # The last token is always computed: it tells the next one.
        first, last = self.filled // BLOCK, (len(self.tokens) - 1) // BLOCK
        got = self.space.fetch(keys[first:last], out=(self.k[:, :, first * BLOCK:], self.v[:, :, first * BLOCK:]))
        have = max(self.filled, first * BLOCK + got.prefix_tokens)
        self.cached += have - self.filled
        following = self.model.forward(self.tokens, self.k, self.v, have)
        self.filled = len(self.tokens)
        self.space.append([kv.Append(keys[i], self.k[:, :, i * BLOCK:(i + 1) * BLOCK],
                                     self.v[:, :, i * BLOCK:(i + 1) * BLOCK], parent=keys[i - 1] if i else None)
                           for i in range(have // BLOCK, len(keys))])
        return following

    def say(self, n: int) -> str:
        """Generates n tokens after those fed, and returns their text."""
        words = []
        following = self.feed([10])
        for _ in range(n):
            words.append(self.model.speak(following))
            following = self.feed([following])
        return " ".join(words)
