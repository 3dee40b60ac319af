# ruff: noqa: N812 - TVMScript
"""Each side gets its functions and its own implementation of the units."""

from __future__ import annotations

import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.passes.assign_sides import AssignSides
from relax_tapml.passes.outline_regions import OutlineRegions
from relax_tapml.passes.split_module import split_module

LLVM = tvm.target.Target("llvm")


@I.ir_module
class Module:
    @R.function(private=True)
    def helper(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        return R.exp(x)

    @R.function
    def main(x: R.Tensor((4,), "float32")):
        cls = Module
        y = R.cumsum(x, axis=0)
        return cls.helper(y)


@pytest.fixture
def module(lowered) -> tvm.IRModule:
    """``Module`` with its sites named."""
    return lowered(Module)


def names(module: tvm.IRModule) -> set[str]:
    return {gvar.name_hint for gvar in module.functions}


def test_functions_go_to_their_side(module):
    """Regions to the device, all others to the host; both have all units."""
    units = lower_for_target(module, LLVM)
    outlined = OutlineRegions()(AssignSides(units={"tir_exp"})(module))
    sides = split_module(outlined, units, units)
    shared = {"tir_exp", "cumsum", "unit_cumsum"}
    assert names(sides.host) == {"main", "helper", *shared}
    assert names(sides.device) == {"helper_region0", *shared}
    relax.analysis.well_formed(sides.host)
    relax.analysis.well_formed(sides.device)


def test_each_side_has_its_own_units(module):
    """With whatever they call, Relax functions included; its version of an entry is not used."""

    @tvm.transform.module_pass(opt_level=0)
    def own(side: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        unit = side["unit_cumsum"]
        builder = relax.BlockBuilder(side.clone())
        inner = builder.add_func(unit.without_attr("relax_tapml.unit"), "inner")
        x = relax.Var("x", unit.params[0].ty)
        body = builder.normalize(relax.SeqExpr([], relax.Call(inner, [x])))
        outer = relax.Function([x], body, unit.ret_ty, attrs=unit.attrs)
        builder.update_func(side.get_global_var("unit_cumsum"), outer)
        for name in ("tir_exp", "main"):
            builder.update_func(side.get_global_var(name), side[name].with_attr("mine", 1))
        return builder.get()

    host_units = lower_for_target(module, LLVM)
    device_units = lower_for_target(module, LLVM, own)
    outlined = OutlineRegions()(AssignSides(units={"tir_exp", "cumsum"})(module))
    sides = split_module(outlined, host_units, device_units)
    assert "inner" in names(sides.device)
    assert "inner" not in names(sides.host)
    assert "mine" in sides.device["tir_exp"].attrs
    assert "mine" not in sides.host["tir_exp"].attrs
    assert "mine" not in sides.host["main"].attrs
    swapped = split_module(outlined, device_units, host_units)
    assert "mine" in swapped.host["tir_exp"].attrs
    assert not (swapped.host["main"].attrs and "mine" in swapped.host["main"].attrs)
