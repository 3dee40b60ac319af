"""A side's own implementation of the units, under the names both sides know."""

from __future__ import annotations

import broken_pipelines
import pytest
import tvm
import tvm_ffi
from same_kernels import LLVM
from tvm import relax, tirx

from relax_tapml.errors import LoweringError
from relax_tapml.partition.lower_for_target import lower_for_target

CUDA = tvm.target.Target("cuda")


def called(function: relax.Function) -> list[tvm.ir.GlobalVar]:
    return list(relax.analysis.all_global_vars(function))


@pytest.mark.parametrize("target", [LLVM, CUDA], ids=str)
def test_the_functions_of_the_lowered_module_stay(lowered, target):
    """Under the same GlobalVars; the lowered module is not changed."""
    before = tvm.ir.save_json(lowered)
    side = lower_for_target(lowered, target)
    assert tvm.ir.save_json(lowered) == before
    for gvar in lowered.functions:
        assert gvar in side.functions
    assert all(isinstance(side[unit], tirx.PrimFunc) for unit in ("matmul", "softmax", "cumsum"))
    relax.analysis.well_formed(side)


def test_a_dispatched_operator_has_a_kernel_of_its_own_on_each_side(lowered):
    """The scan of a GPU is not that of a CPU."""
    on_cpu, on_gpu = lower_for_target(lowered, LLVM), lower_for_target(lowered, CUDA)
    for side in (on_cpu, on_gpu):
        assert [gvar.name_hint for gvar in called(side["unit_cumsum"])] == ["cumsum"]
    assert "threadIdx.x" in on_gpu["cumsum"].script()
    assert "threadIdx.x" not in on_cpu["cumsum"].script()


def test_the_sides_pipeline_sees_its_units_and_target(lowered):
    """Each unit is a PrimFunc of that name by then."""
    seen = []

    @tvm.transform.module_pass(opt_level=0)
    def look(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        seen.append(tvm.target.Target.current())
        seen.append(isinstance(module["cumsum"], tirx.PrimFunc))
        return module

    lower_for_target(lowered, CUDA, look)
    assert [str(seen[0]), seen[1]] == [str(CUDA), True]


def test_only_what_the_pipeline_changes_differs(lowered):
    """An edit of one unit is an edit of one unit."""
    plain = lower_for_target(lowered, LLVM)
    edited = lower_for_target(
        lowered, LLVM, broken_pipelines.breaks("softmax", broken_pipelines.scale)
    )
    differing = [
        gvar.name_hint
        for gvar in plain.functions
        if isinstance(plain[gvar], tirx.PrimFunc)
        and not tvm_ffi.structural_equal(plain[gvar], edited[gvar.name_hint])
    ]
    assert differing == ["softmax"]


def test_functions_under_other_variables_are_put_back(lowered):
    """A pipeline that rebuilds the module, for example through JSON, makes new GlobalVars."""

    @tvm.transform.module_pass(opt_level=0)
    def rebuild(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        return tvm.ir.load_json(tvm.ir.save_json(module))

    side = lower_for_target(lowered, LLVM, rebuild)
    tvm.ir.assert_structural_equal(side, lower_for_target(lowered, LLVM))
    for gvar in lowered.functions:
        assert gvar in side.functions
    for function in side.functions.values():
        if isinstance(function, relax.Function):
            assert all(gvar in side.functions for gvar in called(function))
    relax.analysis.well_formed(side)


@pytest.mark.parametrize(
    ("pipeline", "pattern"),
    [
        (broken_pipelines.raises, "'Raises'.*RuntimeError: no schedule for softmax"),
        (broken_pipelines.forgets, "without softmax;"),
    ],
    ids=["raises", "forgets"],
)
def test_a_pipeline_that_does_not_work_is_reported(lowered, pipeline, pattern):
    """With its name, its message and what is expected."""
    with pytest.raises(LoweringError, match=pattern):
        lower_for_target(lowered, LLVM, pipeline)


def test_a_pipeline_that_returns_no_module_is_reported(lowered):
    """TVM itself refuses that; the message names the pipeline all the same."""
    with pytest.raises(LoweringError, match="pipeline 'ReturnsNothing'"):
        lower_for_target(lowered, LLVM, broken_pipelines.returns_nothing)
