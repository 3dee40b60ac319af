"""Which units are on the device, and the two programs that makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import tvm

from relax_tapml.errors import LoweringError
from relax_tapml.partition.bytecode import CompiledFunctions, compile_functions
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.passes.assign_sides import AssignSides
from relax_tapml.passes.outline_regions import OutlineRegions
from relax_tapml.passes.split_module import split_module

Boundary: TypeAlias = frozenset[str]
"""Names of the units on the device; all others are on the host."""


@dataclass(frozen=True, kw_only=True)
class PartitionedProgram:
    """Bytecode of both sides; kernels are linked in by whoever runs it.

    Parameters
    ----------
    boundary
        The units on the device.
    host
        The entry functions.
    device
        The region functions, None where the device has nothing to do.
    """

    boundary: Boundary
    host: CompiledFunctions
    device: CompiledFunctions | None


def partition(
    lowered: tvm.IRModule,
    boundary: Boundary,
    *,
    host_units: tvm.IRModule,
    device_units: tvm.IRModule,
    source: tvm.target.Target,
    target: tvm.target.Target,
    library: KernelLibrary,
) -> PartitionedProgram:
    """Move the boundary: assign sides, outline regions, split, compile bytecode; build no kernel.

    Parameters
    ----------
    lowered
        From ``lower``.
    boundary
        Units to put on the device.
    host_units, device_units
        From ``prepare_side`` for either side.
    source, target
        What the sides run on.
    library
        Where functions for symbolic dimensions are built; it is not used for static shapes.

    Raises
    ------
    LoweringError
        A pass raised: a fault of the partition, not of the model.
    """
    try:
        outlined = OutlineRegions()(AssignSides(units=boundary)(lowered))
        sides = split_module(outlined, host_units, device_units)
        host = compile_functions(sides.host, source, library)
        device = sides.device and compile_functions(sides.device, target, library)
    except Exception as error:
        raise LoweringError(
            f"partitioning with {len(boundary)} units on the device failed: {error}"
        ) from error
    return PartitionedProgram(boundary=boundary, host=host, device=device)
