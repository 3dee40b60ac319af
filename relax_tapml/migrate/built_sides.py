"""What stays the same from step to step."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import tvm

from relax_tapml.partition.boundary import Boundary
from relax_tapml.partition.hybrid import Host
from relax_tapml.partition.kernel_library import KernelLibrary, KernelSet
from relax_tapml.partition.program import PartitionedProgram, partition
from relax_tapml.partition.site_table import SiteEntry
from relax_tapml.passes.lift_derived_weights import LiftDerivedWeights
from relax_tapml.passes.operator_call import UNIT_ATTR
from relax_tapml.passes.replace_choices import ReplaceChoices
from relax_tapml.passes.site import Site
from relax_tapml.passes.submodule import submodule


@dataclass(frozen=True, kw_only=True)
class BuiltSides:
    """Everything a step needs that stays the same from step to step.

    Parameters
    ----------
    lowered
        The annotated module.
    host_units, device_units
        The module as prepared for either side.
    source, target
        What the sides run on.
    host
        Kernels and weights of the source, loaded.
    library
        Where kernels are built; a step must not need it.
    device_kernels
        Kernels of the target.
    poisoned
        Units that are known to write all of their results: what a step returns of them lies in
        memory that holds a pattern before.
    table
        Of ``site_table(lowered)``; made at each step if it is empty.
    """

    lowered: tvm.IRModule
    host_units: tvm.IRModule
    device_units: tvm.IRModule
    source: tvm.target.Target
    target: tvm.target.Target
    host: Host
    library: KernelLibrary
    device_kernels: KernelSet
    poisoned: frozenset[str] = frozenset()
    table: Sequence[SiteEntry] = ()

    def partition(
        self,
        sites: Collection[str],
        *,
        is_merged: bool = True,
        is_poisoned: bool = False,
        replaced: Collection[str] = (),
    ) -> PartitionedProgram:
        """Return the programs with some sites on the device, given by id; to be kept, or to test.

        The device gets the units of these sites and no others: one whose kernel does not build
        must not keep the rest from being linked. The results of the ``replaced`` units pass through
        the host; see ``ReplaceChoices``.
        """
        units = units_of(sites)
        on_device = [
            gvar.name_hint
            for gvar, function in self.device_units.functions.items()
            if (function.attrs or {}).get(UNIT_ATTR, gvar.name_hint) in units
        ]
        return partition(
            ReplaceChoices(replaced)(self.lowered) if replaced else self.lowered,
            Boundary(sites=sites),
            host_units=self.host_units,
            device_units=submodule(self.device_units, on_device),
            source=self.source,
            target=self.target,
            library=self.library,
            is_merged=is_merged,
            poisoned=self.poisoned if is_poisoned else (),
            table=self.table,
            lifted=None if replaced else self._lifted,
        )

    @cached_property
    def _lifted(self) -> tvm.IRModule:
        return LiftDerivedWeights()(self.lowered)


def units_of(sites: Collection[str]) -> frozenset[str]:
    """Return the units that some sites, given by id, call."""
    return frozenset(Site.parse(site).unit for site in sites)
