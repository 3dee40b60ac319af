# ruff: noqa: N812 - TVMScript
"""Which sites are on the device, and why some cannot be."""

from __future__ import annotations

import pytest
import tvm
from tvm.script import ir as I
from tvm.script import relax as R

from relax_tapml.passes.annotate_sites import AnnotateSites
from relax_tapml.passes.assign_sides import DEVICE_SITES_ATTR, AssignSides, host_only_sites


@I.ir_module
class Plain:
    @R.function
    def main(x: R.Tensor((4,), "float32")):
        a = R.exp(x)
        b = R.sin(a)
        return R.exp(b)

    @R.function
    def other(x: R.Tensor((4,), "float32")):
        return R.sin(x)


@pytest.fixture
def plain(lowered) -> tvm.IRModule:
    """``Plain`` with its sites named."""
    return lowered(Plain)


def device_sites(module: tvm.IRModule) -> dict[str, list[str]]:
    return {
        gvar.name_hint: [str(site) for site in function.attrs[DEVICE_SITES_ATTR]]
        for gvar, function in module.functions.items()
        if function.attrs and DEVICE_SITES_ATTR in function.attrs
    }


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"units": {"tir_exp"}}, {"main": ["main/000/tir_exp", "main/002/tir_exp"]}),
        ({"units": {"tir_sin"}}, {"main": ["main/001/tir_sin"], "other": ["other/000/tir_sin"]}),
        ({"sites": {"main/002/tir_exp"}}, {"main": ["main/002/tir_exp"]}),
        (
            {"units": {"tir_exp"}, "sites": {"other/000/tir_sin"}},
            {"main": ["main/000/tir_exp", "main/002/tir_exp"], "other": ["other/000/tir_sin"]},
        ),
        ({"units": {"unknown"}}, {}),
    ],
    ids=["unit", "unit of two functions", "site", "both", "unknown"],
)
def test_units_and_sites_are_chosen(apply, plain, chosen, expected):
    """All sites of a unit, or single ones, listed in program order by function."""
    assert device_sites(apply(AssignSides(**chosen), plain)) == expected


def test_only_the_attribute_is_added(apply, plain):
    """Without it the module is what it was."""
    chosen = apply(AssignSides(units={"tir_exp"}), plain)
    chosen.update_func(
        chosen.get_global_var("main"), chosen["main"].without_attr(DEVICE_SITES_ATTR)
    )
    tvm.ir.assert_structural_equal(chosen, plain)


def test_an_empty_boundary_has_no_attributes(apply, plain):
    """Those of an earlier boundary are taken away, and nothing is changed otherwise."""
    assert apply(AssignSides(), plain).same_as(plain)
    moved_back = apply(AssignSides(), apply(AssignSides(units={"tir_exp"}), plain))
    assert device_sites(moved_back) == {}
    tvm.ir.assert_structural_equal(moved_back, plain)


@I.ir_module
class Bound:
    """Calls that cannot run on a device, and two that can."""

    @R.function(private=True)
    def unit_scale(x: R.Tensor((4,), "float32"), by: R.Prim("float32")) -> R.Tensor(
        (4,), "float32"
    ):
        R.func_attr({"relax_tapml.unit": "scale"})
        return x

    @R.function(private=True)
    def unit_shift(x: R.Tensor((4,), "float32"), by: R.Prim("int64")) -> R.Tensor((4,), "float32"):
        R.func_attr({"relax_tapml.unit": "shift"})
        return x

    @R.function(private=True)
    def unit_read(cache: R.Object, x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        R.func_attr({"relax_tapml.unit": "read"})
        return x

    @R.function(private=True)
    def unit_shape(x: R.Tensor((4,), "float32")) -> R.Shape(ndim=1):
        R.func_attr({"relax_tapml.unit": "shape"})
        return R.shape([4])

    @R.function(private=True)
    def unit_split(
        p: R.Tuple(R.Tensor((4,), "float32"), R.Tuple(R.Shape([4]))),
    ) -> R.Tuple(R.Tensor((4,), "float32"), R.Tensor((4,), "float32")):
        R.func_attr({"relax_tapml.unit": "split"})
        x = p[0]
        return (x, x)

    @R.function(private=True)
    def unit_any(x: R.Tensor(ndim=1, dtype="float32")) -> R.Tensor((4,), "float32"):
        R.func_attr({"relax_tapml.unit": "any"})
        return R.zeros(R.shape([4]), "float32")

    @R.function(pure=False)
    def main(
        x: R.Tensor((4,), "float32"),
        p: R.Tuple(R.Tensor((4,), "float32"), R.Tuple(R.Shape([4]))),
        cache: R.Object,
        f: R.Prim("float32"),
        k: R.Prim("int64"),
        s: R.Shape(ndim=1),
    ):
        cls = Bound
        a = R.call_dps_packed("my.dps", (x,), out_ty=R.Tensor((4,), "float32"))
        b = R.call_pure_packed("my.pure", a, ty_args=R.Tensor((4,), "float32"))
        c = R.call_packed("my.packed", b, ty_args=R.Tensor((4,), "float32"))
        d = cls.unit_read(cache, c)
        e = cls.unit_scale(d, f)
        g = cls.unit_shift(e, k)
        h = cls.unit_shape(g)
        i = cls.unit_split(p)
        j = R.reshape(x, s)
        l = cls.unit_any(j)  # noqa: E741
        m = R.call_builtin_with_ctx("my.builtin", (x,), ty_args=R.Tensor((4,), "float32"))
        return (g, h, i, l, m)


NAMED_IN_REASON = {
    "main/000/my.dps": "call_dps_packed",
    "main/001/my.pure": "call_pure_packed",
    "main/002/my.packed": "call_packed",
    "main/003/read": "R.Any",
    "main/006/shape": "R.Shape([4])",
    "main/008/reshape": "reshape",
    "main/009/any": 'R.Tensor(s, dtype="float32")',
    "main/010/call_builtin_with_ctx": "runtime",
}


def test_what_cannot_move_has_a_reason():
    """Every other site of the module can."""
    reasons = host_only_sites(AnnotateSites()(Bound))
    assert reasons.keys() == NAMED_IN_REASON.keys()
    assert all(name in reasons[site] for site, name in NAMED_IN_REASON.items())


def test_what_cannot_move_stays(apply):
    """Also if the boundary names it."""
    module = AnnotateSites()(Bound)
    chosen = apply(
        AssignSides(units={"my.dps", "read", "scale", "shift", "shape", "split"}), module
    )
    assert device_sites(chosen) == {"main": ["main/004/scale", "main/005/shift", "main/007/split"]}
