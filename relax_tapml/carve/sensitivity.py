"""How far a model's outputs may be from the source's when every kernel is right.

Each operator of a right target differs from the source's within the tolerance of its unit, and what
follows may amplify that: a deep model, or a sharp softmax, far more than the dtype of the output
suggests. So the source is run again with the result of every operator perturbed at random, as far
as its tolerance allows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from relax_tapml.arrays import Array, as_float64, is_float
from relax_tapml.carve.select.tensor_statistics import MASK
from relax_tapml.compare.magnitudes import PART, root_mean_square_of
from relax_tapml.compare.tolerances.difference import absolute_difference
from relax_tapml.compare.tolerances.elements import ElementTolerance
from relax_tapml.compare.tolerances.rule import tolerance_for
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.compare.tolerances.usual_magnitude import usual_magnitude
from relax_tapml.cores import in_threads, slices
from relax_tapml.kernel_flow.kernel_call import kernel_call_of
from relax_tapml.suite.open_suite import Suite
from relax_tapml.suite.tolerances import read_tolerance

RUNS = 3
_FACTOR = 4.0  # So few runs do not reach the largest distance.
_ORIGIN = (
    f"what the dtype allows, plus {_FACTOR:g} times as far as the source's output moved in {RUNS} "
    "runs in which each operator's result moved within the tolerance of its unit"
)

_GAP = 1e3  # Mask values are that far above all others.
_BLOCK = 1 << 18  # Values that are moved at a time: they stay in the cache.
_SAMPLED = 4096  # Values by which noise is scaled.
# Of a larger oracle, as of a permuted weight, parts are looked at that lie apart.
_MOST_VALUES, _PART = 1 << 20, 1 << 14
_LEAST = 1e-30  # Less is what may be flushed to zero.

Instrument = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How far the results of a unit may be off.

    Parameters
    ----------
    level
        Relative to ``|y| + usual``, where ``usual`` is the usual magnitude of the result.
    results
        Positions of the results among the arguments of its kernel.
    """

    level: float
    results: tuple[int, ...]


def noise_levels(suite: Suite, moved: Collection[str] | None = None) -> dict[str, Noise]:
    """Return the noise of each unit that is one PrimFunc and rounds.

    The level is the median over the values of recorded cases. Units whose results must be equal,
    or are whole numbers, are left out.

    Parameters
    ----------
    suite
        Whose units.
    moved
        The units that may be on a device; None for all. Others run the source's kernels, so theirs
        and those that only they run make no noise: one with a blunt tolerance would hide what is
        wrong with all others.
    """
    levels: dict[str, Noise] = {}
    kernels = set(suite.manifest.units) if moved is None else _kernels_of(suite, moved)
    for name, unit in suite.manifest.units.items():
        if name not in kernels:
            continue
        call = kernel_call_of(suite.module(name), unit.cases[0].function)
        if call is None:
            continue
        shares = []
        for case in unit.cases:
            for output in case.outputs if not case.is_probe else ():
                oracle = suite.tensor(output.tensor)
                if is_float(oracle.dtype) and oracle.size:
                    tolerance = read_tolerance(suite.as_allowed(name), case, output)
                    shares.append(_shares(oracle, tolerance))
        if not shares:
            continue
        judged = np.concatenate(shares)
        judged = judged[np.isfinite(judged)]
        level = float(np.median(judged)) if judged.size else 0.0
        if level > _LEAST:
            levels[name] = Noise(level=level, results=tuple(call.results))
    suite.forget_made()
    return levels


