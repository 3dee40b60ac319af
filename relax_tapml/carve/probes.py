"""Cases beyond the recorded ones: the same call with inputs that the run did not happen to have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from relax_tapml.carve.derived import UnitTolerances
from relax_tapml.carve.tensor_numbers import MASK
from relax_tapml.compare.dtypes import as_float64, is_float
from relax_tapml.compare.tolerance import Tolerance
from relax_tapml.frontend.model import Array

LARGE = "large"
SMALL = "small"

# The first that the unit can be evaluated for. Whole numbers times these have digits to lose.
_FACTORS = {
    LARGE: (997.0, 61.7, 7.3, 1.9),
    SMALL: (-1.03e-12, 1.03e-12, -1.03e-3, 1.03e-3),
}
# So many of the outputs must be finite, where the recorded ones are, and have an error; and half of
# the errors must be small against the largest output.
_JUDGED = 0.9
_ACCURATE = 1e-2


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A call that was not recorded.

    Parameters
    ----------
    name
        ``large`` or ``small``.
    inputs
        Tensors, in order; those that the model alone decides are the recorded ones.
    outputs
        The float64 evaluation of the unit, rounded to the dtypes of the outputs.
    tolerances
        One for each output.
    reason
        How the inputs came about, for people.
    """

    name: str
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    tolerances: tuple[Tolerance, ...]
    reason: str


def probes(
    unit: UnitTolerances,
    function: str,
    inputs: Sequence[Array],
    outputs: Sequence[Array],
    *,
    fixed: frozenset[int],
    base: str,
) -> Iterator[Probe]:
    """Yield up to two probes made from one recorded call.

    A kernel can be wrong in ways that the recorded inputs do not show: a softmax that does not
    subtract the maximum, an epsilon that never counts, a mask whose rows are all alike. So floats
    are shuffled and made larger, or smaller with the other sign, and bool is shuffled. Whole
    numbers stay as they are, since they may be indices; and so do NaN, infinities and mask values.

    Parameters
    ----------
    unit
        Evaluates the unit.
    function
        Of the unit's module: the one that does the call.
    inputs, outputs
        Tensors of the recorded call, in order.
    fixed
        Positions of the inputs that the model alone decides, which stay as they are.
    base
        Name of the recorded case.

    Yields
    ------
    Probe
        Nothing if nothing would change, if the unit cannot be evaluated in float64, or if its
        results would be inaccurate for every factor.
    """
    free = [
        place
        for place, array in enumerate(inputs)
        if place not in fixed and array.size and (is_float(array.dtype) or array.dtype.kind == "b")
    ]
    if not free:
        return
    for number, (name, factors) in enumerate(_FACTORS.items()):
        shuffled = list(inputs)
        for place in free:
            generator = np.random.default_rng([number, place])
            order = generator.permutation(inputs[place].size)
            shuffled[place] = inputs[place].reshape(-1)[order].reshape(inputs[place].shape)
        for factor in factors:
            changed = [
                _scaled(array, factor) if place in free else array
                for place, array in enumerate(shuffled)
            ]
            evaluated = unit.evaluated(function, changed, outputs)
            if evaluated is None:
                return
            results, tolerances = evaluated
            if all(map(_is_accurate, results, tolerances, outputs)):
                yield Probe(
                    name=name,
                    inputs=tuple(changed),
                    outputs=tuple(results),
                    tolerances=tuple(tolerances),
                    reason=f"probe: inputs of {base}, shuffled and times {factor:g}",
                )
                break


def _scaled(array: Array, factor: float) -> Array:
    if not is_float(array.dtype):
        return array
    wide = as_float64(array)
    # Far from the limit of the dtype, so that a product of two does not reach it at once.
    is_ordinary = np.isfinite(wide) & (wide > MASK) & (wide < -MASK)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(is_ordinary, wide * factor, wide).astype(array.dtype)


def _is_accurate(result: Array, tolerance: Tolerance, recorded: Array) -> bool:
    """Return whether most values are held to something that means something."""
    if not is_float(result.dtype) or result.size == 0:
        return True
    wide, allowed = as_float64(result), tolerance.allowed(result)
    is_finite, was_finite = np.isfinite(wide), np.isfinite(as_float64(recorded))
    if is_finite.sum() < _JUDGED * was_finite.sum() or not is_finite.any():
        return False
    is_judged = np.isfinite(allowed)
    if is_judged.mean() < _JUDGED:
        return False
    largest = np.abs(wide[is_finite]).max()
    return bool(largest > 0 and np.median(allowed[is_judged & is_finite]) <= _ACCURATE * largest)
