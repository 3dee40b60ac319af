"""A partitioned program with the same kernels on both sides."""

from __future__ import annotations

from typing import Any

import tvm

from relax_tapml.partition.boundary import Boundary
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.program import PartitionedProgram, partition
from relax_tapml.targets.platforms.parse_target import parse_target

LLVM = parse_target("llvm")


def partitioned(
    lowered: tvm.IRModule,
    units: tvm.IRModule,
    library: KernelLibrary,
    *moved: str,
    device_units: tvm.IRModule | None = None,
    boundary: Boundary | None = None,
    **options: Any,
) -> PartitionedProgram:
    """Put the units ``moved``, or those of a boundary, on an llvm device beside an llvm host."""
    return partition(
        lowered,
        boundary or Boundary(units=moved),
        host_units=units,
        device_units=device_units or units,
        source=LLVM,
        target=LLVM,
        library=library,
        **options,
    )