def _shares(oracle: Array, tolerance: Tolerance) -> Array:
    """Return how far values may be off, relative to their size; of a large oracle some of them."""
    if oracle.size > _MOST_VALUES and tolerance.is_elementwise:
        flat = oracle.reshape(-1)
        starts = np.linspace(0, flat.size - _PART, _MOST_VALUES // _PART).astype(np.int64)
        parts = [slice(int(start), int(start) + _PART) for start in starts]
        allowed = np.concatenate([tolerance.part(part).allowed(flat[part]) for part in parts])
        oracle = np.concatenate([flat[part] for part in parts])
    else:
        allowed = tolerance.allowed(oracle)
    scale = _scale(oracle)
    # What may be flushed to zero is not noise.
    allowed = np.where(allowed > _LEAST, allowed, 0.0)
    return np.asarray(allowed[scale > 0] / scale[scale > 0])


def _kernels_of(suite: Suite, units: Collection[str]) -> set[str]:
    """Return the units and what they run, as far as the suite has cases of them."""
    return {
        gvar.name_hint
        for unit in suite.manifest.units
        if unit in units
        for gvar in suite.module(unit).get_global_vars()
    }


def noise(levels: Mapping[str, Noise], seed: int) -> Instrument:
    """Return an instrument for a Relax VM that moves what the kernels of units store.

    Parameters
    ----------
    levels
        From ``noise_levels``.
    seed
        Of the random numbers.
    """
    calls = count()

    def instrument(_func: Any, name: str, before_run: bool, _ret: Any, *args: Any) -> None:
        found = levels.get(name)
        if before_run or found is None:
            return
        for position in found.results:
            result = args[position]
            array = result.numpy()
            if not is_float(array.dtype):
                continue
            result.copyfrom(_moved(array, found.level, (seed, next(calls))))

    return instrument


def _moved(array: Array, level: float, seeds: tuple[int, int]) -> Array:
    """Return an array whose values are moved at random, each as far as ``level`` of its scale.

    In blocks, each with random numbers of its own, in threads, and in float32 unless the values are
    wider: this is done for all results of a run.
    """
    kind = np.float64 if array.dtype.itemsize > 4 else np.float32
    flat = array.reshape(-1)
    moved = np.empty_like(flat)
    usual = usual_magnitude(flat[:: max(1, flat.size // _SAMPLED)])

    def move(place: slice) -> None:
        rng = np.random.Generator(np.random.SFC64([*seeds, place.start]))
        with np.errstate(over="ignore", invalid="ignore"):
            values: Any = flat[place].astype(kind)
            random = rng.random(values.shape, kind)
            random *= 2 * level
            random -= level
            size = np.abs(values)
            is_held = ~np.isfinite(values) | _is_mask(size, usual)
            size += usual
            random *= size
            random[is_held] = 0
            values += random
            moved[place] = values.astype(array.dtype)

    in_threads(move, slices(flat.size, _BLOCK))
    return moved.reshape(array.shape)


def output_tolerances(
    outputs: Sequence[Array], disturbed: Sequence[Sequence[Array]]
) -> list[Tolerance]:
    """Return how far each output of a sample may be from the source's.

    Parameters
    ----------
    outputs
        Of the source.
    disturbed
        Of the same source with noise, run by run.
    """
    tolerances: list[Tolerance] = []
    for number, oracle in enumerate(outputs):
        runs = [run[number] for run in disturbed]
        if not is_float(oracle.dtype) or any(run.shape != oracle.shape for run in runs):
            tolerances.append(tolerance_for(oracle))
        else:
            bound = _bound(oracle.reshape(-1), [run.reshape(-1) for run in runs])
            tolerances.append(ElementTolerance(bound=bound.reshape(oracle.shape), origin=_ORIGIN))
    return tolerances


def _bound(oracle: Array, runs: Sequence[Array]) -> Array:
    """Return how far each value may be off, of one axis; float32 unless the oracle is wider."""
    rule = tolerance_for(oracle)
    bound = np.empty(oracle.shape, np.float64 if oracle.dtype.itemsize > 4 else np.float32)

    def apart(part: slice) -> list[Array]:
        """NaN where a run is not finite: such a value may be anything."""
        return [absolute_difference(oracle[part], run[part]) for run in runs]

    def known(part: slice) -> Array:
        found = np.concatenate([np.zeros(0), *apart(part)])
        return np.asarray(found[np.isfinite(found)])

    usual = root_mean_square_of(known, oracle.size)

    def fill(part: slice) -> None:
        own = oracle[part]
        farthest = np.maximum.reduce([np.zeros(own.shape), *apart(part)])
        allowed = rule.allowed(own) + _FACTOR * np.maximum(farthest, usual)
        # Where the oracle itself is not finite it must be met, unless noise changes that.
        is_held = ~np.isfinite(as_float64(own)) & ~_differ_in_kind(own, [run[part] for run in runs])
        allowed[is_held] = 0.0
        with np.errstate(over="ignore"):
            bound[part] = allowed
        is_less = bound[part] < allowed
        bound[part][is_less] = np.nextafter(bound[part][is_less], np.inf, dtype=bound.dtype)

    in_threads(fill, slices(oracle.size, PART))
    return bound


def _differ_in_kind(oracle: Array, runs: Sequence[Array]) -> Array:
    wide = as_float64(oracle)
    same = [(as_float64(run) == wide) | (np.isnan(run) & np.isnan(wide)) for run in runs]
    return np.asarray(~np.all(same, axis=0))


def _scale(array: Array) -> Array:
    """Return what noise is relative to; 0 for infinities and mask values, which do not move."""
    wide, usual = as_float64(array), usual_magnitude(array)
    size = np.abs(wide)
    return np.where(np.isfinite(wide) & ~_is_mask(size, usual), size + usual, 0.0)


def _is_mask(size: Array, usual: float) -> Array:
    return np.asarray((size >= -MASK) & (size > _GAP * usual))
