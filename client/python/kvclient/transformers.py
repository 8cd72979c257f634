# SPDX-License-Identifier: Apache-2.0
"""KvpagedCache: the K and V of a Hugging Face model in kvpaged.

    cache = KvpagedCache(client, model=model)
    cached = cache.prefill(inputs.input_ids)              # how many tokens need not be computed
    model.generate(**inputs, past_key_values=cache)       # computes the others

The model attends to dense tensors in this process, the working set. A block of the sequence (128 tokens) goes
to the daemon, compressed, as soon as it is whole, and prefill() gets back those blocks of a prompt that are there,
whichever process put them there.

What the model sees:
 - Blocks that came from the daemon are what the codec makes of them.
 - Blocks that were computed here are exact, unless simulate is set. Then every whole block is replaced by what the
   codec makes of it before the model attends to it for the first time, in the layer that computed it, also for the
   block's own tokens. The tokens behind the last whole block, fewer than block_tokens, are exact until theirs is whole.

A daemon that is not there, has no room or restarts costs time and no answer: the model computes what is missing, and a
warning says so once.
"""
from __future__ import annotations

import warnings
import weakref
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from ._blocks import BlockStore, Lost
from ._identity import fingerprint, identity
from ._simulate import Codec
from .errors import Status
from .keys import prefix_keys
from .schema import Schema

_DTYPES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
_HEAD_DIM_MAX = 256
_MODEL_CHARACTERS_MAX = 32  # of up to four bytes; the hash in a space's name tells models apart
_REVISION_CHARACTERS_MAX = 64  # a commit is 40
_ROOM_STEP = 256  # tokens


class UnsupportedModel(ValueError):
    """The model keeps something else than the K and V of all tokens in all layers."""


class KvpagedWarning(UserWarning):
    """Something is not cached. Results are not touched by it."""


def _check_config(config: Any) -> None:
    """Plain multi-head or grouped attention over all tokens, the same in all layers, or UnsupportedModel."""
    def refuse(what: str) -> None:
        raise UnsupportedModel(f"KvpagedCache does not support {what} ({config.model_type})")

    if getattr(config, "is_encoder_decoder", False):
        refuse("models with an encoder")
    if getattr(config, "kv_lora_rank", None) is not None:
        refuse("multi-head latent attention")
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        windowed = getattr(config, "sliding_window", None) is not None and \
            getattr(config, "use_sliding_window", True)
        kinds = ["sliding_attention" if windowed else "full_attention"]
        if getattr(config, "attention_chunk_size", None) is not None:
            kinds = ["chunked_attention"]
    for kind in kinds:
        if kind != "full_attention":
            refuse(f"layers of the kind {kind}")
    if getattr(config, "num_kv_shared_layers", 0):
        refuse("layers that share their K and V")
    if getattr(config, "num_attention_heads", None) is None:
        refuse("models without attention heads")


class _Shape:
    """The numbers of a model that its K and V have."""

    def __init__(self, config: Any) -> None:
        self.layers = int(config.num_hidden_layers)
        self.heads = int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
        self.head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        if self.head_dim % 8 or self.head_dim > _HEAD_DIM_MAX:
            raise UnsupportedModel(f"KvpagedCache needs a head_dim that is a multiple of 8 and at most "
                                   f"{_HEAD_DIM_MAX}, not {self.head_dim}")


