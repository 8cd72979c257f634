# SPDX-License-Identifier: Apache-2.0
"""Arrays of the caller as the C library wants them: address, type, and strides in elements.

numpy arrays and CPU tensors of torch are used in place, whatever their strides, as long as channels are contiguous;
what cannot be used is a ValueError that says how to make it so. torch is never imported here: who has a tensor has
imported it. Other objects come in through DLPack or the buffer protocol.
"""
from __future__ import annotations

import importlib
from typing import Any, NamedTuple, Optional

import numpy as np

from . import _native
from .schema import DTYPE_BYTES, DTYPES, number_of

Array = Any  # numpy.ndarray or torch.Tensor

AXES = ("layers", "heads", "tokens", "head_dim")
_NUMPY_NAMES = {np.dtype(np.float32): "f32", np.dtype(np.float16): "f16"}
NUMPY_TYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16),
                                         "bf16": np.dtype(np.uint16)}
_TORCH_NAMES = {"torch.float32": "f32", "torch.float16": "f16", "torch.bfloat16": "bf16"}


class View(NamedTuple):
    """A 4-D array; owner keeps its memory."""

    owner: Array
    address: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements

    def native(self, token: int = 0) -> _native.Tensor:
        """From this token on."""
        address = self.address + token * self.strides[2] * DTYPE_BYTES[self.dtype]
        return _native.Tensor(data=address, dtype=DTYPES[self.dtype], stride_layer=self.strides[0],
                              stride_head=self.strides[1], stride_token=self.strides[2])


def is_torch(array: Array) -> bool:
    """Whether it is a tensor, also one of a class made from torch's."""
    return any(kind.__module__.split(".")[0] == "torch" for kind in type(array).__mro__) and hasattr(array, "data_ptr")


def _numpy_view(array: np.ndarray[Any, Any], what: str, dtype: Optional[str], writable: bool) -> View:
    name = _NUMPY_NAMES.get(array.dtype)
    if array.dtype == np.uint16 and dtype == "bf16":
        name = "bf16"
    if name is None:
        hint = 'uint16 is taken for bfloat16 with dtype="bf16"' if array.dtype == np.uint16 else \
            "convert it with .astype(numpy.float32)"
        raise ValueError(f"{what} has dtype {array.dtype.str}, not native float32 or float16; {hint}")
    if writable and not array.flags.writeable:
        raise ValueError(f"{what} is read-only")
    size = array.dtype.itemsize
    if not array.flags.aligned or any(stride % size for stride in array.strides):
        raise ValueError(f"{what} is not aligned to its elements; copy it with numpy.ascontiguousarray()")
    return View(array, array.ctypes.data, name, array.shape, tuple(stride // size for stride in array.strides))


def _torch_view(tensor: Any, what: str) -> View:
    name = _TORCH_NAMES.get(str(tensor.dtype))
    if name is None:
        raise ValueError(f"{what} has dtype {tensor.dtype}, not float32, float16 or bfloat16; convert it with .to()")
    if tensor.device.type != "cpu":
        raise ValueError(f"{what} is on {tensor.device}; copy it with .cpu()")
    if str(tensor.layout) != "torch.strided" or tensor.is_neg():
        raise ValueError(f"{what} is not a plain tensor; copy it with .to_dense() or .resolve_neg()")
    return View(tensor, tensor.data_ptr(), name, tuple(tensor.shape), tuple(tensor.stride()))


_DLPACK_CPU = 1


def _foreign_view(array: Array, what: str, dtype: Optional[str], writable: bool) -> View:
    device = tuple(array.__dlpack_device__()) if hasattr(array, "__dlpack_device__") else (_DLPACK_CPU, 0)
    if device[0] != _DLPACK_CPU:
        raise ValueError(f"{what} is not in the CPU's memory (its DLPack device is {device}); copy it there")
    try:
        taken = np.from_dlpack(array) if hasattr(array, "__dlpack__") else np.asarray(memoryview(array))
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise TypeError(f"{what} is a {type(array).__name__}, not a numpy array or a CPU tensor: {error}") from error
    return _numpy_view(taken, what, dtype, writable)


def _normal(view: View) -> View:
    """A stride along an axis of one element says nothing, and numpy and torch put anything there."""
    strides = [0 if length == 1 else stride for length, stride in zip(view.shape, view.strides)]
    if view.shape[2] == 1:
        strides[2] = view.shape[3]
    return view._replace(strides=tuple(strides))


def view_of(array: Array, what: str, *, dtype: Optional[str] = None, writable: bool = False) -> View:
    """The array as it lies in memory. dtype "bf16" makes uint16 of numpy bfloat16; another one must be the array's."""
    if dtype is not None:
        number_of(DTYPES, dtype, "dtype")
    if isinstance(array, np.ndarray):
        view = _numpy_view(array, what, dtype, writable)
    elif is_torch(array):
        view = _torch_view(array, what)
    else:
        view = _foreign_view(array, what, dtype, writable)
    if dtype is not None and view.dtype != dtype:
        raise ValueError(f"{what} is of {view.dtype}, and dtype says {dtype}")
    if len(view.shape) != 4:
        raise ValueError(f"{what} has shape {view.shape}, not [{', '.join(AXES)}]")
    if view.shape[3] > 1 and view.strides[3] != 1:
        raise ValueError(f"{what} is not contiguous along head_dim; "
                         f"copy it with {'.contiguous()' if is_torch(array) else 'numpy.ascontiguousarray()'}")
    view = _normal(view)
    if writable and abs(view.strides[2]) < view.shape[3]:
        raise ValueError(f"{what} has rows that overlap; it cannot be written to")
    return view


def expect_shape(view: View, what: str, layers: int, heads: int, tokens: int, head_dim: int) -> None:
    """ValueError unless the shape is this, with at least so many tokens."""
    shape = view.shape
    if shape[:2] != (layers, heads) or shape[2] < tokens or shape[3] != head_dim:
        raise ValueError(f"{what} has shape {list(shape)}, not [{layers}, {heads}, at least {tokens}, {head_dim}]"
                         if tokens else f"{what} has shape {list(shape)}, not [{layers}, {heads}, tokens, {head_dim}]")


def empty(shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    """bf16 as uint16."""
    number_of(DTYPES, dtype, "dtype")
    return np.empty(shape, NUMPY_TYPES[dtype])


def is_uint16(array: Array) -> bool:
    return isinstance(array, np.ndarray) and array.dtype == np.uint16


def empty_torch(shape: tuple[int, ...], dtype: str) -> Array:
    """Only called for those who gave a tensor: torch is there."""
    torch = importlib.import_module("torch")
    return torch.empty(shape, dtype={"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[dtype])
