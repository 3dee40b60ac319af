"""The small model of ``tests/models``, lowered, with its kernels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tvm
from same_kernels import LLVM, partitioned
from tiny_model import model

from relax_tapml.arrays import Array
from relax_tapml.frontend.model import Model
from relax_tapml.partition.built_functions import flat_values
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.hybrid import Host
from relax_tapml.partition.kernel_library import KernelLibrary, KernelSet
from relax_tapml.partition.lower import lower, mark_inputs
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.partition.program import PartitionedProgram


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> KernelLibrary:
    """One folder of kernels for all tests that do not look at it."""
    return KernelLibrary(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def tiny() -> Model:
    """The model itself."""
    return model()


@pytest.fixture(scope="session")
def lowered(tiny: Model) -> tvm.IRModule:
    """Its lowered module."""
    return lower(mark_inputs(tiny.module, tiny.params))


@pytest.fixture(scope="session")
def units(lowered: tvm.IRModule) -> tvm.IRModule:
    """The module as llvm implements it."""
    return lower_for_target(lowered, LLVM)


@pytest.fixture(scope="session")
def kernels(units: tvm.IRModule, library: KernelLibrary) -> KernelSet:
    """Its kernels."""
    return library.build(units, LLVM)


@pytest.fixture
def host(kernels: KernelSet, tiny: Model) -> Host:
    """The source side."""
    return Host(LLVM, kernels.files(), tiny.params)


@pytest.fixture
def part(
    lowered: tvm.IRModule, units: tvm.IRModule, library: KernelLibrary
) -> Callable[..., PartitionedProgram]:
    """Put units on the device; ``device_units`` are the host's unless they are given."""

    def part(*boundary: str, device_units: tvm.IRModule = units) -> PartitionedProgram:
        return partitioned(lowered, units, library, *boundary, device_units=device_units)

    return part


@pytest.fixture
def expected(
    host: Host, units: tvm.IRModule, tiny: Model, library: KernelLibrary
) -> list[list[Array]]:
    """What the whole module computes for each sample."""
    vm = host.virtual_machine(compile_functions(units, LLVM, library))
    return [
        flat_values(vm["main"](*map(host.upload, sample.arrays), *map(host.weight, host.params)))
        for sample in tiny.samples
    ]
