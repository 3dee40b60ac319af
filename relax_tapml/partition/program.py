"""The two programs into which a boundary splits a module."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import tvm

from relax_tapml.crossings import DeviceCall
from relax_tapml.errors import LoweringError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.partition.boundary import Boundary
from relax_tapml.partition.built_functions import WeightNames, weight_names
from relax_tapml.partition.bytecode import CompiledFunctions, compile_functions
from relax_tapml.partition.derived_weights import Derivation, derivations
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.site_table import SiteEntry, site_table
from relax_tapml.passes.assign_sides import AssignSides
from relax_tapml.passes.device_calls import device_calls
from relax_tapml.passes.lift_derived_weights import LiftDerivedWeights
from relax_tapml.passes.outline_regions import OutlineRegions
from relax_tapml.passes.poison_results import PoisonedRegion, poison_results
from relax_tapml.passes.split_module import split_module


@dataclass(frozen=True, kw_only=True)
class PartitionedProgram:
    """Bytecode of both sides. Kernels are linked when the program is loaded.

    Parameters
    ----------
    boundary
        The sites on the device.
    host
        The entry functions.
    device
        The region functions; None if no site is on the device.
    weights
        Names of the weights that each entry function takes.
    derivations
        The functions of the host's program that compute some of these weights from others.
    calls
        The device calls of the host, with the values that are copied for them. Empty in a program
        that was loaded from a bundle.
    poisoned
        By name, the regions that fill their results with a pattern, their last argument.
    """

    boundary: Boundary
    host: CompiledFunctions
    device: CompiledFunctions | None
    weights: WeightNames
    calls: tuple[DeviceCall, ...]
    derivations: tuple[Derivation, ...] = ()
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
    table: Sequence[SiteEntry] = (),
    lifted: tvm.IRModule | None = None,
) -> PartitionedProgram:
    """Move the boundary: assign sides, outline regions, split, compile bytecode; build no kernel.

    Parameters
    ----------
    lowered
        From ``lower``.
    boundary
        The sites to put on the device. A site that cannot leave the host stays there nevertheless.
    host_units, device_units
        From ``lower_for_target`` for either side.
    source, target
        The targets of the two sides.
    library
        Builds the functions for symbolic dimensions; not used for static shapes.
    is_merged
        Whether sites that can run in one device call do; otherwise each is a call of its own.
    poisoned
        Units whose results are filled with a pattern before they are computed, where a region
        returns them. These must be units that write all of their results.
    table
        Of ``site_table(lowered)``, if that is known.
    lifted
        What ``LiftDerivedWeights`` makes of ``lowered``, where that is known.

    Raises
    ------
    UsageError
        The boundary has a name that the module does not have.
    LoweringError
        A pass raised: an error of the partition, not of the model.
    """
    sites = boundary.among(table or site_table(lowered))
    lifted = lifted or LiftDerivedWeights()(lowered)
    outlined = _outlined(lifted, sites, is_merged=is_merged)
    calls = device_calls(outlined)
    try:
        sides = split_module(outlined, host_units, device_units)
        host = compile_functions(sides.host, source, library)
        found = poison_results(sides.device, poisoned) if sides.device else None
        device = compile_functions(found.module, target, library) if found else None
    except Exception as error:
        raise_machine_error(error, "compiling the two sides of a boundary")
        raise LoweringError(f"compiling the two sides of a boundary failed: {error}") from error
    return PartitionedProgram(
        boundary=boundary,
        host=host,
        device=device,
        weights=weight_names(lifted),
        calls=calls,
        derivations=derivations(lifted, {site for call in calls for site in call.sites}),
        poisoned=found.regions if found else {},
    )


def explain(lowered: tvm.IRModule, boundary: Boundary) -> tuple[DeviceCall, ...]:
    """Return the device calls of a boundary, with the values that are copied for them.

    Nothing is compiled. Raises as ``partition`` does.
    """
    sites = boundary.resolve(lowered)
    return device_calls(_outlined(LiftDerivedWeights()(lowered), sites))


def _outlined(
    lifted: tvm.IRModule, sites: Collection[str], *, is_merged: bool = True
) -> tvm.IRModule:
    try:
        return OutlineRegions(is_merged=is_merged)(AssignSides(sites=sites)(lifted))
    except Exception as error:
        raise_machine_error(error, f"partitioning with {len(sites)} sites on the device")
        raise LoweringError(
            f"partitioning with {len(sites)} sites on the device failed: {error}"
        ) from error
