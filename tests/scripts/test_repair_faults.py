"""Faults that are planted in one layer are repaired, and blamed on it."""

from __future__ import annotations

import pytest
from bench_repair_faults import plant
from repair_faults import FAULTS

from relax_tapml.repair.alternative import Layer
from relax_tapml.repair.alternatives.registry import ALTERNATIVES
from relax_tapml.targets.platforms.registry import platform_named

NAMES = ("as-lowered", "accurate-options", "float32-sums", "unscheduled", "one-thread-each")
FEW = [one for one in ALTERNATIVES if one.name in NAMES]


@pytest.mark.skipif(not platform_named("opencl").has_device_here(), reason="needs an OpenCL device")
@pytest.mark.parametrize(
    ("name", "is_repaired"),
    [
        ("stores values that are off, llvm", True),
        ("the schedule of CPUs leaves the end out", True),
        ("fast exp", True),
        ("erf is off", False),
        ("sums in float16", True),
        ("exp is another function", False),
    ],
)
def test_a_planted_fault_is_blamed_on_its_layer(finished, name, is_repaired):
    """Where nothing repairs it, another target tells a definition from code."""
    (fault,) = (one for one in FAULTS if one.name == name)
    (found,) = plant("tiny", finished, [fault], FEW)
    assert found.verdict.is_wrong
    assert found.is_layer_right, found.text
    assert bool(found.chosen) is is_repaired
    if not is_repaired:
        is_defined_so = fault.layer is Layer.DEFINITION
        assert ("wrong on llvm" if is_defined_so else "right on llvm") in found.text
