"""The two programs that a boundary makes of a module."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import tvm

from relax_tapml.errors import LoweringError
from relax_tapml.files.machine import passed_on
from relax_tapml.partition.boundary import Boundary
from relax_tapml.partition.built_functions import WeightNames, weight_names
from relax_tapml.partition.bytecode import CompiledFunctions, compile_functions
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.passes.assign_sides import AssignSides
from relax_tapml.passes.device_calls import DeviceCall, device_calls
from relax_tapml.passes.outline_regions import OutlineRegions
from relax_tapml.passes.poison_results import PoisonedRegion, poison_results
from relax_tapml.passes.split_module import split_module


@dataclass(frozen=True, kw_only=True)
class PartitionedProgram:
    """Bytecode of both sides; kernels are linked in by whoever runs it.

    Parameters
    ----------
    boundary
        The sites on the device.
    host
        The entry functions.
    device
        The region functions, None where the device has nothing to do.
    weights
        Names of the weights that each entry function takes.
    calls
        What the host calls on the device, and what crosses for it; not kept in a bundle, where
        it is empty.
    poisoned
        By name, the regions that take a pattern as last argument, which they fill results with.
    """

    boundary: Boundary
    host: CompiledFunctions
    device: CompiledFunctions | None
    weights: WeightNames
    calls: tuple[DeviceCall, ...]
    poisoned: Mapping[str, PoisonedRegion] = field(default_factory=dict)


def partition(
    lowered: tvm.IRModule,
    boundary: Boundary,
    *,
    host_units: tvm.IRModule,
    device_units: tvm.IRModule,
    source: tvm.target.Target,
    target: tvm.target.Target,
    library: KernelLibrary,
    is_merged: bool = True,
    poisoned: Collection[str] = (),
) -> PartitionedProgram:
    """Move the boundary: assign sides, outline regions, split, compile bytecode; build no kernel.

    Parameters
    ----------
    lowered
        From ``lower``.
    boundary
        What to put on the device. A site that cannot leave the host stays there whatever it says.
    host_units, device_units
        From ``lower_for_target`` for either side.
    source, target
        What the sides run on.
    library
        Where functions for symbolic dimensions are built; it is not used for static shapes.
    is_merged
        Whether sites that can run in one device call do; otherwise each is a call of its own.
    poisoned
        Units whose results are filled with a pattern before they are computed, where a region
        returns them. They must be known to write all of their results.

    Raises
    ------
    UsageError
        The boundary names something the module does not have.
    LoweringError
        A pass raised: a fault of the partition, not of the model.
    """
    outlined = _outlined(lowered, boundary, is_merged=is_merged)
    try:
        sides = split_module(outlined, host_units, device_units)
        host = compile_functions(sides.host, source, library)
        found = poison_results(sides.device, poisoned) if sides.device else None
        device = compile_functions(found.module, target, library) if found else None
    except Exception as error:
        passed_on(error, "compiling the two sides of a boundary")
        raise LoweringError(f"compiling the two sides of a boundary failed: {error}") from error
    return PartitionedProgram(
        boundary=boundary,
        host=host,
        device=device,
        weights=weight_names(lowered),
        calls=device_calls(outlined),
        poisoned=found.regions if found else {},
    )


def explain(lowered: tvm.IRModule, boundary: Boundary) -> tuple[DeviceCall, ...]:
    """Return what a boundary runs on the device, call by call, and what crosses for it.

    Nothing is compiled. Raises as ``partition`` does.
    """
    return device_calls(_outlined(lowered, boundary))


def _outlined(lowered: tvm.IRModule, boundary: Boundary, *, is_merged: bool = True) -> tvm.IRModule:
    sites = boundary.resolve(lowered)
    try:
        return OutlineRegions(is_merged=is_merged)(AssignSides(sites=sites)(lowered))
    except Exception as error:
        passed_on(error, f"partitioning with {len(sites)} sites on the device")
        raise LoweringError(
            f"partitioning with {len(sites)} sites on the device failed: {error}"
        ) from error
