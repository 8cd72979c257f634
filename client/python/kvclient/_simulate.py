# SPDX-License-Identifier: Apache-2.0
"""What the codec makes of blocks, for KvpagedCache(simulate=True): the daemon stores them, they are read back, and
deleted. There is no second codec in Python that could differ."""
from __future__ import annotations

import dataclasses
import itertools
import os
from typing import Any

import torch

from .records import Append
from .schema import Schema

_AT_ONCE = 64  # blocks of one layer: little beside an arena, and few requests


class Codec:
    """Works in a space of its shape and codecs, shared by all who do this, under random keys and with blocks of one
    layer: a codec works head by head, so that changes nothing."""

    def __init__(self, client: Any, schema: Schema) -> None:
        if client is None:
            raise ValueError("simulate=True needs a client: the codec is the daemon's")
        self.block_tokens = schema.block_tokens
        self._salt = os.urandom(16)
        self._numbers = itertools.count()
        name = (f"simulate-{schema.kv_heads}x{schema.head_dim_k}-{schema.dtype}-{schema.codec_k}-{schema.codec_v}-"
                f"b{schema.block_tokens}")
        self._space = client.space(name, dataclasses.replace(schema, model="simulate", revision="", layers=1))

    def replace(self, pieces: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Each piece is the K and V of one block and layer, [heads, block_tokens, head_dim]. In place."""
        for begin in range(0, len(pieces), _AT_ONCE):
            self._replace(pieces[begin:begin + _AT_ONCE])

    def _replace(self, pieces: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        n = self.block_tokens
        k, v = (torch.cat([piece[which] for piece in pieces], 1)[None].cpu() for which in (0, 1))
        keys = [self._salt + next(self._numbers).to_bytes(8, "little") for _ in pieces]
        spans = [slice(index * n, (index + 1) * n) for index in range(len(pieces))]
        for outcome in self._space.append([Append(key, k[:, :, at], v[:, :, at]) for key, at in zip(keys, spans)]):
            outcome.raise_for_status()
        self._space.fetch(keys, out=(k, v)).raise_for_status()
        self._space.delete(keys)
        for (piece_k, piece_v), at in zip(pieces, spans):
            piece_k.copy_(k[0, :, at])
            piece_v.copy_(v[0, :, at])
