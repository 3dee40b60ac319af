"""Which cases count as slow."""

from types import SimpleNamespace

import pytest
import tvm
from tvm import relax
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.suite._slow_cases import slow_cases
from relax_tapml.suite.manifest import SuiteTensor


@T.prim_func(private=True, s_tir=True)
def matmul(x: T.handle, W: T.Buffer((1000, 1000), "float32"), y: T.handle):
    n = T.int64()
    X = T.match_buffer(x, (n, 1000))
    Y = T.match_buffer(y, (n, 1000))
    for i, j, k in T.grid(n, 1000, 1000):
        with T.sblock("Y"):
            vi, vj, vk = T.axis.remap("SSR", [i, j, k])
            with T.init():
                Y[vi, vj] = T.float32(0)
            Y[vi, vj] = Y[vi, vj] + X[vi, vk] * W[vk, vj]


def _module(rows):
    builder = relax.BlockBuilder()
    gvar = builder.add_func(matmul, "matmul")
    x = relax.Var("x", relax.TensorType((rows, 1000), "float32"))
    w = relax.Var("w", relax.TensorType((1000, 1000), "float32"))
    with builder.function("main", [x, w]):
        out = relax.TensorType((rows, 1000), "float32")
        value = builder.emit(relax.call_tir(gvar, relax.Tuple([x, w]), out))
        builder.emit_func_output(relax.Tuple([value]))
    return builder.get()


def _slow(module, **shapes):
    """Judge a case with tensors of some shapes, the last one its output."""
    items = [SimpleNamespace(tensor=name) for name in shapes]
    case = SimpleNamespace(name="case", function="main", inputs=items[:-1], outputs=items[-1:])
    tensors = {
        name: SuiteTensor(file="", dtype="float32", shape=shape) for name, shape in shapes.items()
    }
    return slow_cases(module, [case], tensors)


@pytest.mark.parametrize(("rows", "is_slow"), [(10, False), (800, False), (1200, True)])
def test_iterations_count(rows, is_slow):
    """A symbolic dimension has the size that it had in the case."""
    found = _slow(_module(rows), x=(rows, 1000), w=(1000, 1000), y=(rows, 1000))
    assert found == (frozenset({"case"}) if is_slow else frozenset())


@pytest.mark.parametrize(("rows", "is_slow"), [(1000, False), (20_000, True)])
def test_bytes_count_where_there_is_no_kernel(rows, is_slow):
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((rows, 1000), "float32"))
    with builder.function("main", [x]):
        builder.emit_func_output(relax.Tuple([builder.emit(relax.op.abs(x))]))
    module: tvm.IRModule = builder.get()
    assert bool(_slow(module, x=(rows, 1000), y=(rows, 1000))) == is_slow
