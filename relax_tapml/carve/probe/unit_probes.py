"""Cases beyond the recorded ones: the same call with inputs that the run did not happen to have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from relax_tapml.arrays import Array, as_float64, finfo, is_float
from relax_tapml.carve.probe._constants import constants
from relax_tapml.carve.probe._exact import MOST_PROBES, ExactSums, is_exact
from relax_tapml.carve.probe._floats import scaled, shuffled
from relax_tapml.carve.probe._recorded_call import RecordedCall
from relax_tapml.carve.probe._rows import (
    compares_floats,
    negative_rows,
    only_moves_and_adds,
    with_specials,
)
from relax_tapml.carve.probe._whole_numbers import whole_numbers
from relax_tapml.carve.unit.call_tensors import CallTensors
from relax_tapml.carve.unit.copied_axes import CopiedAxes
from relax_tapml.carve.unit.unit_tolerances import UnitTolerances
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.kernel_flow.iterations import iterations
from relax_tapml.suite.recipe import Recipe

LARGE = "large"
SMALL = "small"
ROWS = "rows"
EXACT = "exact"
ANY = "probes"

_LOOKED_AT = 20  # Of a larger result, about 2 to the power of this many values.
# So many of the outputs must be finite, where the recorded ones are, and have an error; and half of
# the errors must be small against the largest output: of this part, or so many eps of the dtype.
_JUDGED = 0.9
_ACCURATE = 1e-2
_ACCURATE_EPS, _LEAST_ACCURATE = 32, 5e-2
# A kernel of more iterations is evaluated for one probe with exact sums, or for two candidates.
_CHEAP = 1e8
# How many times fewer terms are tried than should be few enough.
_SPARSER = (1, 4)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A call that was not recorded.

    Parameters
    ----------
    name
        Unique among the probes of a unit.
    inputs
        Tensors, in order; those that the model alone decides are the recorded ones. Of tensors
        with copies, the places held.
    outputs
        The float64 evaluation of the unit, rounded to the dtypes of the outputs.
    tolerances
        One for each output.
    copies
        The axes along which most places are copies.
    reason
        How the inputs came about, a sentence.
    recipes
        How inputs are made that a suite need not hold, by position.
    """

    name: str
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    tolerances: tuple[Tolerance, ...]
    copies: CopiedAxes
    reason: str
    recipes: Mapping[int, Recipe] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Probes:
    """The probes made from one recorded call.

    Parameters
    ----------
    found
        May be empty.
    inexact
        Which terms of the sums of the unit no probe with exact sums tests, and why; empty if it
        has no sums, or if all terms are tested.
    missing
        Probes that could not be made, by name: why.
    """

    found: tuple[Probe, ...] = ()
    inexact: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)


def probes(
    unit: UnitTolerances,
    recorded: CallTensors,
    *,
    exact: CallTensors,
    fixed: frozenset[int],
    constant: frozenset[int],
    base: str,
) -> Probes:
    """Make a few probes from one recorded call.

    A kernel can be wrong in ways that the recorded inputs do not reveal: a softmax that does not
    subtract the maximum, an epsilon that never counts, a gather that ignores its indices where
    these happened to be in order, a mask that masked nothing.

    Parameters
    ----------
    unit
        Evaluates the unit.
    recorded
        The call.
    exact
        The same call with the copies that probes with exact sums have.
    fixed
        Positions of the inputs that the model alone decides, which stay as they are.
    constant
        Positions of the other inputs that hold one value, the same in all recorded calls.
    base
        Name of the recorded case.

    Returns
    -------
    Probes
        None of them if nothing would change, if the unit cannot be evaluated in float64, or if its
        results would be inaccurate for every candidate.
    """
    held = unit.with_copies(recorded.copies)
    # Exact sums are evaluated faster than others.
    call = held.evaluable(recorded.function, recorded.inputs, recorded.outputs, is_exact=True)
    if call is None:
        return Probes(missing={ANY: held.unevaluated})
    made_of = RecordedCall(
        call=call,
        inputs=recorded.inputs,
        outputs=recorded.outputs,
        fixed=fixed,
        constant=constant,
    )
    maker = _Maker(held, recorded, made_of, exact, base)
    made = [maker.varied(number, name) for number, name in enumerate((LARGE, SMALL))]
    exact_sums, inexact = maker.exact([probe for probe in made if probe is not None])
    made.append(maker.rows())
    found = tuple(probe for probe in (*made, *exact_sums) if probe is not None)
    missing = {name: why for name, why in maker.missing.items() if why}
    if not found and not missing:
        missing[ANY] = "none of its inputs may change"
    return Probes(found=found, inexact=inexact, missing=missing)


