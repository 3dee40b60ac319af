"""Kernels of OpenCL C as TVM saves them, to call the runtime for OpenCL without TVM's compiler."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import numpy as np
import tvm
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.targets.opencl.runtime import load_opencl

_CODES = {"int": 0, "uint": 1, "float": 2, "handle": 3}
POINTER = "handle"


def saved(name: str, arguments: list[str], code: str, tags: tuple[str, ...]) -> bytes:
    """Return the bytes of a module of one kernel."""
    out = _text("cl") + _count(1) + _text(name) + _text(name) + _count(len(arguments))
    for argument in arguments:
        kind = argument.rstrip("0123456789")
        bits = int(argument.removeprefix(kind) or 64)
        out += struct.pack("<BBH", _CODES[kind], bits, 1)
    out += _count(len(tags)) + b"".join(map(_text, tags))
    return out + _count(len(arguments)) + bytes(4 * len(arguments)) + _text(code)


def kernel(
    arguments: list[str], code: str, tags: tuple[str, ...] = ("blockIdx.x", "threadIdx.x")
) -> Any:
    """Return the kernel ``k`` of a source, as TVM's host code calls it."""
    load_opencl()
    load = tvm.get_global_func("ffi.Module.load_from_bytes.opencl")
    return load(saved("k", arguments, code, tags))["k"]


def on_device(array: np.ndarray) -> Any:
    """Return a copy of an array on the first device."""
    load_opencl()
    return tvm.runtime.tensor(array, tvm.runtime.device("opencl", 0))


def pointer(tensor: Any, offset: int = 0) -> ctypes.c_void_p:
    """Return the address of a tensor's memory, plus ``offset``."""
    return ctypes.c_void_p(tensor.data_ptr() + offset)


def _text(text: str) -> bytes:
    return _count(len(text)) + text.encode()


def _count(count: int) -> bytes:
    return struct.pack("<Q", count)


@T.prim_func(private=True, s_tir=True)
def sum_by_the_last(n: T.Buffer((4, 8), "float32"), total: T.Buffer((4,), "float32")):
    """In place of ``sum``: the last thread adds what the others write, without waiting for them.

    Right where threads run one after the other from the first on, and on most GPUs by luck.
    """
    T.func_attr({"tirx.is_scheduled": True})
    scratch = T.alloc_buffer((32,), "float32")
    for i in T.thread_binding(4, thread="blockIdx.x"):
        for j in T.thread_binding(8, thread="threadIdx.x"):
            with T.sblock("write"):
                row, column = T.axis.remap("SS", [i, j])
                scratch[row * 8 + column] = n[row, column]
            with T.sblock("add"):
                row, column = T.axis.remap("SS", [i, j])
                if column == 7:
                    total[row] = 0.0
                    for k in range(8):
                        total[row] += scratch[row * 8 + k]
