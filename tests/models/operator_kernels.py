"""PrimFuncs as Relax lowers common operators, on small tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.script import tirx as T  # noqa: N812

from mutation.guarded import GuardedTensor
from mutation.kernel import output_tensors
from relax_tapml.partition.lower import lower

Body = Callable[..., relax.Expr]


def kernel(body: Body, *params: tuple[tuple[int, ...], str]) -> tirx.PrimFunc:
    """Return the one PrimFunc that an expression of parameters lowers to."""
    builder = relax.BlockBuilder()
    variables = [relax.Var(f"x{i}", relax.TensorType(*param)) for i, param in enumerate(params)]
    with builder.function("main", variables):
        with builder.dataflow():
            out = builder.emit_output(builder.normalize(body(*variables)))
        builder.emit_func_output(out)
    module = lower(builder.get())
    (function,) = (f for f in module.functions.values() if isinstance(f, tirx.PrimFunc))
    return function


def gelu_tanh(x: relax.Expr) -> relax.Expr:
    """Return ``0.5 x (1 + tanh(0.79788 (x + 0.044715 x^3)))``."""
    return relax.op.nn.gelu_tanh(x)


def layer_norm(x: relax.Expr, gamma: relax.Expr, beta: relax.Expr) -> relax.Expr:
    return relax.op.nn.layer_norm(x, gamma, beta, axes=[-1])


def masked(x: relax.Expr, i: relax.Expr, j: relax.Expr) -> relax.Expr:
    """Return x where i <= j and -1e9 elsewhere, as a causal mask does."""
    return relax.op.where(relax.op.less_equal(i, j), x, relax.const(-1e9, "float32"))


def condition(i: relax.Expr, j: relax.Expr) -> relax.Expr:
    both = relax.op.logical_and(relax.op.less(i, j), relax.op.equal(i, j))
    return relax.op.logical_not(both)


@T.prim_func(private=True, s_tir=True)
def unpack_int4(
    packed: T.Buffer((T.int64(4), T.int64(2)), "uint32"),
    scale: T.Buffer((T.int64(4),), "float32"),
    out: T.Buffer((T.int64(4), T.int64(16)), "float32"),
):
    for i, j in T.grid(T.int64(4), T.int64(16)):
        with T.sblock("decode"):
            vi, vj = T.axis.remap("SS", [i, j])
            out[vi, vj] = (
                T.Cast(
                    "float32",
                    T.bitwise_and(
                        T.shift_right(
                            packed[vi, vj // T.int64(8)],
                            T.Cast("uint32", vj % T.int64(8) * T.int64(4)),
                        ),
                        T.uint32(15),
                    ),
                )
                - T.float32(8)
            ) * scale[vi]


MATRIX = ((8, 8), "float32")
ROW = ((8,), "float32")
INDICES = ((4,), "int64")

KERNELS: dict[str, tirx.PrimFunc] = {
    "softmax": kernel(lambda x: relax.op.nn.softmax(x, axis=-1), MATRIX),
    "layer_norm": kernel(layer_norm, MATRIX, ROW, ROW),
    "matmul": kernel(lambda x, w: relax.op.matmul(x, w), MATRIX, MATRIX),
    "sum": kernel(lambda x: relax.op.sum(x, axis=1), ((4, 32), "float32")),
    "gelu": kernel(relax.op.nn.gelu, MATRIX),
    "gelu_tanh": kernel(gelu_tanh, MATRIX),
    "silu": kernel(relax.op.nn.silu, MATRIX),
    "exp": kernel(relax.op.exp, ROW),
    "power": kernel(lambda x: relax.op.power(x, relax.const(2.0, "float32")), ROW),
    "transpose": kernel(lambda x: relax.op.permute_dims(x), MATRIX),
    "difference": kernel(lambda a, b: (a + b) - a / b, MATRIX, ROW),
    "mask": kernel(masked, MATRIX, ((8, 1), "int64"), ((8,), "int64")),
    "condition": kernel(condition, ((8,), "int64"), ((8,), "int64")),
    "to_half": kernel(lambda x: relax.op.astype(x, "float16"), ROW),
    "to_int": kernel(lambda x: relax.op.astype(relax.op.round(x), "int32"), ROW),
    "take": kernel(lambda w, i: relax.op.take(w, i, axis=0), MATRIX, INDICES),
    "unpack_int4": unpack_int4,
}


def module_of(
    function: tirx.PrimFunc, inputs: Sequence[np.ndarray], output: np.ndarray
) -> tvm.IRModule:
    """Return a module whose ``main`` calls a PrimFunc, as a unit's does."""
    builder = relax.BlockBuilder()
    arguments = [
        relax.Var(f"x{n}", relax.TensorType(array.shape, array.dtype.name))
        for n, array in enumerate(inputs)
    ]
    name = builder.add_func(function, "kernel")
    with builder.function("main", arguments):
        returned = relax.TensorType(output.shape, output.dtype.name)
        out = builder.emit(relax.call_tir(name, relax.Tuple(arguments), out_ty=returned))
        builder.emit_func_output(relax.Tuple([out]))
    return builder.get()


def inputs_of(function: tirx.PrimFunc, seed: int = 0) -> list[np.ndarray]:
    """Return random inputs: standard normal, and whole numbers from 0 to 3."""
    rng = np.random.default_rng(seed)
    return [_random(rng, buffer) for buffer in function.params[:-1]]


def _random(rng: np.random.Generator, buffer: tirx.Buffer) -> np.ndarray:
    shape, dtype = [int(extent) for extent in buffer.shape], str(buffer.dtype)
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype == "uint32":
        return rng.integers(0, 2**32, shape, dtype=np.uint32)
    if "int" in dtype:
        return rng.integers(0, 4, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def empty_output(function: tirx.PrimFunc) -> np.ndarray:
    """Return zeros of the shape and the dtype of what a kernel returns."""
    out = function.params[-1]
    return np.zeros([int(extent) for extent in out.shape], str(out.dtype))


def computed(kernel: Callable[..., list[np.ndarray]], inputs: list[np.ndarray], like: np.ndarray):
    """Return what a built kernel gives, with guards around all tensors."""
    (found,) = kernel([GuardedTensor(array) for array in inputs], output_tensors([like]))
    return found
