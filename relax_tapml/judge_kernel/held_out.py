"""Cases that neither the files of a suite nor a report show."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from relax_tapml.carve.probe.drawn_probe import DrawnProbes
from relax_tapml.carve.shape.boundary_shapes import boundary_calls
from relax_tapml.carve.unit.call_tensors import CallTensors
from relax_tapml.carve.unit.unit_tolerances import UnitTolerances
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.judge_kernel.case_suite import CaseSuite, MadeCase, case_suite
from relax_tapml.suite.manifest import SuiteCase
from relax_tapml.suite.open_suite import Suite

# Of a call that is larger no case is made, unless all are.
_MOST_VALUES = 1 << 20
_ATTEMPTS = 3  # Seeds that are tried for a case.


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A suite of one unit with cases that are held out.

    Parameters
    ----------
    suite
        With all cases: those of the suite first.
    names
        Of the cases that are held out.
    boundary
        Those of them that have other extents of symbolic dimensions.
    reasons
        Why there are not more, each once.
    """

    suite: CaseSuite
    names: frozenset[str]
    boundary: frozenset[str]
    reasons: tuple[str, ...]


def hold_out(suite: Suite, unit: str, *, count: int, seed: int) -> HeldOut:
    """Make cases of a unit that only this process knows.

    Parameters
    ----------
    suite, unit
        The suite, and the unit.
    count
        How many cases have the recorded shapes, at most. Those of other shapes are further ones.
    seed
        Drawn: who knows it knows the cases.
    """
    module = suite.module(unit)
    recorded = [_tensors(suite, case) for case in suite.unit(unit).cases if not case.is_probe]
    known = [_tensors(suite, case) for case in suite.unit(unit).cases]
    bases = [one for one in recorded if _size(one) <= _MOST_VALUES] or [min(recorded, key=_size)]
    reasons: dict[str, None] = {}
    random = np.random.default_rng([seed, 11])
    made = [
        MadeCase(name=f"held-out-{number}", call=call, tolerances=tolerances)
        for number, (call, tolerances) in enumerate(
            _drawn(UnitTolerances(module), bases, count, random, reasons)
        )
    ]
    largest = max(bases, key=_size)
    boundary = boundary_calls(module, largest, known, int(random.integers(1 << 31)))
    reasons.update(dict.fromkeys(boundary.reasons))
    shaped = [
        MadeCase(
            name=f"held-out-shape-{number}",
            call=CallTensors(
                function=function,
                inputs=probe.inputs,
                outputs=probe.outputs,
                weights=(None,) * len(probe.inputs),
            ),
            tolerances=probe.tolerances,
        )
        for number, (function, probe) in enumerate(boundary.probes)
    ]
    return HeldOut(
        suite=case_suite(suite, unit, boundary.module, [*made, *shaped]),
        names=frozenset(one.name for one in (*made, *shaped)),
        boundary=frozenset(one.name for one in shaped),
        reasons=tuple(reasons),
    )


def timed_cases(suite: CaseSuite, case: SuiteCase, *, count: int, seed: int) -> CaseSuite | None:
    """Return a suite with cases like a recorded one, to be timed; None if there are none."""
    [unit] = suite.manifest.units
    module = suite.module(unit)
    random = np.random.default_rng([seed, 19])
    made = [
        MadeCase(name=f"timed-{number}", call=call, tolerances=tolerances)
        for number, (call, tolerances) in enumerate(
            _drawn(UnitTolerances(module), [_tensors(suite, case)], count, random, {})
        )
    ]
    if not made:
        return None
    found = case_suite(suite, unit, module, made)
    return replace(found, arrays={**suite.arrays, **found.arrays})


def is_small(suite: Suite, case: SuiteCase) -> bool:
    """Whether cases like this one are made, where not all are larger."""
    return _size(_tensors(suite, case)) <= _MOST_VALUES


def _drawn(
    unit: UnitTolerances,
    bases: list[CallTensors],
    count: int,
    random: np.random.Generator,
    reasons: dict[str, None],
) -> Iterator[tuple[CallTensors, list[Tolerance]]]:
    sources = [DrawnProbes(unit, base) for base in bases]
    for number in range(count):
        source = sources[number % len(sources)]
        if source.refused:
            reasons[source.refused] = None
            continue
        for _ in range(_ATTEMPTS):
            drawn = source.draw(int(random.integers(1 << 31)))
            if drawn is not None:
                yield drawn
                break
        else:
            reasons["no other inputs are known that it has accurate results for"] = None


def _tensors(suite: Suite, case: SuiteCase) -> CallTensors:
    return CallTensors(
        function=case.function,
        inputs=tuple(suite.tensor(item.tensor) for item in case.inputs),
        outputs=tuple(suite.tensor(output.tensor) for output in case.outputs),
        weights=(None,) * len(case.inputs),
    )


def _size(call: CallTensors) -> int:
    return sum(math.prod(array.shape) for array in (*call.inputs, *call.outputs))
