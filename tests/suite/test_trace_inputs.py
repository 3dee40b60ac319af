"""Which input values are named for a wrong output value."""

from types import SimpleNamespace

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.kernel_flow.element_flow import ElementFlow
from relax_tapml.kernel_flow.kernel_call import kernel_call_of
from relax_tapml.partition.lower import lower
from relax_tapml.suite.trace_inputs import input_at


@I.ir_module
class Kernels:
    @T.prim_func(private=True, s_tir=True)
    def padded(X: T.Buffer((4,), "float32"), Y: T.Buffer((6,), "float32")):
        for i in range(6):
            with T.sblock("Y"):
                v = T.axis.spatial(6, i)
                Y[v] = T.if_then_else(v >= 1 and v < 5, X[v - 1], T.float32(0))

    @T.prim_func(private=True, s_tir=True)
    def joined(
        X: T.Buffer((3,), "float32"), Y: T.Buffer((2,), "float32"), Z: T.Buffer((5,), "float32")
    ):
        for i in range(5):
            with T.sblock("Z"):
                v = T.axis.spatial(5, i)
                Z[v] = T.Select(v < 3, X[T.min(v, 2)], Y[T.max(v - 3, 0)])

    @T.prim_func(private=True, s_tir=True)
    def indirect(
        X: T.Buffer((5, 3), "float32"), K: T.Buffer((2,), "int64"), Y: T.Buffer((2, 3), "float32")
    ):
        with T.sblock("root"):
            shifted = T.sblock_alloc_buffer((2,), "int64")
            for i in range(2):
                with T.sblock("shifted"):
                    v = T.axis.spatial(2, i)
                    shifted[v] = K[v] + T.int64(1)
            for i, j in T.grid(2, 3):
                with T.sblock("Y"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    Y[vi, vj] = X[shifted[vi], vj]

    @T.prim_func(private=True, s_tir=True)
    def prefix(X: T.Buffer((4,), "float32"), Y: T.Buffer((4,), "float32")):
        for i in range(4):
            with T.sblock("Y"):
                v = T.axis.opaque(4, i)
                Y[v] = T.if_then_else(v > 0, Y[v - 1], T.float32(0)) + X[v]

    @T.prim_func(private=True, s_tir=True)
    def split(X: T.Buffer((8,), "float32"), Y: T.Buffer((8,), "float32")):
        for i, j in T.grid(2, 4):
            Y[i * 4 + j] = X[i * 4 + j]

    @T.prim_func(private=True, s_tir=True)
    def looped(X: T.Buffer((2, 4), "float32"), Y: T.Buffer((2,), "float32")):
        for i in range(2):
            Y[i] = T.float32(0)
            for j in range(4):
                Y[i] = Y[i] + X[i, j]

    @T.prim_func(private=True, s_tir=True)
    def external(X: T.Buffer((2,), "float32"), Y: T.Buffer((2,), "float32")):
        T.evaluate(T.call_extern("int32", "copy", X.data, Y.data))


@I.ir_module
class Operators:
    @R.function
    def matmul(x: R.Tensor((3, 5), "float32"), w: R.Tensor((5, 4), "float32")):
        R.func_attr({"num_input": 2})
        with R.dataflow():
            a = R.matmul(x, w)
            b = R.add(a, R.reshape(R.strided_slice(w, [0], [0], [1]), (4,)))
            R.output(b)
        return b

    @R.function
    def layer_norm(
        x: R.Tensor((3, 5), "float32"), g: R.Tensor((5,), "float32"), b: R.Tensor((5,), "float32")
    ):
        return R.nn.layer_norm(x, g, b, axes=[-1])

    @R.function
    def softmax(x: R.Tensor((2, 5), "float32")):
        return R.nn.softmax(x, axis=-1)

    @R.function
    def take(x: R.Tensor((5, 4), "float32"), k: R.Tensor((3,), "int64")):
        return R.take(x, k, axis=0)

    @R.function
    def reshape(x: R.Tensor((4, 6), "float32")):
        return R.permute_dims(R.reshape(x, (3, 8)))

    @R.function
    def where(c: R.Tensor((3, 4), "bool"), x: R.Tensor((3, 4), "float32")):
        return R.where(c, x, R.const(-1e9, "float32"))

    @R.function
    def concat(x: R.Tensor((2, 4), "float32"), y: R.Tensor((3, 4), "float32")):
        return R.concat((x, y), axis=0)


LOWERED = lower(Operators)
ARRAYS = np.random.default_rng(7)


def _calls(module):
    """One PrimFunc after the other, with arrays of the shapes it takes."""
    for gvar, kernel in module.functions.items():
        if isinstance(kernel, tvm.tirx.PrimFunc) and gvar.name_hint not in BEYOND:
            yield pytest.param(module, gvar.name_hint, id=gvar.name_hint)


BEYOND = {"external", "prefix", "split"}


def _array(ty):
    shape, dtype = tuple(int(extent) for extent in ty.shape), str(ty.dtype)
    if dtype.startswith("float"):
        return ARRAYS.standard_normal(shape).astype(dtype)
    return ARRAYS.integers(0, 2, shape).astype(dtype)


def _flow(kernel, arrays):
    return ElementFlow(kernel, arrays=dict(enumerate(arrays)), fixed={})


@pytest.mark.parametrize(("module", "name"), [*_calls(LOWERED), *_calls(Kernels)])
def test_nothing_else_changes_the_value(module, name):
    """Every input value outside what is named may become NaN, and the output value stays."""
    kernel = module[name].with_attr("global_symbol", name)
    run = tvm.compile(tvm.IRModule({name: kernel}), target="llvm")[name]
    *inputs, result = (_array(param.ty) for param in kernel.params)
    output = len(inputs)
    for index in np.ndindex(result.shape):
        sources = _flow(kernel, inputs).sources(output, index)
        tainted = []
        for number, array in enumerate(inputs):
            is_read = np.zeros(array.shape, bool)
            for source in sources:
                if source.param == number:
                    is_read[tuple(slice(r.low, r.high + 1) for r in source.region)] = True
            other = np.nan if array.dtype.kind == "f" else 1 - array
            tainted.append(np.where(is_read, array, other).astype(array.dtype))
        right, actual = _run(run, inputs, result), _run(run, tainted, result)
        assert actual[index].tobytes() == right[index].tobytes(), sources


def _run(run, inputs, result):
    out = tvm.runtime.tensor(np.zeros_like(result))
    run(*map(tvm.runtime.tensor, inputs), out)
    return out.numpy()


@pytest.mark.parametrize("name", sorted(BEYOND))
def test_what_cannot_be_followed_names_no_input(name):
    """External code, a scan over its own output, and an index that is no plain variable."""
    assert _inputs_at(Kernels, name, [_array(Kernels[name].params[0].ty)], (1,)) is None


def _inputs_at(module, name, arrays, index):
    """Call ``input_at`` on a case that calls one PrimFunc of a module."""
    kernel = module[name]
    params = [
        relax.Var(param.name, relax.TensorType(array.shape, array.dtype.name))
        for param, array in zip(kernel.params, arrays, strict=False)
    ]
    shape = tuple(int(extent) for extent in kernel.params[len(arrays)].ty.shape)
    builder = relax.BlockBuilder()
    gvar = builder.add_func(kernel, name)
    with builder.function("main", params):
        out = relax.TensorType(shape, str(kernel.params[-1].ty.dtype))
        value = builder.emit(relax.call_tir(gvar, relax.Tuple(params), out))
        builder.emit_func_output(relax.Tuple([value]))
    case_module = builder.get()
    suite = SimpleNamespace(
        module=lambda unit: case_module,
        tensor=lambda number: arrays[number],
        manifest=SimpleNamespace(tensors={"out": SimpleNamespace(shape=shape)}),
    )
    case = SimpleNamespace(
        function="main",
        inputs=[SimpleNamespace(tensor=number) for number in range(len(arrays))],
        outputs=[SimpleNamespace(tensor="out")],
    )
    return input_at(suite, name, case, 0, index)


def test_a_slice_is_named_by_its_range_and_the_most_extreme_comes_first():
    kernel = next(g.name_hint for g in LOWERED.functions if "matmul" in g.name_hint)
    x, w, bias = (np.ones(shape, "float32") for shape in ((3, 5), (5, 4), (4,)))
    x[1] = [-3.25, 0, 0, 47.5, 1]
    x[2] = 1e9
    bias[2] = -50
    found = _inputs_at(LOWERED, kernel, [x, w, bias], (1, 2))
    names = [param.name for param in LOWERED[kernel].params]
    assert found == (
        f"{names[2]}[2] = -50, {names[0]}[1, 0:5] in [-3.25, 47.5], {names[1]}[0:5, 2] in [1, 1]"
    )


def test_an_index_is_followed_to_the_value_it_chooses():
    x = np.arange(15, dtype="float32").reshape(5, 3)
    found = _inputs_at(Kernels, "indirect", [x, np.array([3, 0])], (0, 2))
    assert found == "X[4, 2] = 14, K[0] = 3"


def test_values_that_are_not_finite_come_first():
    x, y = np.array([5.0, 1.0, 7.0], "float32"), np.array([np.nan, np.inf], "float32")
    assert _inputs_at(Kernels, "joined", [x, y], (3,)) == "Y[0] = nan"
    x = np.array([[1, np.nan, 2, -np.inf], [0, 0, 0, 0]], "float32")
    assert _inputs_at(Kernels, "looped", [x], (0,)) == "X[0, 0:4] in [-inf, 2] and 1 NaN"


def test_a_value_without_inputs_names_none():
    assert _inputs_at(Kernels, "padded", [np.ones(4, "float32")], (5,)) is None


def test_inputs_of_cases_of_a_real_suite_are_named(suite):
    """With a symbolic dimension, in place, with two outputs; not for what is no PrimFunc."""
    from relax_tapml.suite.open_suite import open_suite

    opened = open_suite(suite)
    found = {}
    for unit, entry in opened.manifest.units.items():
        case = entry.cases[0]
        found[unit] = input_at(opened, unit, case, len(case.outputs) - 1, (1, 2))
        call = kernel_call_of(opened.module(unit), case.function)
        assert (call is None) == (unit in {"cumsum", "vm.builtin.reshape", "test_carve.sine"})
        array = opened.tensor(case.inputs[0].tensor)
        assert call is None or f"[1, 2] = {float(array[1, 2]):.6g}" in found[unit]
    assert [unit for unit, text in found.items() if text is None] == [
        "cumsum",
        "vm.builtin.reshape",
        "test_carve.sine",
    ]
