# ruff: noqa: F841, N812, RET504 - TVMScript
"""Every operator call gets a name, and nothing else changes."""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.passes.annotate_sites import AnnotateSites, annotated_calls
from relax_tapml.passes.site import site_of
from relax_tapml.passes.value_leaves import bindings_in


def ids(module: tvm.IRModule) -> list[str]:
    return [site.id for site, _ in annotated_calls(module)]


@I.ir_module
class Kinds:
    """One call of every kind, bookkeeping between them."""

    @T.prim_func(private=True, s_tir=True)
    def double(x: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")):
        for i in range(4):
            with T.sblock("y"):
                v = T.axis.spatial(4, i)
                y[v] = x[v] * T.float32(2)

    @T.prim_func(private=True, s_tir=True)
    def double_inplace(x: T.Buffer((4,), "float32")):
        for i in range(4):
            with T.sblock("x"):
                v = T.axis.spatial(4, i)
                x[v] = x[v] * T.float32(2)

    @R.function(private=True)
    def unit_cumsum(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        R.func_attr({"relax_tapml.unit": "cumsum"})
        y = R.cumsum(x)
        return y

    @R.function(pure=False)
    def main(x: R.Tensor((4,), "float32")):
        cls = Kinds
        a = R.call_tir(cls.double, (x,), out_ty=R.Tensor((4,), "float32"))
        s = R.shape_of(a)
        b = R.call_tir_inplace(
            cls.double_inplace, (a,), inplace_indices=[0], out_ty=R.Tensor((4,), "float32")
        )
        c = R.call_dps_packed("my.dps", (b,), out_ty=R.Tensor((4,), "float32"))
        d = R.call_pure_packed("my.pure", c, s, ty_args=R.Tensor((4,), "float32"))
        e = R.call_packed("my.packed", d, ty_args=R.Tensor((4,), "float32"))
        f = cls.unit_cumsum(e)
        g = cls.helper(f)
        return R.sin(g)

    @R.function(private=True)
    def helper(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        cls = Kinds
        y = R.call_tir(cls.double, (x,), out_ty=R.Tensor((4,), "float32"))
        return y


def test_every_kind_of_operator_call_is_named(apply):
    """Bookkeeping and calls of ordinary functions are not; each function counts for itself."""
    assert sorted(ids(apply(AnnotateSites(), Kinds))) == [
        "helper/000/double",
        "main/000/double",
        "main/001/double_inplace",
        "main/002/my.dps",
        "main/003/my.pure",
        "main/004/my.packed",
        "main/005/cumsum",
        "main/006/sin",
    ]


def test_only_names_are_added(apply):
    """In spans, which structural equality does not compare; none in the body of a unit."""
    once = apply(AnnotateSites(), Kinds)
    tvm.ir.assert_structural_equal(once, Kinds)
    assert apply(AnnotateSites(), once).same_as(once)
    unit = once["unit_cumsum"]
    assert [site_of(binding.value) for binding in bindings_in(unit.body)] == [None]


def test_a_module_without_operators_is_returned_as_it_is(apply):
    """There is nothing to name."""

    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4,), "float32")):
            y = (x, x)
            return y[0]

    assert apply(AnnotateSites(), Before).same_as(Before)


def test_branches_are_counted_in_program_order(apply):
    """What follows an ``If`` comes after both of its branches."""

    @I.ir_module
    class Before:
        @R.function
        def main(cond: R.Tensor((), "bool"), x: R.Tensor((4,), "float32")):
            if cond:
                a = R.exp(x)
                y = R.sin(a)
            else:
                y = R.cos(x)
            return R.negative(y)

    assert ids(apply(AnnotateSites(), Before)) == [
        "main/000/exp",
        "main/001/sin",
        "main/002/cos",
        "main/003/negative",
    ]


def test_sites_are_counted_anew(apply):
    """Names given before an operator was removed do not stay."""

    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4,), "float32")):
            with R.dataflow():
                dead = R.exp(x)
                y = R.sin(x)
                R.output(y)
            return y

    named = apply(AnnotateSites(), Before)
    assert ids(named) == ["main/000/exp", "main/001/sin"]
    alive = relax.transform.DeadCodeElimination()(named)
    assert ids(alive) == ["main/001/sin"]
    assert ids(apply(AnnotateSites(), alive)) == ["main/000/sin"]


def test_names_survive_the_passes_that_come_between(apply):
    """Only what makes another call of a call loses its name."""
    named = apply(AnnotateSites(), Kinds)
    passes = [
        relax.transform.ToNonDataflow(),
        relax.transform.Normalize(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.BindParams("main", {}),
    ]
    for step in passes:
        assert sorted(ids(step(named))) == sorted(ids(named)), step.info.name
    assert ids(tvm.ir.load_json(tvm.ir.save_json(named))) == ids(named)
