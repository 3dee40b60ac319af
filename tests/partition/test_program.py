# ruff: noqa: N812 - TVMScript
"""Moving the boundary compiles bytecode and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from same_kernels import LLVM, partitioned
from tiny_model import UNITS
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.errors import LoweringError
from relax_tapml.partition.boundary import Boundary
from relax_tapml.partition.bytecode import load_bytecode
from relax_tapml.partition.hybrid import Host, HybridModule
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.lower import lower
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.targets.session.inline import InlineSession


def functions(bytecode: bytes) -> set[str]:
    """Relax functions in a side's bytecode."""
    module = load_bytecode(bytecode)
    text = module["as_text"]()
    return {line.strip("@:") for line in text.splitlines() if line.startswith("@") and ":" in line}


@pytest.mark.parametrize("boundary", [(), ("softmax",), UNITS], ids=len)
def test_no_kernel_is_built(part, kernels, library, boundary):
    """For static shapes there is nothing to build at all."""
    built = library.built_count
    program = part(*boundary)
    assert library.built_count == built
    assert program.boundary == Boundary(units=boundary)
    assert program.host.shape_functions == ()


def test_each_side_has_its_functions(part):
    """The entry function on the host, regions on the device."""
    program = part("softmax")
    assert "main" in functions(program.host.bytecode)
    assert functions(program.device.bytecode) >= {"main_region0"}
    assert "main" not in functions(program.device.bytecode)
    assert part().device is None


def test_the_same_boundary_gives_the_same_bytecode(part):
    """So a bundle of the same program is the same files."""
    first, second = part("softmax", "sum"), part("sum", "softmax")
    assert first.host.bytecode == second.host.bytecode
    assert first.device.bytecode == second.device.bytecode


def test_a_pass_that_raises_is_a_lowering_error(part, monkeypatch):
    """Not a fault of the device, and not of the model."""

    @tvm.transform.module_pass(opt_level=0, name="Breaks")
    def breaks(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        raise ValueError("no phase")

    monkeypatch.setattr("relax_tapml.partition.program.OutlineRegions", lambda **_: breaks)
    with pytest.raises(
        LoweringError, match=r"(?s)^partitioning with 2 sites on the device failed: .*no phase"
    ):
        part("softmax", "sum")


@I.ir_module
class Symbolic:
    @R.function
    def main(x: R.Tensor(("n", 4), "float32")):
        n = T.int64()
        with R.dataflow():
            y = R.concat((x, x), axis=0)
            z = R.cumsum(y, axis=0)
            v = R.reshape(z, R.shape([n * 8]))
            R.output(v)
        return v


def test_symbolic_dimensions_need_a_function_beside_the_vm(tmp_path):
    """It is cached by content like a kernel, so that the next step builds nothing."""
    library = KernelLibrary(tmp_path)
    lowered = lower(Symbolic)
    units = lower_for_target(lowered, LLVM)
    kernels = library.build(units, LLVM)
    program = partitioned(lowered, units, library, "cumsum")
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    beside = {*program.host.shape_functions, *program.device.shape_functions}
    assert beside
    assert beside == files.keys() - set(kernels.files())
    again = partitioned(lowered, units, library, "cumsum")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    assert again.host.shape_functions == program.host.shape_functions
    hybrid = HybridModule(
        Host(LLVM, kernels.files(), {}), program, InlineSession(LLVM), kernels.files()
    )
    x = np.arange(12, dtype="float32").reshape(3, 4)
    (output,) = hybrid["main"](x)
    np.testing.assert_array_equal(output, np.cumsum(np.concatenate((x, x)), axis=0).ravel())
