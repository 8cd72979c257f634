# SPDX-License-Identifier: Apache-2.0
"""What a space holds: names for types and codecs, and the Schema."""
from __future__ import annotations

import dataclasses
from typing import Optional

from . import _native

DTYPES = {"f32": 1, "f16": 2, "bf16": 3}
DTYPE_BYTES = {"f32": 4, "f16": 2, "bf16": 2}
CODECS = {
    "f32": 1, "f16": 2, "bf16": 3, "q8": 16, "q6": 17, "q5": 18, "q4": 19, "t8": 32, "t6": 33, "t5": 34, "t4": 35,
    "t8g32": 40, "t6g32": 41, "t5g32": 42, "t4g32": 43, "t8g16": 48, "t6g16": 49, "t5g16": 50, "t4g16": 51,
}
DTYPE_NAMES = {number: name for name, number in DTYPES.items()}
CODEC_NAMES = {number: name for name, number in CODECS.items()}


def number_of(names: dict[str, int], name: str, what: str) -> int:
    """The number of a dtype or codec; ValueError lists the names there are."""
    if name not in names:
        raise ValueError(f"{what} {name!r} is none of {', '.join(names)}")
    return names[name]


def name_of(names: dict[int, str], number: int) -> str:
    return names.get(number, str(number))


def text_bytes(text: str, what: str) -> bytes:
    """UTF-8 for a C string; a NUL in it would silently end it."""
    encoded = text.encode("utf-8")
    if b"\0" in encoded:
        raise ValueError(f"{what} has a NUL in it")
    return encoded


def uint32(number: int, what: str) -> int:
    """The number, if a C uint32_t can hold it: ctypes would cut it to size."""
    if not 0 <= number < 2**32:
        raise ValueError(f"{what} is {number}")
    return number


@dataclasses.dataclass(frozen=True)
class Schema:
    """What a space holds; fixed when it is registered, and everybody who opens it must agree.

    head_dim_v None: as head_dim_k; 0: the space has no V. codec_v None: as codec_k. page_heads 0: chosen by the library
    so that a page is 16-64 KiB.
    """

    model: str
    layers: int
    kv_heads: int
    head_dim_k: int
    head_dim_v: Optional[int] = None
    dtype: str = "f16"
    codec_k: str = "q8"
    codec_v: Optional[str] = None
    block_tokens: int = 128
    page_heads: int = 0
    revision: str = ""

    def _native(self) -> _native.Schema:
        dim_v = self.head_dim_k if self.head_dim_v is None else self.head_dim_v
        return _native.Schema(
            model=text_bytes(self.model, "model"), revision=text_bytes(self.revision, "revision"),
            dtype=number_of(DTYPES, self.dtype, "dtype"), layers=uint32(self.layers, "layers"),
            kv_heads=uint32(self.kv_heads, "kv_heads"), head_dim_k=uint32(self.head_dim_k, "head_dim_k"),
            head_dim_v=uint32(dim_v, "head_dim_v"), block_tokens=uint32(self.block_tokens, "block_tokens"),
            codec_k=number_of(CODECS, self.codec_k, "codec_k"),
            codec_v=number_of(CODECS, self.codec_v or self.codec_k, "codec_v"),
            page_heads=uint32(self.page_heads, "page_heads"))


def schema_from(native: _native.Schema) -> Schema:
    """As registered: every field filled in. A space without V has no codec_v; codec_k stands there."""
    codec_k = name_of(CODEC_NAMES, native.codec_k)
    return Schema(
        model=(native.model or b"").decode("utf-8", "replace"), layers=native.layers, kv_heads=native.kv_heads,
        head_dim_k=native.head_dim_k, head_dim_v=native.head_dim_v, dtype=name_of(DTYPE_NAMES, native.dtype),
        codec_k=codec_k, codec_v=name_of(CODEC_NAMES, native.codec_v) if native.head_dim_v else codec_k,
        block_tokens=native.block_tokens, page_heads=native.page_heads,
        revision=(native.revision or b"").decode("utf-8", "replace"))
