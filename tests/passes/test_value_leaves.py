# ruff: noqa: N812 - TVMScript
"""Values followed back through renames and tuples."""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.ir import TupleType
from tvm.script import ir as I
from tvm.script import relax as R

from relax_tapml._compat import Constant
from relax_tapml.passes.value_leaves import Leaf, ValueLeaves, bindings_in


@I.ir_module
class Packs:
    @R.function
    def main(
        x: R.Tensor((4,), "float32"),
        p: R.Tuple(R.Tensor((4,), "float32"), R.Tuple(R.Tensor((2,), "float32"), R.Shape([4]))),
    ):
        y = R.exp(x)
        t = (y, (x, p))
        inner = t[1]
        q = inner[1]
        first = q[0]
        s = R.split(y, 2)
        half = s[1]
        u = (half, R.const(1.0, "float32"))
        return (t, first, u)


def leaves_of(module: tvm.IRModule):
    """The leaves of a function without branches, and its variables by name."""
    leaves = ValueLeaves()
    variables = {param.name: param for param in module["main"].params}
    for binding in bindings_in(module["main"].body):
        leaves.bind(binding)
        variables[binding.var.name] = binding.var
    return leaves, variables


def test_renames_and_tuples_lead_to_what_computed_the_value():
    """Packing, unpacking and renaming are seen through; computations and parameters are roots."""
    leaves, v = leaves_of(Packs)
    p = [Leaf(v["p"], (0,)), Leaf(v["p"], (1, 0)), Leaf(v["p"], (1, 1))]
    assert leaves.of(v["t"]) == [Leaf(v["y"]), Leaf(v["x"]), *p]
    assert leaves.of(v["q"]) == p
    assert leaves.of(v["first"]) == p[:1]
    assert leaves.of(v["half"]) == [Leaf(v["s"], (1,))]
    half, constant = leaves.of(v["u"])
    assert half == Leaf(v["s"], (1,))
    assert isinstance(constant.root, Constant)


def test_a_leaf_has_the_type_of_its_item():
    """Through any nesting."""
    leaves, v = leaves_of(Packs)
    assert [leaf.type for leaf in leaves.of(v["q"])] == [
        relax.TensorType((4,), "float32"),
        relax.TensorType((2,), "float32"),
        relax.ShapeType([4]),
    ]


def test_access_takes_one_item_after_the_other():
    """A nested item needs a binding for each level, since call arguments are never nested."""
    root = relax.Var("p", TupleType([TupleType([relax.TensorType((4,), "float32")])]))
    item, bindings = Leaf(root, (0, 0)).access()
    assert [binding.value.index for binding in bindings] == [0, 0]
    assert bindings[0].value.tuple_value.same_as(root)
    assert bindings[1].value.tuple_value.same_as(bindings[0].var)
    assert item.same_as(bindings[1].var)
    assert Leaf(root).access() == (root, [])


def test_inside_a_branch_only_parameters_are_seen_through():
    """What the function computed goes by the variable that the branch reads."""
    leaves, v = leaves_of(Packs)
    inner = leaves.of_parameters([v["x"], v["p"]])
    assert inner.of(v["first"]) == leaves.of(v["first"])
    assert inner.of(v["half"]) == [Leaf(v["half"])]
    assert inner.of(v["t"])[0] == Leaf(v["t"], (0,))


def test_bindings_of_branches_come_before_the_branch():
    """Program order, so that a reader sees what it depends on first."""

    @I.ir_module
    class Module:
        @R.function
        def main(cond: R.Tensor((), "bool"), x: R.Tensor((4,), "float32")):
            a = R.exp(x)
            if cond:
                b = R.sqrt(a)
                y = R.negative(b)
            else:
                y = R.sin(a)
            return R.add(y, x)

    ops = [
        binding.value.op.name.removeprefix("relax.")
        for binding in bindings_in(Module["main"].body)
        if isinstance(binding.value, relax.Call)
    ]
    assert ops == ["exp", "sqrt", "negative", "sin", "add"]
