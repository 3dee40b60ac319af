# ruff: noqa: N812 - TVMScript
"""Models that crash on their source: a divisor of zero, wild indices, a call of ``abort``."""

from __future__ import annotations

import numpy as np
import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml._compat import TensorLoad
from relax_tapml.frontend.model import Model, Sample

_FAR = 2**40


def division_by_zero() -> Model:
    """The second of two samples divides by zero."""

    def body(bb, x, y):
        doubled = bb.emit(relax.op.add(x, x))
        return relax.op.floor_divide(doubled, y)

    x = np.arange(4, dtype="int32")
    rights = (np.array([1, 2, 3, 4], "int32"), np.array([1, 2, 0, 4], "int32"))
    return _model("division", body, [(x, right) for right in rights])


def wild_gather() -> Model:
    """An index is far outside the table."""

    def body(bb, table, indices):
        smooth = bb.emit(relax.op.nn.softmax(table))
        taken = bb.emit(relax.op.take(smooth, indices, axis=0, mode="fast"))
        return relax.op.exp(taken)

    return _model("gather", body, [(np.ones((4, 8), "float32"), np.array([0, _FAR, 1]))])


def wild_scatter() -> Model:
    """Values are written far outside the tensor."""

    def body(bb, data, indices, updates):
        return relax.op.add(bb.emit(relax.op.scatter_elements(data, indices, updates, 0)), data)

    data, updates = np.ones((4, 3), "float32"), np.ones((2, 3), "float32")
    return _model("scatter", body, [(data, np.full((2, 3), _FAR), updates)])


def wild_constant() -> Model:
    """The index is a constant, so lowering would fold the gather."""

    def body(bb, x):
        table = relax.const(np.ones((4, 8), "float32"))
        indices = relax.const(tvm.runtime.tensor(np.array([0, _FAR, 1])))
        return relax.op.add(bb.emit(relax.op.take(table, indices, axis=0, mode="fast")), x)

    return _model("constant", body, [(np.ones((3, 8), "float32"),)])


@I.ir_module
class Aborting:
    """One kernel ends the process."""

    @T.prim_func(private=True, s_tir=True)
    def die(X: T.Buffer((T.int64(4),), "float32"), Y: T.Buffer((T.int64(4),), "float32")):
        T.func_attr({"op_pattern": 8})
        for i in range(T.int64(4)):
            with T.sblock("Y"):
                vi = T.axis.spatial(T.int64(4), i)
                T.evaluate(T.call_extern("void", "abort"))
                Y[vi] = X[vi]

    @R.function
    def main(x: R.Tensor((4,), "float32")):
        cls = Aborting
        with R.dataflow():
            a = R.exp(x)
            b = R.call_tir(cls.die, (a,), out_ty=R.Tensor((4,), "float32"))
            c = R.add(b, b)
            R.output(c)
        return c


def aborting() -> Model:
    """A kernel calls ``abort``."""
    sample = Sample(name="ones", arrays=(np.ones(4, "float32"),))
    return Model(name="aborting", module=Aborting, params={}, samples=(sample,))


def _model(name, body, samples) -> Model:
    """Build a model whose inputs are like those of the samples."""
    first = samples[0]
    types = [relax.TensorType(array.shape, array.dtype.name) for array in first]
    inputs = [relax.Var(f"x{number}", ty) for number, ty in enumerate(types)]
    bb = relax.BlockBuilder()
    with bb.function("main", inputs):
        with bb.dataflow():
            result = bb.emit_output(bb.emit(body(bb, *inputs)))
        bb.emit_func_output(result)
    named = tuple(Sample(name=f"s{n}", arrays=arrays) for n, arrays in enumerate(samples))
    return Model(name=name, module=bb.get(), params={}, samples=named)


@tvm.transform.module_pass(opt_level=0, name="AbortingWhenLarge")
def aborting_when_large(module, _context):
    """Let each kernel call ``abort`` where it reads a float beyond 100."""

    def guarded(load):
        far = load > tirx.const(100, "float32")
        return tirx.if_then_else(far, tirx.call_extern("float32", "abort"), load)

    out = module.clone()
    for gvar, function in module.functions_items():
        if isinstance(function, tirx.PrimFunc):
            changed = tvm_ffi.structural_map(function.body, (TensorLoad, guarded))
            out.update_func(gvar, function.with_body(changed))
    return out