@dataclass(frozen=True, kw_only=True)
class _Change:
    """Other inputs by position, and how they came about."""

    arrays: dict[int, Array]
    texts: tuple[str, ...]

    def then(self, arrays: dict[int, Array], text: str) -> _Change:
        """Return the same with more inputs changed; text that is empty is left out."""
        return _Change(
            arrays={**self.arrays, **arrays}, texts=(*self.texts, text) if text else self.texts
        )


class _Maker:
    """Makes candidates from one recorded call, and probes of those that can be evaluated."""

    def __init__(
        self,
        unit: UnitTolerances,
        tensors: CallTensors,
        recorded: RecordedCall,
        exact: CallTensors,
        base: str,
    ) -> None:
        self._unit = unit
        self._function = tensors.function
        self._copies = tensors.copies
        self._recorded = recorded
        self._exact_tensors = exact
        self._base = base
        # Why there is no probe of a name, empty if there is one.
        self.missing: dict[str, str] = {}
        # Whether the unit can be evaluated at all, as far as is known.
        self._is_followed = True
        # Of the whole call, which is what a replay runs.
        self._iterations = iterations(
            recorded.call,
            [array.shape for array in recorded.inputs],
            [array.shape for array in recorded.outputs],
        ) * math.prod(axis.count / len(axis.places) for axis in tensors.copies.axes)

    def varied(self, number: int, name: str) -> Probe | None:
        """Change floats, whole numbers and constants together: none hides a fault of another."""
        if not self._is_short(name):
            return None
        has_specials = number == 1 and only_moves_and_adds(self._recorded)
        for change, ordinary in self._moved(number):
            for floats, text in scaled(ordinary, number):
                made = with_specials(floats) if has_specials else floats
                found = self._probe(name, change.then(made, text))
                if found is not None:
                    return found
                if not self._is_followed:
                    return None
        return None

    def rows(self) -> Probe | None:
        """Make all floats negative, where floats decide something."""
        if not compares_floats(self._recorded) or not self._is_short(ROWS):
            return None
        for change, ordinary in self._moved(0):
            for floats, text in negative_rows(ordinary) if ordinary else ():
                found = self._probe(ROWS, change.then(floats, text))
                if found is not None:
                    return found
        return None

    def _is_short(self, name: str) -> bool:
        """Return whether the unit is evaluated with errors; if not, note why there is no probe."""
        recorded = self._recorded
        call = self._unit.evaluable(self._function, recorded.inputs, recorded.outputs)
        if call is None:
            self.missing[name] = self._unit.unevaluated
        return call is not None

    def exact(self, others: Sequence[Probe]) -> tuple[list[Probe], str]:
        """Make the sums of the unit exact, where it has any.

        Parameters
        ----------
        others
            Probes with larger and smaller inputs. Where the tolerances of all detect one wrong
            term, and no place is a copy of another, exact sums detect no more.

        Returns
        -------
        tuple
            Probes, and which terms of the sums none of them tests, and why; empty if they test all.
        """
        sums = ExactSums(self._recorded)
        if not self._is_followed or not sums.has_sums:
            return [], ""
        # Also where these have copies: then exact sums have none along the axes of weights.
        if (
            others
            and not self._copies.axes
            and all(all(map(sums.sees_terms, other.outputs, other.tolerances)) for other in others)
        ):
            return [], ""
        if sums.obstacle:
            return [], sums.obstacle
        tensors = self._exact_tensors
        unit = self._unit.with_copies(tensors.copies)
        call = unit.evaluable(self._function, tensors.inputs, tensors.outputs, is_exact=True)
        if call is None:
            return [], unit.unevaluated
        sums = ExactSums(
            replace(self._recorded, call=call, inputs=tensors.inputs, outputs=tensors.outputs)
        )
        most = MOST_PROBES if self._iterations <= _CHEAP else 1
        for more in _SPARSER:
            parts = sums.parts(more)
            found: list[Probe] = []
            for part in range(min(parts, most)):
                made = self._exact(unit, sums, part, more)
                if made is None:
                    break
                found.append(made)
            if found:
                share = len(found) / parts
                text = "" if share == 1 else f"{share:.0%} of the terms of its sums are tested"
                return found, text
        return [], "its sums are rounded also for small whole numbers"

    def _exact(self, unit: UnitTolerances, sums: ExactSums, part: int, more: int) -> Probe | None:
        floats = sums.inputs(part, more=more)
        tensors = self._exact_tensors
        inputs = tuple(floats.arrays.get(n, array) for n, array in enumerate(tensors.inputs))
        evaluated = unit.evaluated(self._function, inputs, tensors.outputs, is_exact=True)
        if evaluated is None or not all(map(is_exact, *evaluated)):
            return None
        results, tolerances = evaluated
        parts = sums.parts(more)
        terms = "every term" if parts == 1 else f"one term in {parts}"
        return Probe(
            name=EXACT if part == 0 else f"{EXACT}{part + 1}",
            inputs=inputs,
            outputs=tuple(results),
            tolerances=tuple(tolerances),
            copies=tensors.copies,
            reason=f"probe: small whole numbers, of which sums are exact in every order, {terms}",
            recipes={n: r for n, r in floats.recipes.items() if n not in tensors.copies.inputs},
        )

    def _moved(self, number: int) -> Iterator[tuple[_Change, dict[int, Array]]]:
        """Yield changes of everything but the scale of floats, and the floats to be scaled.

        First one of all inputs; then one in which whole numbers and constants stay, since a unit
        may be undefined for others: a mask may leave nothing of a row of scores.
        """
        recorded = self._recorded
        steady = constants(recorded, number)
        moved = shuffled(recorded, number)
        shuffle = _Change(arrays=moved, texts=("shuffled",) if moved else ())
        all_ = self._whole(shuffle.then(steady, "constants varied" if steady else ""), number)
        if all_.arrays:
            yield all_, {n: all_.arrays[n] for n in recorded.floats if n not in steady}
        has_more = bool(steady) or all_.arrays.keys() > moved.keys()
        if moved and has_more and recorded.is_inside(self._inputs(shuffle)):
            yield shuffle, {n: moved[n] for n in recorded.floats}

    def _whole(self, change: _Change, number: int) -> _Change:
        """Add other whole numbers, those that keep the kernel inside its tensors."""
        for arrays, text in whole_numbers(self._recorded, number):
            candidate = change.then(arrays, text)
            if self._recorded.is_inside(self._inputs(candidate)):
                return candidate
        if self._recorded.is_inside(self._inputs(change)):
            return change
        # Bool that decides where something is read stays as well.
        floats = {n: array for n, array in change.arrays.items() if n in self._recorded.floats}
        return _Change(arrays=floats, texts=("shuffled",) if floats else ())

    def _probe(self, name: str, change: _Change) -> Probe | None:
        inputs = self._inputs(change)
        asked: list[bool] = []

        def is_promising(
            results: Sequence[Array], tolerances: Sequence[Tolerance], recorded: Sequence[Array]
        ) -> bool:
            asked.append(all(map(is_accurate, results, tolerances, recorded)))
            return asked[-1]

        evaluated = self._unit.evaluated(
            self._function, inputs, self._recorded.outputs, is_promising=is_promising
        )
        if evaluated is None and all(asked):
            self._is_followed = False
            self.missing[name] = self._unit.unevaluated
            return None
        if evaluated is None or not all(map(is_accurate, *evaluated, self._recorded.outputs)):
            self.missing[name] = "its results would be inaccurate for all inputs that were tried"
            return None
        results, tolerances = evaluated
        self.missing[name] = ""
        return Probe(
            name=name,
            inputs=inputs,
            outputs=tuple(results),
            tolerances=tuple(tolerances),
            copies=self._copies,
            reason=f"probe: inputs of {self._base}, {_listed(change.texts)}",
        )

    def _inputs(self, change: _Change) -> tuple[Array, ...]:
        recorded = self._recorded.inputs
        return tuple(change.arrays.get(n, array) for n, array in enumerate(recorded))


def _listed(parts: Sequence[str]) -> str:
    *others, last = parts
    return f"{', '.join(others)} and {last}" if others else last


def is_accurate(result: Array, tolerance: Tolerance, recorded: Array) -> bool:
    """Return whether most values have a bound that is small against the results.

    Of a large result about a million values are looked at, at even distances.
    """
    if not is_float(result.dtype) or result.size == 0:
        return True
    # Odd, so that it does not meet the same column in each row.
    some = slice(None, None, (result.size >> _LOOKED_AT) | 1)
    wide = as_float64(result.reshape(-1)[some])
    allowed = tolerance.allowed(result).reshape(-1)[some]
    is_finite, was_finite = np.isfinite(wide), np.isfinite(as_float64(recorded.reshape(-1)[some]))
    if is_finite.sum() < _JUDGED * was_finite.sum() or not is_finite.any():
        return False
    is_judged = np.isfinite(allowed)
    if is_judged.mean() < _JUDGED:
        return False
    largest = np.abs(wide[is_finite]).max()
    part = max(_ACCURATE, min(_ACCURATE_EPS * float(finfo(result.dtype).eps), _LEAST_ACCURATE))
    return bool(largest > 0 and np.median(allowed[is_judged & is_finite]) <= part * largest)
