"""The process of ``bench_detection.py`` that builds and runs broken kernels of one unit.

A broken kernel may crash it, so it sends what it is about to do before it does it, and can begin
anywhere in the list of attempts, which is always the same.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tvm import tirx

from mutation.detection import SUITE, Detector
from mutation.kernel import Kernel, build_kernels
from mutation.mutants import mutants
from mutation.unit_cases import NotAKernelCallError, kernel_cases
from mutation.variants import variants
from relax_tapml.suite.open_suite import open_suite

MUTANT, VARIANT = "mutant", "variant"
_BATCH = 12
# A mutant is as wrong when it is less optimised, and is built twice as fast.
_TARGETS = {MUTANT: {"kind": "llvm", "opt-level": 1}, VARIANT: {"kind": "llvm"}}
_Attempt = tuple[str, str, str, tirx.PrimFunc]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One unit to examine, from one attempt on.

    Parameters
    ----------
    suite, unit
        Where its cases are.
    first
        The attempt to begin with.
    mutants_per_kind, variants_per_kind
        At most so many of each kind, evenly spread over the places they could be at.
    seed
        Of random inputs and of variants.
    is_careful
        Whether to build kernels one by one, for the one that makes the compiler crash.
    """

    suite: Path
    unit: str
    first: int
    mutants_per_kind: int
    variants_per_kind: int
    seed: int
    is_careful: bool = False


def work(connection: Connection) -> None:
    """Do tasks until None comes; send a tuple for everything that is found."""
    # A kernel that crashes makes TVM print a long trace, which is of no use here.
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
    while (task := connection.recv()) is not None:
        for message in examine(task):
            connection.send(message)


def examine(task: Task) -> Iterator[tuple[Any, ...]]:
    """Yield what is about to be tried and what came of it.

    Yields
    ------
    tuple
        ``("skipped", reason)``, or for each attempt ``("begin", number, role, kind, where)``
        followed by ``("unbuilt", number, reason)`` or by ``("carved", number, reasons)``,
        ``("random", number, reasons)`` and, for a mutant that the suite did not find,
        ``("wide", number, difference)``. Last comes ``("end",)``.
    """
    try:
        unit = kernel_cases(open_suite(task.suite), task.unit)
    except NotAKernelCallError as error:
        yield "skipped", str(error)
        yield ("end",)
        return
    detector = Detector(unit, seed=task.seed)
    attempts = list(_attempts(task, unit.function))[task.first :]
    number = task.first
    if task.is_careful:
        for attempt in attempts:
            yield "begin", number, *attempt[:3]
            yield from _tried(detector, number, attempt, _built([attempt])[0])
            number += 1
    else:
        for batch in _batches(attempts):
            for attempt, kernel in zip(batch, _built(batch), strict=True):
                yield "begin", number, *attempt[:3]
                yield from _tried(detector, number, attempt, kernel)
                number += 1
    yield ("end",)


def _batches(attempts: Sequence[_Attempt]) -> Iterator[list[_Attempt]]:
    """Yield attempts of the same role together, not too many at once."""
    for _, same in groupby(attempts, lambda attempt: attempt[0]):
        group = list(same)
        yield from (group[i : i + _BATCH] for i in range(0, len(group), _BATCH))


def _built(attempts: Sequence[_Attempt]) -> list[Kernel | Exception]:
    """Build kernels of one role together, or one by one if that fails."""
    try:
        return [*build_kernels([attempt[3] for attempt in attempts], _TARGETS[attempts[0][0]])]
    except Exception as error:  # Whatever TVM raises for one of them.
        if len(attempts) == 1:
            return [error]
        return [_built([attempt])[0] for attempt in attempts]


def _tried(
    detector: Detector, number: int, attempt: _Attempt, kernel: Kernel | Exception
) -> Iterator[tuple[Any, ...]]:
    if isinstance(kernel, Exception):
        yield "unbuilt", number, last_line(kernel)
        return
    carved = detector.carved(kernel)
    yield "carved", number, carved
    yield "random", number, detector.random(kernel)
    if attempt[0] == MUTANT and SUITE not in carved:
        yield "wide", number, detector.difference(kernel)


def _attempts(task: Task, function: tirx.PrimFunc) -> Iterator[_Attempt]:
    # The kernel itself is the first variant: a case that fails on it proves nothing.
    yield VARIANT, "unchanged", "the kernel itself", function
    for mutant in _spread(mutants(function), task.mutants_per_kind):
        yield MUTANT, mutant.kind, mutant.where, mutant.function
    for variant in _spread(variants(function, seed=task.seed), task.variants_per_kind):
        yield VARIANT, variant.kind, variant.where, variant.function


def _spread(found: Iterable[Any], most: int) -> Iterator[Any]:
    by_kind = defaultdict(list)
    for item in found:
        by_kind[item.kind].append(item)
    for items in by_kind.values():
        count = min(most, len(items))
        yield from (items[i * len(items) // count] for i in range(count))


def last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1][:200]
