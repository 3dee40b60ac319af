"""Kernels of the source are compiled for CPUs without fast math."""

from __future__ import annotations

import pytest
import tvm

from relax_tapml.targets.platforms.registry import platform_of


@pytest.mark.parametrize("option", ["fast-math", "fast-math-nnan", "fast-math-reassoc"])
def test_a_trusted_cpu_has_no_fast_math(option):
    """Applied twice, it changes nothing more."""
    target = tvm.target.Target({"kind": "llvm", option: True, "num-cores": 2})
    platform = platform_of(target)
    made = platform.trusted(target)
    assert option not in made.attrs
    assert int(made.attrs["num-cores"]) == 2
    assert platform.options_text(made) == "compiled without fast math"
    assert str(platform.trusted(made)) == str(made)


def test_a_cpu_without_fast_math_is_trusted_as_it_is():
    target = tvm.target.Target("llvm")
    platform = platform_of(target)
    assert platform.trusted(target) is target
    assert not platform.options_text(target)
