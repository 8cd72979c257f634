# SPDX-License-Identifier: Apache-2.0
"""A sequence's blocks in the daemon, for KvpagedCache. Tensors are [layers, heads, tokens, head_dim]; block i is at
tokens i * block_tokens. Everything is done in order, up to the first block that cannot be."""
from __future__ import annotations

from typing import Any

import torch

from .errors import KvError, Status
from .records import Append
from .schema import Schema


class Lost(Exception):
    """The daemon cannot be used now."""


def _lost(error: KvError) -> Exception:
    """Wrong use is the caller's to see; everything else is a cache that is not there."""
    return error if error.status in (Status.SCHEMA, Status.INVALID, Status.RANGE) else Lost(str(error))


def _near(tensor: torch.Tensor) -> torch.Tensor:
    """Where the library can read it."""
    return tensor if tensor.device.type == "cpu" else tensor.cpu()


# A block that takes longer is computed instead: a small model on a processor does 128 tokens in about this.
_LOAD_SECONDS_PER_BLOCK = 0.25


class BlockStore:
    def __init__(self, client: Any, name: str, schema: Schema) -> None:
        self.block_tokens = schema.block_tokens
        try:
            self._space = client.space(name, schema)
        except KvError as error:
            raise _lost(error) from error

    def match(self, keys: list[bytes]) -> int:
        """How many can be had, from the first on: with those on the daemon's tier, where loading them does not take
        longer than any model would."""
        try:
            forecast = self._space.forecast(keys)
        except KvError as error:
            raise _lost(error) from error
        quick = forecast.load_seconds <= forecast.loadable * _LOAD_SECONDS_PER_BLOCK
        return int(forecast.resident + (forecast.loadable if quick else 0))

    def load(self, keys: list[bytes], k: torch.Tensor, v: torch.Tensor) -> int:
        """Decodes blocks to the beginning of k and v; how many came, from the first on."""
        near = [_near(tensor[:, :, :len(keys) * self.block_tokens]) for tensor in (k, v)]
        try:
            fetched = self._space.fetch(keys, out=(near[0], near[1]))
        except KvError as error:
            raise _lost(error) from error
        tokens = fetched.prefix_tokens
        for tensor, copy in zip((k, v), near):
            if tensor.device.type != "cpu":
                tensor[:, :, :tokens] = copy[:, :, :tokens].to(tensor.device)
        return int(tokens) // self.block_tokens

    def keep(self, keys: list[bytes], first: int, k: torch.Tensor, v: torch.Tensor) -> tuple[int, Status]:
        """Stores the blocks from the first-th on; how many are there now, and why not the others."""
        n = self.block_tokens
        blocks = []
        for index in range(first, len(keys)):
            at = slice(index * n, (index + 1) * n)
            blocks.append(Append(keys[index], _near(k[:, :, at]), _near(v[:, :, at]),
                                 parent=keys[index - 1] if index else None))
        try:
            outcomes = self._space.append(blocks)
        except KvError as error:
            raise _lost(error) from error
        for done, outcome in enumerate(outcomes):
            if not outcome.ok:
                return done, Status(outcome.status)
        return len(outcomes), Status.OK
