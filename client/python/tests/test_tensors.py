# SPDX-License-Identifier: Apache-2.0
"""Arrays in and out: types, strides, what is refused and with which words."""
from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from conftest import EXACT, tensors

import kvclient as kv


def scattered(random: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array of this shape in a larger one: axes in any order of memory, steps of 1 to 3, forwards or backwards."""
    order = list(random.permutation(3)) + [3]
    steps = [int(random.integers(1, 4)) for _ in range(3)] + [1]
    room = np.full([shape[axis] * steps[axis] + 2 for axis in order[:3]] + [shape[3] + int(random.integers(0, 3))], 77,
                   dtype)
    view = room.transpose(np.argsort(order))
    cut = []
    for axis in range(3):
        part = slice(1, 1 + shape[axis] * steps[axis], steps[axis])
        cut.append(part)
    view = view[(*cut, slice(0, shape[3]))]
    for axis in range(3):
        if random.integers(0, 2):
            view = np.flip(view, axis)
    assert view.shape == shape
    return view


@pytest.mark.parametrize("seed", range(40))
def test_any_strides(space, seed):
    random = np.random.default_rng(seed)
    dtype = np.dtype(random.choice([np.float32, np.float16]))
    k, v = tensors(seed)
    k, v = k.astype(dtype), v.astype(dtype)
    given = [scattered(random, x.shape, dtype) for x in (k, v)]
    given[0][...], given[1][...] = k, v
    space.put("a", *given)
    out = [scattered(random, x.shape, dtype) for x in (k, v)]
    room = [x.base if x.base is not None else x for x in out]
    untouched = [int((x == 77).sum()) - int((y == 77).sum()) for x, y in zip(room, out)]
    got = space.fetch(["a"], out=tuple(out), strict=True)
    assert got.k is out[0] and np.array_equal(out[0], k) and np.array_equal(out[1], v)
    assert [int((x == 77).sum()) - int((y == 77).sum()) for x, y in zip(room, out)] == untouched


def test_into_each(space):
    blocks = [tensors(i) for i in range(3)]
    space.append([kv.Append(f"{i}", *block) for i, block in enumerate(blocks)], strict=True)
    into = [(np.zeros((2, 4, 32, 16), np.float32), None if i == 1 else np.zeros((2, 4, 32, 24), np.float32))
            for i in range(3)]
    assert space.fetch(["0", "1", "2"], into=into).ok
    for (k, v), (got_k, got_v) in zip(blocks, into):
        assert np.array_equal(got_k, k) and (got_v is None or np.array_equal(got_v, v))
    with pytest.raises(ValueError, match="2 pairs for 3 keys"):
        space.fetch(["0", "1", "2"], into=into[:2])
    with pytest.raises(ValueError, match="exclude"):
        space.fetch(["0"], into=into[:1], out=into[0])


def test_bf16(client):
    space = client.space("bf16", kv.Schema("test", layers=1, kv_heads=2, head_dim_k=16, dtype="bf16", codec_k="bf16",
                                           block_tokens=8))
    k = np.random.default_rng(1).integers(0x3f00, 0x4000, (1, 2, 8, 16), dtype=np.uint16)
    with pytest.raises(ValueError, match='dtype="bf16"'):
        space.put("a", k, k)
    space.put("a", k, k, dtype="bf16")
    got = space.fetch(["a"], strict=True)
    assert got.k.dtype == np.uint16 and np.array_equal(got.k, k)
    as_f32 = space.fetch(["a"], dtype="f32").k
    assert np.array_equal(as_f32, (k.astype(np.uint32) << 16).view(np.float32))
    out = np.zeros_like(k)
    space.fetch(["a"], out=(out, None), strict=True)
    assert np.array_equal(out, k)


def wrong_arrays():
    k, _ = tensors()
    wide = np.zeros((2, 4, 32, 32), np.float32)
    raw = np.zeros(2 * 4 * 32 * 16 * 4 + 1, np.uint8)[1:]
    return [("shape", k[0]), ("shape", k[:1]), ("shape", k[:, :2]), ("shape", k[..., :8]), ("shape", k[None]),
            ("float64", k.astype(np.float64)), ("int32", k.astype(np.int32)), ("dtype >f4", k.astype(">f4")),
            ("ascontiguousarray", wide[..., ::2]), ("ascontiguousarray", k[..., ::-1]),
            ("ascontiguousarray", np.asfortranarray(k)), ("aligned", raw.view(np.float32).reshape(k.shape)),
            ("complex", k.astype(np.complex64)), ("not a numpy array", k.tolist()), ("not a numpy array", None),
            ("not a numpy array", "text")]


@pytest.mark.parametrize("word, wrong", [(word.replace("float64", "<f8").replace("int32", "<i4")
                                          .replace("complex", "<c8"), wrong) for word, wrong in wrong_arrays()])
def test_wrong_arrays(space, word, wrong):
    _, v = tensors()
    with pytest.raises((ValueError, TypeError), match=word):
        space.put("a", wrong, v)
    assert space.match(["a"]) == 0


@pytest.mark.parametrize("word, change", [
    ("read-only", lambda k: np.broadcast_to(k[:, :1], k.shape)),
    ("overlap", lambda k: np.lib.stride_tricks.as_strided(k, k.shape, (*k.strides[:2], 4, 4))),
    ("shape", lambda k: k[:, :, :31]),
    ("ascontiguousarray", lambda k: k[..., ::-1]),
])
def test_wrong_destinations(space, word, change):
    k, v = tensors()
    space.put("a", k, v)
    with pytest.raises(ValueError, match=word):
        space.fetch(["a"], out=(change(np.zeros_like(k)), None))


def test_wrong_tokens(space):
    k, v = tensors()
    for tokens in (0, 33, -1):
        with pytest.raises(ValueError, match="1..32 tokens"):
            space.append([kv.Append("a", k, v, tokens=tokens)])
    with pytest.raises(ValueError, match="shape"):
        space.append([kv.Append("a", k, v[:, :, :16])])
    with pytest.raises(ValueError, match="v is missing"):
        space.append([kv.Append("a", k)])
    with pytest.raises(TypeError, match="sequence of Append"):
        space.append(kv.Append("a", k, v))
    space.append([kv.Append("a", k, v, tokens=5)], strict=True)
    assert space.fetch(["a"]).tokens == [5]


class Foreign:
    """An array of another library, as DLPack shows it."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def test_other_libraries(space):
    k, v = tensors()
    space.put("a", Foreign(k), memoryview(v))
    got = space.fetch(["a"], strict=True)
    assert np.array_equal(got.k, k) and np.array_equal(got.v, v)


class Elsewhere(Foreign):
    """One that lies in the memory of a GPU."""

    def __dlpack__(self, **options):
        raise AssertionError("its memory was asked for")

    def __dlpack_device__(self):
        return (2, 0)


def test_other_devices(space):
    k, v = tensors()
    with pytest.raises(ValueError, match=r"v is not in the CPU's memory .*\(2, 0\)"):
        space.put("a", k, Elsewhere(v))
    with pytest.raises(ValueError, match="k is not in the CPU's memory"):
        space.fetch(["a"], out=(Elsewhere(k), None))
    assert space.match(["a"]) == 0


class FakeTorch:
    """What is used of a torch tensor, for machines without torch; tests/eval has the real one."""

    __module__ = "torch"
    layout = "torch.strided"

    def __init__(self, array: np.ndarray, dtype: str, device: str = "cpu") -> None:
        self._array = array
        self.dtype = dtype
        self.device = types.SimpleNamespace(type=device, __str__=lambda: device)
        self.shape = array.shape

    def data_ptr(self) -> int:
        return self._array.ctypes.data

    def stride(self) -> tuple[int, ...]:
        return tuple(stride // self._array.itemsize for stride in self._array.strides)

    def is_neg(self) -> bool:
        return False


def test_torch_is_used_in_place_and_not_imported(space):
    before = "torch" in sys.modules  # by another test
    k, v = tensors()
    space.put("a", FakeTorch(k, "torch.float32"), FakeTorch(v, "torch.float32"))
    out = np.zeros_like(k)
    space.fetch(["a"], out=(FakeTorch(out, "torch.float32"), None), strict=True)
    assert np.array_equal(out, k) and ("torch" in sys.modules) == before
    with pytest.raises(ValueError, match="cpu"):
        space.put("b", FakeTorch(k, "torch.float32", "cuda"), v)
    with pytest.raises(ValueError, match="torch.float64"):
        space.put("b", FakeTorch(k, "torch.float64"), v)
    with pytest.raises(ValueError, match=r"\.contiguous\(\)"):
        space.put("b", FakeTorch(k[..., ::-1], "torch.float32"), v)


def test_real_torch(space):
    torch = pytest.importorskip("torch")
    k, v = (torch.from_numpy(x) for x in tensors())
    space.put("a", k.transpose(1, 2).contiguous().transpose(1, 2), v)
    out = torch.zeros(2, 4, 32, 16)
    space.fetch(["a"], out=(out, None), strict=True)
    assert torch.equal(out, k)
    half = torch.zeros(2, 4, 32, 16, dtype=torch.bfloat16)
    space.fetch(["a"], out=(half, None), strict=True)
    assert torch.equal(half, k.to(torch.bfloat16))
    assert EXACT.dtype == "f32"
    for word, wrong in (("is on meta", k.to("meta")), ("torch.float64", k.double()), ("plain", k.to_sparse()),
                        (r"\.contiguous\(\)", torch.zeros(2, 4, 16, 32).transpose(2, 3)), ("shape", k[0])):
        with pytest.raises(ValueError, match=word):
            space.put("b", wrong, v)
    assert space.match(["b"]) == 0