class _Layer(CacheLayerMixin):
    """One layer's view of the cache; all that it holds is in the cache."""

    is_sliding = False
    is_croppable = True
    supports_early_init = False

    def __init__(self, cache: KvpagedCache, index: int) -> None:
        super().__init__()
        self._cache = weakref.ref(cache)
        self._index = index
        self.length = self.coded = 0

    def _owner(self) -> KvpagedCache:
        cache = self._cache()
        if cache is None:
            raise ReferenceError("the cache that this layer belongs to is gone")
        return cache

    @property
    def batch_size(self) -> int:
        return self._owner().batch

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
               ) -> tuple[torch.Tensor, torch.Tensor]:
        return self._owner()._put(self._index, key_states, value_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1


def _note_tokens(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Runs before each forward pass of a model and tells a KvpagedCache which tokens it is about to get."""
    cache = kwargs.get("past_key_values")
    if isinstance(cache, KvpagedCache):
        tokens = kwargs.get("input_ids", args[0] if args else None)
        cache._expect(tokens, kwargs.get("attention_mask"), kwargs.get("position_ids"))


def _row(input_ids: Any) -> list[int]:
    """The one sequence in a tensor, an array or a list."""
    ids = torch.as_tensor(input_ids)
    if ids.dim() == 2 and ids.shape[0] == 1:
        ids = ids[0]
    if ids.dim() != 1 or ids.is_floating_point():
        raise ValueError(f"input_ids must be the integers of one sequence, not {tuple(ids.shape)} of {ids.dtype}")
    tokens: list[int] = ids.tolist()
    return tokens


class KvpagedCache(Cache):
    """A cache for one sequence of one model; reset() makes it ready for the next.

    client        of kvclient, or None: nothing is kept outside this process
    space         a name; None: one that is made from the model's identity, so that equal models meet
    model         a causal language model of transformers, whose tokens are noticed from now on
    model_id      what the model is called; None: what its configuration says
    revision      which weights these are; None: the hub's commit, else a fingerprint of the weights
    codec_k       f32, f16, bf16, q8, q6, q5, q4, t8, ...; codec_v None: the same
    block_tokens  tokens of a block, 1 to 256
    working_set   "decoded" is the only one: models of transformers attend to dense tensors
    simulate      the model attends to nothing but what the codec made (above says what exactly). Nothing is shared or
                  reused then, prefill() is 0, and without a daemon there is an exception instead of an exact result.
                  A batch of sequences is allowed; row_starts says where each begins behind its padding on the left
    capacity      tokens to have room for from the beginning

    Batches (but with simulate), beams, padding and input embeddings: a batch is refused with ValueError; of a sequence
    with padding or without token ids nothing is kept.
    """

    def __init__(self, client: Any, space: str | None = None, *, model: Any, model_id: str | None = None,
                 revision: str | None = None, codec_k: str = "q8", codec_v: str | None = None,
                 block_tokens: int = 128, working_set: str = "decoded", simulate: bool = False,
                 row_starts: list[int] | None = None, capacity: int = 0) -> None:
        if working_set != "decoded":
            raise ValueError(f"working_set must be 'decoded', not {working_set!r}")
        if not 1 <= block_tokens <= 256:
            raise ValueError(f"block_tokens must be 1 to 256, not {block_tokens}")
        if row_starts is not None and not simulate:
            raise ValueError("row_starts is for simulate=True: a KvpagedCache keeps one sequence")
        config = model.config.get_text_config(decoder=True)
        _check_config(config)
        self.shape = _Shape(config)
        self.dtype, self.device = model.dtype, model.device
        if self.dtype not in _DTYPES:
            raise UnsupportedModel(f"KvpagedCache does not support models of {self.dtype}")
        self.codec_k, self.codec_v = codec_k, codec_v or codec_k
        self.block_tokens, self.simulate = block_tokens, simulate
        self.row_starts, self._capacity = row_starts, capacity
        super().__init__(layers=[_Layer(self, index) for index in range(self.shape.layers)])
        self._name_model(model, config, model_id, revision)
        self._open(client, space)
        self._clear()
        if getattr(model, "_kvpaged_noted", None) is None:
            model._kvpaged_noted = model.register_forward_pre_hook(_note_tokens, with_kwargs=True)

    # ---- What it is called ----

    def _name_model(self, model: Any, config: Any, model_id: str | None, revision: str | None) -> None:
        self.model_id = model_id or getattr(config, "_name_or_path", "") or config.model_type
        if revision is None:
            revision = getattr(config, "_commit_hash", None) or fingerprint(model)
        self.revision = revision[:_REVISION_CHARACTERS_MAX]
        self._root = identity(self.model_id, self.revision, _DTYPES[self.dtype], config.to_dict())

    def _open(self, client: Any, space: str | None) -> None:
        self._codec: Any = None
        self._store: BlockStore | None = None
        self._warned = False
        schema = Schema(self.model_id[:_MODEL_CHARACTERS_MAX], self.shape.layers, self.shape.heads,
                        self.shape.head_dim, dtype=_DTYPES[self.dtype], codec_k=self.codec_k, codec_v=self.codec_v,
                        block_tokens=self.block_tokens, revision=self.revision)
        if self.simulate:
            self._codec = Codec(client, schema)
        elif client is not None:
            name = space or f"hf-{self._root.hex()[:16]}-{self.codec_k}-{self.codec_v}-b{self.block_tokens}"
            try:
                self._store = BlockStore(client, name, schema)
            except Lost as lost:
                self._warn(f"kvpaged cannot be used: {lost}")

    # ---- The working set ----

    def _clear(self) -> None:
        self._k: Any = None
        self._v: Any = None
        self.batch = -1
        self._tokens: list[int] | None = []  # known so far; None: cannot be known
        self._n_done = 0                     # blocks that are in the daemon, or beyond hope
        self._chain_whole = True             # the next block's predecessor is in the daemon
        self.blocks_loaded = self.blocks_stored = 0
        for layer in self.layers:
            layer.length = 0
            layer.coded = 0

    def reset(self) -> None:
        """Forgets the sequence. What the daemon has of it stays there."""
        self._clear()

    def _room(self) -> int:
        return 0 if self._k is None else int(self._k.shape[3])

    def _reserve(self, batch: int, tokens: int) -> None:
        """Makes room for so many tokens, by a quarter more than there is: growing costs no more than a few copies."""
        if tokens <= self._room():
            return
        room = max(tokens, self._capacity, self._room() * 5 // 4)
        room = -(-room // _ROOM_STEP) * _ROOM_STEP
        size = (self.shape.layers, batch, self.shape.heads, room, self.shape.head_dim)
        grown = []
        for old in (self._k, self._v):
            new = torch.empty(size, dtype=self.dtype, device=self.device)
            if old is not None:
                for index, layer in enumerate(self.layers):
                    new[index, :, :, :layer.length] = old[index, :, :, :layer.length]
            grown.append(new)
        self._k, self._v = grown
        self.batch = batch

    def _check_states(self, k: torch.Tensor, v: torch.Tensor) -> None:
        batch = self.batch if self.batch > 0 else k.shape[0]
        expected = (batch, self.shape.heads, k.shape[2], self.shape.head_dim)
        for name, states in (("key", k), ("value", v)):
            if tuple(states.shape) != expected or states.dtype != self.dtype:
                raise ValueError(f"{name} states are {tuple(states.shape)} of {states.dtype}, expected {expected} of "
                                 f"{self.dtype}")
            if states.device != self.device:
                raise ValueError(f"{name} states are on {states.device}, and this cache's model was on {self.device}: "
                                 "all layers must be on one device, and stay there")
        if batch > 1 and not self.simulate:
            raise ValueError(f"a KvpagedCache keeps one sequence, this is a batch of {batch} (or beams): use one for "
                             "each sequence")
        if self.row_starts is not None and len(self.row_starts) != batch:
            raise ValueError(f"row_starts has {len(self.row_starts)} rows, the batch {batch}")

    def _put(self, index: int, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A layer's new K and V; returns all that it attends to."""
        self._check_states(k, v)
        layer = self.layers[index]
        begin, end = layer.length, layer.length + k.shape[2]
        self._reserve(k.shape[0], end)
        self._k[index, :, :, begin:end] = k
        self._v[index, :, :, begin:end] = v
        layer.length = end
        layer.is_initialized = True
        if self.simulate:
            layer.coded = self._pass_through_codec(index, layer.coded, end)
        elif index == len(self.layers) - 1:
            self._store_finished(end)
        return self._k[index, :, :, :end], self._v[index, :, :, :end]

    def _pass_through_codec(self, index: int, begin: int, end: int) -> int:
        """Replaces the blocks that became whole when the layer went from begin to end tokens. Returns end."""
        n = self.block_tokens
        pieces = []
        for row in range(self.batch):
            start = self.row_starts[row] if self.row_starts else 0
            first = max(0, begin - start) // n
            for block in range(first, max(0, end - start) // n):
                at = slice(start + block * n, start + (block + 1) * n)
                pieces.append((self._k[index, row, :, at], self._v[index, row, :, at]))
        self._codec.replace(pieces)
        return end

    def crop(self, tokens_to_remove: int) -> None:
        """Takes tokens off the end: so many when negative, all behind so many when positive."""
        length = self.get_seq_length()
        keep = length + tokens_to_remove if tokens_to_remove <= 0 else min(length, tokens_to_remove)
        if self.simulate and keep < length:
            raise NotImplementedError("a simulating KvpagedCache cannot be cropped: what the codec replaced is gone")
        for layer in self.layers:
            layer.length = max(0, keep)
        self._n_done = min(self._n_done, max(0, keep) // self.block_tokens)
        if self._tokens is not None:
            del self._tokens[max(0, keep):]

    def reorder_cache(self, beam_idx: Any) -> None:
        raise ValueError("a KvpagedCache keeps one sequence: no beams")

    def batch_repeat_interleave(self, repeats: int) -> None:
        if repeats != 1:
            raise ValueError("a KvpagedCache keeps one sequence: it cannot be repeated")

    def batch_select_indices(self, indices: Any) -> None:
        raise ValueError("a KvpagedCache keeps one sequence: it has no rows to select")

    # ---- Tokens ----

    def _expect(self, tokens: Any, mask: Any, positions: Any) -> None:
        """These tokens come next, if they are at the places that their keys stand for."""
        if self._tokens is None:
            return
        length = self.get_seq_length()
        plain = tokens is not None and tokens.dim() == 2 and tokens.shape[0] == 1 and length <= len(self._tokens)
        if plain and mask is not None:
            plain = mask.dim() == 2 and bool(mask.all())
        if plain and positions is not None:
            plain = positions.flatten().tolist() == list(range(length, length + tokens.shape[1]))
        self._tokens = self._tokens[:length] + tokens[0].tolist() if plain else None

    def prefill(self, input_ids: Any) -> int:
        """Loads what the daemon has of a prompt, from its beginning on, and returns how many tokens these are.

        At least the prompt's last token is left for the model, which must then be given this prompt and no other: what
        is cached of it is not looked at again. Called again with a longer prompt that goes on where
        the sequence is, it returns the tokens that are here already. ValueError: this is another sequence (reset()).
        """
        tokens = _row(input_ids)
        length = int(self.get_seq_length())
        if length > 0:
            if self._tokens is None or self._tokens[:length] != tokens[:length] or len(tokens) <= length:
                raise ValueError("the cache holds another sequence: reset() it first")
            return length
        self._tokens = tokens
        # Room for the answer's beginning too, so that what is loaded need not be moved at once.
        self._capacity = max(self._capacity, len(tokens) + _ROOM_STEP)
        if self._store is None or self.simulate:
            return 0
        usable = tokens[:len(tokens) - 1] if tokens else []
        keys = prefix_keys(usable, self.block_tokens, salt=self._root)
        return self._load(self._store, keys) * self.block_tokens

    def _load(self, store: BlockStore, keys: list[bytes]) -> int:
        try:
            n = store.match(keys) if keys else 0
            if n > 0:
                self._reserve(1, n * self.block_tokens)
                n = store.load(keys[:n], self._k[:, 0], self._v[:, 0])
        except Lost as lost:
            self._warn(f"kvpaged cannot be asked, everything is computed: {lost}")
            n = 0
        for layer in self.layers:
            layer.length = n * self.block_tokens
        self._n_done = self.blocks_loaded = n
        return n

    # ---- To the daemon ----

    def _store_finished(self, length: int) -> None:
        n = self.block_tokens
        if self._store is None or not self._chain_whole or length // n <= self._n_done:
            return
        tokens = (self._tokens or [])[:length]
        if len(tokens) // n <= self._n_done:
            return
        keys = prefix_keys(tokens, n, salt=self._root)
        try:
            stored, why = self._store.keep(keys, self._n_done, self._k[:, 0], self._v[:, 0])
            if why == Status.NO_PARENT and self.blocks_loaded == 0:
                # The daemon began anew or evicted the beginning; all of it is still here, and exact.
                self._n_done = 0
                stored, why = self._store.keep(keys, 0, self._k[:, 0], self._v[:, 0])
        except Lost as lost:
            self._warn(f"kvpaged went away, what is computed from now on is not kept: {lost}")
            self._chain_whole = False
            return
        self._n_done += stored
        self.blocks_stored += stored
        if why != Status.OK:
            self._chain_whole = False
            self._warn(f"the rest of this sequence is not kept: {why.text}")

    def _warn(self, text: str) -> None:
        if not self._warned:
            warnings.warn(text, KvpagedWarning, stacklevel=4)
            self._warned = True
