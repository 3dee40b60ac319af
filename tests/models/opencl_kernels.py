"""Kernels of OpenCL C as TVM saves them, to call the runtime for OpenCL without TVM's compiler."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.relax.frontend.nn.llm import kv_cache
from tvm.script import tirx as T  # noqa: N812

from relax_tapml._compat import TirStringImm
from relax_tapml.files.scratch import scratch_folder
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


def merge_of_attention(*, has_barrier: bool) -> Any:
    """Return TVM's kernel that joins two states of attention, of 4 heads of 32 values.

    It is wrong in TVM 0.26 and 0.27 where a head's threads are not in lock step: each of the eight
    reads ``S`` of the head and writes to it. With a barrier before it is written it is right.
    """
    kernel = kv_cache._merge_state_inplace(4, 32, "float32", tvm.target.Target("opencl"))
    return with_barrier(kernel) if has_barrier else kernel


def with_barrier(kernel: Any) -> Any:
    """Let the threads of a merge wait for one another before they write to its ``S``."""
    barrier = tirx.Evaluate(
        tirx.call_intrin("int32", "tirx.tvm_storage_sync", TirStringImm("shared"))
    )

    def change(store: Any) -> Any:
        return tirx.SeqStmt([barrier, store]) if store.buffer.name == "S" else store

    return tvm_ffi.structural_map(kernel, (tirx.BufferStore, change))


@tvm.transform.module_pass(opt_level=0, name="RightMerge")
def right_merge(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """A device pipeline for decoders with TVM's paged KV cache."""
    changed = module.clone()
    for gvar, function in module.functions_items():
        if "merge_state" in gvar.name_hint and isinstance(function, tirx.PrimFunc):
            changed.update_func(gvar, with_barrier(function))
    return changed


def merge_error(kernel: Any) -> float:
    """Run such a kernel on the first device; return how far it is off."""
    load_opencl()
    target = tvm.target.Target("opencl", host="llvm")
    module = tvm.IRModule({"k": kernel.with_attr("global_symbol", "k")})
    with scratch_folder() as folder:
        tvm.tirx.build(module, target=target).export_library(str(folder / "k.so"))
        function = tvm.runtime.load_module(str(folder / "k.so"))["k"]
    rng = np.random.default_rng(0)
    values, others = rng.standard_normal((2, 8, 4, 32)).astype("float32")
    sums, other_sums = rng.standard_normal((2, 8, 4)).astype("float32")
    tensors = [on_device(array) for array in (values, sums, others, other_sums)]
    function(*tensors)
    weight = 1 / (1 + np.exp2(other_sums - sums))[..., None]
    return float(np.abs(tensors[0].numpy() - (values * weight + others * (1 - weight))).max())


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
