"""A run is continued only by one that does the same with its samples."""

from __future__ import annotations

import dataclasses
from types import FunctionType

import tvm

from relax_tapml.bringup._identity import side_identity, source_identity
from relax_tapml.frontend.paged_drive import PagedDrive


def test_another_drive_is_another_source(tiny):
    """By its fields or by its code, not by where it lies in memory."""

    def inputs(drive):
        model = dataclasses.replace(tiny.model, drive=drive)
        return source_identity(model, tiny.lowered, tiny.source.units, tiny.source.kernels)[
            "inputs"
        ]

    assert inputs(PagedDrive(chunk=4)) == inputs(PagedDrive(chunk=4)) != inputs(PagedDrive())
    assert len({inputs(None), inputs(once), inputs(twice), inputs(print), inputs(Caller())}) == 5
    # What is in a comprehension has an address of its own each time it is compiled.
    assert inputs(once) == inputs(FunctionType(once.__code__.replace(), globals()))
    assert inputs(Caller()) == inputs(Caller())


def once(functions, sample):
    return [functions["main"](array) for array in sample.arrays]


def twice(functions, sample):
    return [functions["main"](array) for array in sample.arrays * 2]


class Caller:
    def __call__(self, functions, sample):
        return functions["main"](*sample.arrays)


def test_a_side_is_its_kernels_and_what_calls_them(tiny):
    """A pipeline may change either."""
    units, kernels = tiny.source.units, tiny.source.kernels

    def changed(module, _ctx):
        out = module.clone()
        gvar = module.get_global_var("main")
        out.update_func(gvar, module[gvar].with_attr("changed", 1))
        return out

    other = tvm.transform.module_pass(changed, opt_level=0)(units)
    same = tvm.ir.load_json(tvm.ir.save_json(units))
    assert side_identity(units, kernels) == side_identity(same, kernels)
    assert side_identity(units, kernels) != side_identity(other, kernels)
