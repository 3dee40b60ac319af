"""The CPU of this machine, and code for others."""

from __future__ import annotations

import pytest
import tvm

from relax_tapml.cpu_schedule import native_cpu
from relax_tapml.cpu_schedule.native_cpu import (
    instruction_sets,
    missing_instruction_sets,
    native_cpu_target,
    with_native_cpu,
    without_native_cpu,
)

PLAIN = tvm.target.Target("llvm")


def test_the_target_of_this_machine_runs_here():
    """LLVM's name of the CPU, of which nothing is missing; what was added can be taken away."""
    target = native_cpu_target()
    assert missing_instruction_sets(instruction_sets(target)) == ()
    assert str(without_native_cpu(target)) == str(PLAIN)
    assert str(with_native_cpu(target)) == str(target)


def test_instructions_that_a_virtual_machine_hides_are_excluded(monkeypatch):
    """LLVM takes them from the CPU's name."""
    monkeypatch.setattr(native_cpu.codegen, "llvm_get_system_cpu", lambda: "znver5")
    monkeypatch.setattr(native_cpu, "_listed", lambda: {"sse3", "ssse3", "avx", "avx2", "fma"})
    target = native_cpu_target()
    assert target.attrs["mcpu"] == "znver5"
    assert "-avx512f" in target.attrs["mattr"]
    assert set(instruction_sets(target)) <= {"sse3", "ssse3", "avx", "avx2", "fma"}
    assert str(without_native_cpu(target)) == str(PLAIN)


@pytest.mark.parametrize("name", ["", "generic"])
def test_an_unknown_cpu_is_not_named(name, monkeypatch):
    """The target stays as it is."""
    monkeypatch.setattr(native_cpu.codegen, "llvm_get_system_cpu", lambda: name)
    assert with_native_cpu(PLAIN) is PLAIN


def test_what_another_cpu_has_is_missing(monkeypatch):
    """By LLVM's names; nothing is where the system lists nothing."""
    target = tvm.target.Target({"kind": "llvm", "mcpu": "sapphirerapids"})
    names = instruction_sets(target)
    assert "avx512fp16" in names
    monkeypatch.setattr(native_cpu, "_listed", lambda: set(names) - {"avx512fp16"})
    assert missing_instruction_sets(names) == ("avx512fp16",)
    monkeypatch.setattr(native_cpu, "_listed", lambda: None)
    assert missing_instruction_sets(names) == ()
