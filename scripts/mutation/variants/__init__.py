"""Correct kernels that are not the same: other schedules, other orders, other formulas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import tvm_ffi
from tvm import tirx

from mutation.variants import double, formulas, gpu, loops, order, reduction

FAMILIES = (loops, reduction, order, gpu, formulas, double)
KINDS = tuple(kind for family in FAMILIES for kind in family.MAKERS)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A kernel that computes the same in exact arithmetic.

    Parameters
    ----------
    kind
        What was done to it; one of ``KINDS``.
    where
        For people: ``matmul: 8 partial sums``.
    function
        The other kernel, with the parameters of the original. It may fail to build: not every
        schedule has code for the CPU.
    """

    kind: str
    where: str
    function: tirx.PrimFunc


def variants(function: tirx.PrimFunc, *, seed: int = 0) -> Iterator[Variant]:
    """Yield correct variants of a kernel; what cannot be done to it is left out.

    Parameters
    ----------
    function
        Not scheduled, as Relax lowers operators. Not changed.
    seed
        Chooses tile sizes.
    """
    seen = [function]
    for family in FAMILIES:
        for kind, make in family.MAKERS.items():
            for where, other in make(function, seed):
                if not any(tvm_ffi.structural_equal(other, known) for known in seen):
                    seen.append(other)
                    yield Variant(kind=kind, where=where, function=other)
