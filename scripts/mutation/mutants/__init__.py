"""Broken kernels: every way in which a PrimFunc can be wrong at one place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import tvm_ffi
from tvm import tirx

from mutation.edit import edits
from mutation.mutants import functions, loads, numbers, operations, reductions

FAMILIES = (loads, reductions, operations, numbers, functions)
KINDS = tuple(kind for family in FAMILIES for kind in family.OFFERS)


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A kernel with one mistake.

    Parameters
    ----------
    kind
        Which mistake; one of ``KINDS``.
    where
        For people: ``T_layer_norm: rsqrt(x[i]) -> sqrt(x[i])``.
    function
        The broken kernel. It has the parameters of the correct one. It is well formed and builds,
        but it may read or write out of bounds.
    """

    kind: str
    where: str
    function: tirx.PrimFunc


def mutants(function: tirx.PrimFunc) -> Iterator[Mutant]:
    """Yield every mutant of a kernel: each mistake at each place where it can be made.

    The order is always the same. A mutant may compute the same as the kernel: ``max`` with a
    constant that no value reaches, for instance, can be replaced without effect.

    Parameters
    ----------
    function
        With blocks, as Relax lowers operators; scheduled or not. Not changed.
    """
    for family in FAMILIES:
        for kind, offer in family.OFFERS.items():
            for where, mutated in edits(function, offer):
                if not tvm_ffi.structural_equal(mutated, function):
                    yield Mutant(kind=kind, where=where, function=mutated)
