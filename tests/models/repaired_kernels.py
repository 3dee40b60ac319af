"""Kernels as Relax lowers them, for the alternatives of ``relax_tapml.repair``."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import relax, te, tirx
from tvm.relax import op

from mutation.variants.gpu import without_threads

LLVM = tvm.target.Target("llvm")


def _module(function: Any, inputs: Any) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    x = [relax.Var(f"x{n}", relax.TensorType(*one)) for n, one in enumerate(inputs)]
    with builder.function("main", x):
        with builder.dataflow():
            out = builder.emit_output(function(*x))
        builder.emit_func_output(out)
    return builder.get()


def lowered(function: Any, *inputs: tuple[tuple[int, ...], str]) -> tirx.PrimFunc:
    """Return what one or more operators are lowered to, as one kernel."""
    module = relax.get_pipeline("zero")(_module(function, inputs))
    (kernel,) = (f for f in module.functions.values() if isinstance(f, tirx.PrimFunc))
    return kernel


def weighted(scores: Any, keep: Any) -> Any:
    """The softmax of attention, without what a mask drops."""
    return op.where(keep, op.nn.softmax(scores, axis=-1), relax.const(0.0, "float32"))


def counted(x: Any) -> Any:
    """Whole numbers that are calculated with, and their parity."""
    return op.floor_mod(op.add(op.multiply(x, relax.const(3, "int64")), x), relax.const(7, "int64"))


def same_token(a: Any, b: Any) -> Any:
    """Which numbers are equal, as truth values."""
    return op.equal(a, b)


@functools.cache
def kernels() -> dict[str, tirx.PrimFunc]:
    """Return the kernels by name."""
    x = te.placeholder((4, 16), "float32", name="x")
    infinite = te.compute(
        (4, 16),
        lambda i, j: tirx.Select(
            x[i, j] > 1, tirx.const(math.inf, "float32"),
            tirx.Select(x[i, j] < -1, tirx.const(math.nan, "float32"), x[i, j]),
        ),
    )  # fmt: skip
    return {
        "exp": lowered(op.exp, ((5, 33), "float32")),
        "infinities": te.create_prim_func([x, infinite]),
        "third": lowered(lambda a: op.multiply(a, relax.const(1 / 3)), ((9,), "float32")),
        "sum": lowered(lambda a: op.sum(a, axis=[1]), ((5, 100), "float32")),
        "half sum": lowered(lambda a: op.sum(a, axis=[1]), ((5, 400), "float16")),
        "matmul": lowered(op.matmul, ((17, 40), "float32"), ((40, 33), "float32")),
        "half matmul": lowered(op.matmul, ((17, 64), "float16"), ((64, 33), "float16")),
        "half matmul and more": lowered(
            lambda a, b: op.tanh(op.matmul(a, b)), ((17, 64), "float16"), ((64, 33), "float16")
        ),
        "gemv": lowered(op.matmul, ((1, 64), "float32"), ((64, 128), "float32")),
        "softmax": lowered(lambda a: op.nn.softmax(a), ((6, 70), "float32")),
        "weighted": lowered(weighted, ((6, 70), "float32"), ((6, 70), "bool")),
        "layer norm": lowered(
            lambda a, b, c: op.nn.layer_norm(a, b, c, axes=[-1]),
            ((6, 48), "float32"), ((48,), "float32"), ((48,), "float32"),
        ),
        "take": lowered(lambda a, i: op.take(a, i, axis=0), ((20, 8), "float32"), ((6,), "int64")),
        "counted": lowered(counted, ((4, 6), "int64")),
        "same": lowered(same_token, ((4, 6), "int64"), ((4, 6), "int64")),
        "sum of int64": lowered(lambda a: op.sum(a, axis=[1]), ((4, 6), "int64")),
        "to float": lowered(lambda a: op.astype(a, "float32"), ((4, 8), "int8")),
        "to bytes": lowered(lambda a: op.astype(a, "int8"), ((4, 8), "float32")),
        "argmax": lowered(lambda a: op.argmax(a, axis=1), ((4, 9), "float32")),
        "pool": lowered(lambda a: op.nn.max_pool2d(a, [3, 3], padding=[1, 1]),
                        ((1, 4, 9, 9), "float32")),
    }  # fmt: skip


def arguments(kernel: tirx.PrimFunc, seed: int = 0) -> list[Any]:
    """Return arrays for the parameters of a kernel; the last is its result."""
    rng = np.random.default_rng(seed)
    made = []
    for param in kernel.params:
        shape, dtype = tuple(int(n) for n in param.shape), str(param.dtype)
        if dtype == "bool":
            array = rng.random(shape) < 0.7
            array[:1] = False  # A row that is masked as a whole.
        elif "float" in dtype:
            array = rng.standard_normal(shape).astype(dtype) * np.dtype(dtype).type(2)
        else:
            array = rng.integers(0 if shape == (6,) else -5, 6, shape).astype(dtype)
        made.append(array)
    return made


def on_the_cpu(kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    """Return a kernel whose threads, if it has any, are loops."""
    body = without_threads(kernel.body)
    made = tirx.PrimFunc(kernel.params, body, kernel.ret_type, kernel.attrs)
    return made.with_attr("global_symbol", "main")


def computed(kernel: tirx.PrimFunc, given: list[Any]) -> Any:
    """Run a kernel here."""
    built = tvm.compile(tvm.IRModule({"main": on_the_cpu(kernel)}), target=LLVM)
    tensors = [tvm.runtime.tensor(array) for array in given]
    built["main"](*tensors)
    return tensors[-1].numpy()


def with_constant(kernel: tirx.PrimFunc, value: float, other: Any) -> tirx.PrimFunc:
    """Return a kernel with another expression in the place of a constant."""
    return tvm_ffi.structural_map(
        kernel, (tirx.FloatImm, lambda node: other if float(node.value) == value else node)
    )


def dispatched(function: Any, target: str, *inputs: tuple[tuple[int, ...], str]) -> tirx.PrimFunc:
    """Return the kernel that a target has for an operator that each has another for."""
    with tvm.target.Target(target):
        module = relax.backend.DispatchSortScan()(_module(function, inputs))
    return next(f for f in module.functions.values() if isinstance(f, tirx.PrimFunc))


def scans(shape: tuple[int, ...]) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """Return a cumulative sum over the last axis as a CPU has it, and as a GPU has it."""
    axis = len(shape) - 1
    return tuple(
        dispatched(lambda x: op.cumsum(x, axis=axis), target, (shape, "float32"))
        for target in ("llvm", "opencl")
    )
