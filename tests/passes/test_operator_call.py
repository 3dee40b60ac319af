"""What counts as an operator call, and how it is taken apart."""

from __future__ import annotations

import pytest
import tvm
from tvm import relax
from tvm.ir import GlobalVar, TupleType

from relax_tapml._compat import StringImm
from relax_tapml.passes.operator_call import (
    UNIT_ATTR,
    CallKind,
    has_run_time_shape,
    is_unit_function,
    leaf_types,
    operator_call,
)

TENSOR = relax.TensorType((4,), "float32")
X, Y = relax.Var("x", TENSOR), relax.Var("y", TENSOR)
SHAPE = relax.ShapeExpr([4])
EXTERN = relax.ExternFunc("my.function")
F = GlobalVar("f")


def op(name: str, *args: relax.Expr, **attrs) -> relax.Call:
    return relax.Call(tvm.ir.Op.get(name), list(args), **attrs)


@pytest.mark.parametrize(
    ("call", "kind", "unit", "args", "may_write"),
    [
        (op("relax.call_tir", F, relax.Tuple([X, Y])), "call_tir", "f", [X, Y], False),
        (op("relax.call_tir", F, relax.Tuple([X]), SHAPE), "call_tir", "f", [X, SHAPE], False),
        (op("relax.call_tir_inplace", F, relax.Tuple([X])), "call_tir_inplace", "f", [X], True),
        (
            op("relax.call_dps_packed", EXTERN, relax.Tuple([X])),
            *("call_dps_packed", "my.function", [X], False),
        ),
        (
            op("relax.call_pure_packed", EXTERN, X, relax.Tuple([Y])),
            *("call_pure_packed", "my.function", [X, relax.Tuple([Y])], False),
        ),
        (
            op("relax.call_inplace_packed", EXTERN, X),
            *("call_inplace_packed", "my.function", [X], True),
        ),
        (
            relax.Call(EXTERN, [X, StringImm("s")]),
            *("call_packed", "my.function", [X, StringImm("s")], True),
        ),
        (op("relax.nn.softmax", X), "operator", "nn.softmax", [X], False),
    ],
    ids=lambda value: value if value in list(CallKind) else "",
)
def test_operators_are_taken_apart(call, kind, unit, args, may_write):
    """Each kind of call has its callee's name and the arguments of the callee."""
    found = operator_call(call, tvm.IRModule())
    assert (found.kind, found.unit, found.may_write) == (kind, unit, may_write)
    assert found.skip_reason is None
    tvm.ir.assert_structural_equal(list(found.args), args, map_free_vars=False)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (op("relax.call_builtin_with_ctx", EXTERN, relax.Tuple([])), "runtime"),
        (op("relax.call_py_func", StringImm("f"), relax.Tuple([X])), "Python"),
        (op("relax.call_tir_with_grad", F, relax.Tuple([X])), "gradients"),
        (op("relax.dist.call_tir_local_view", F, relax.Tuple([X])), "distributed"),
        (op("relax.invoke_closure", X, relax.Tuple([])), "closure"),
        (op("relax.ccl.broadcast_from_worker0", X), "collectives"),
        (relax.Call(relax.Var("closure", relax.FuncType([TENSOR], TENSOR)), [X]), "LambdaLift"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unsupported_operators_have_a_reason(call, named):
    """What can be neither captured nor moved is named all the same, and may write to anything."""
    found = operator_call(call, tvm.IRModule())
    unit = getattr(call.op, "name", "closure").removeprefix("relax.")
    assert (found.kind, found.unit) == (CallKind.OPAQUE, unit)
    assert named in found.skip_reason
    assert found.may_write


@pytest.mark.parametrize(
    "call",
    [
        op("relax.shape_of", X),
        op("relax.null_value"),
        op("relax.assert_op", relax.const(True), StringImm("")),
        op("relax.memory.kill_tensor", X),
        op("relax.vm.kill_object", X),
        op("relax.builtin.stop_lift_params", X),
    ],
    ids=lambda call: call.op.name,
)
def test_bookkeeping_is_no_operator(call):
    """The compiler's own calls compute nothing that a target could get wrong."""
    assert operator_call(call, tvm.IRModule()) is None


def test_only_unit_functions_are_operators():
    """The operators of an ordinary function are the calls inside it."""
    plain = relax.Function([X], relax.SeqExpr([], X), TENSOR)
    unit = plain.with_attr(UNIT_ATTR, "cumsum")
    f, g = GlobalVar("unit_cumsum"), GlobalVar("helper")
    module = tvm.IRModule({f: unit, g: plain})
    assert is_unit_function(module[f])
    assert not is_unit_function(module[g])
    found = operator_call(relax.Call(f, [Y]), module)
    assert (found.kind, found.unit, found.may_write) == (CallKind.FUNCTION, "cumsum", False)
    assert operator_call(relax.Call(g, [Y]), module) is None


def test_tuple_types_are_flattened_in_order():
    """Nesting and emptiness do not matter."""
    shape = relax.ShapeType(ndim=2)
    nested = TupleType([TENSOR, TupleType([shape, TupleType([])]), TENSOR])
    assert leaf_types(nested) == [TENSOR, shape, TENSOR]
    assert leaf_types(TENSOR) == [TENSOR]


def test_only_a_shape_variable_is_a_run_time_shape():
    """Symbolic dimensions and unknown shapes are none."""
    shape = relax.Var("s", relax.ShapeType(ndim=1))
    n = tvm.tirx.Var("n", "int64")
    assert has_run_time_shape(relax.TensorType(shape, "float32"))
    for ty in (TENSOR, relax.TensorType((n,), "float32"), relax.TensorType(ndim=1), shape.ty):
        assert not has_run_time_shape(ty)
