"""Random inputs in place of recorded ones, of the same shapes and dtypes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from relax_tapml.arrays import Array, finfo, is_float

_EXTREMES = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e4, -1e4, 88.0, -104.0)
# Above this a value masks something.
_MASK = 1e30

Draw = Callable[[np.random.Generator, Array], Array]


@dataclass(frozen=True, kw_only=True)
class WideInputs:
    """One kind of inputs for telling kernels apart.

    Parameters
    ----------
    name
        For people.
    is_near
        Whether all values are in the range of the recorded ones, or at most twice as large.
    arrays
        Of the shapes and dtypes of the recorded ones.
    """

    name: str
    is_near: bool
    arrays: list[Array]


def normal_inputs(recorded: Sequence[Array], seed: int) -> list[Array]:
    """Return standard normal values, and whole numbers from the range of the recorded ones.

    Whole numbers may be indices, so they stay in the range that is known to be valid.
    """
    rng = np.random.default_rng(seed)
    return [_drawn(_normal(1.0), rng, array, is_near=False) for array in recorded]


def wide_inputs(recorded: Sequence[Array], seed: int) -> Iterator[WideInputs]:
    """Yield many kinds of inputs, those near the recorded ones first.

    Two kernels that agree on all of them are taken to be equivalent. Bool tensors of up to 8
    values are tried in all their states.
    """
    rng = np.random.default_rng(seed)
    for kinds, is_near in ((_NEAR, True), (_FAR, False)):
        for name, draw in kinds.items():
            arrays = [_drawn(draw, rng, array, is_near=is_near) for array in recorded]
            yield WideInputs(name=name, is_near=is_near, arrays=arrays)
    same = [_constant(array) for array in recorded]
    yield WideInputs(name="all values the same", is_near=False, arrays=same)
    for position, array in enumerate(recorded):
        for name, other in _replacements(rng, array):
            arrays = [*recorded[:position], other, *recorded[position + 1 :]]
            yield WideInputs(
                name=f"recorded, but input {position} {name}", is_near=False, arrays=arrays
            )


def _replacements(rng: np.random.Generator, array: Array) -> Iterator[tuple[str, Array]]:
    """Yield other values for one input, while the others keep theirs."""
    if is_float(array.dtype):
        yield "large", _drawn(_FAR["large"], rng, array, is_near=False)
    elif array.dtype == bool and array.size <= 8:
        for state in range(2**array.size):
            bits = [bool(state >> i & 1) for i in range(array.size)]
            yield f"is {bits}", np.array(bits).reshape(array.shape)


def _normal(scale: float) -> Draw:
    return lambda rng, array: np.asarray(rng.standard_normal(array.shape) * scale)


def _uniform(rng: np.random.Generator, array: Array) -> Array:
    return np.asarray(rng.uniform(0.0, 1.0, array.shape))


def _with_extremes(rng: np.random.Generator, array: Array) -> Array:
    values = rng.standard_normal(array.shape)
    chosen = rng.random(array.shape) < 0.1
    return np.where(chosen, rng.choice(_EXTREMES, array.shape), values)


def _perturbed(rng: np.random.Generator, array: Array) -> Array:
    values = array.astype(np.float64)
    return values * (1 + 0.1 * rng.standard_normal(array.shape))


def _shuffled(rng: np.random.Generator, array: Array) -> Array:
    return np.asarray(rng.permutation(array.reshape(-1)).reshape(array.shape), np.float64)


def _within(rng: np.random.Generator, array: Array) -> Array:
    values = array.astype(np.float64)
    usual = values[np.abs(values) < _MASK]
    low, high = (usual.min(), usual.max()) if usual.size else (0.0, 0.0)
    return np.where(np.abs(values) < _MASK, rng.uniform(low, high, array.shape), values)


_NEAR: dict[str, Draw] = {
    "recorded, moved by 10 %": _perturbed,
    "recorded, shuffled": _shuffled,
    "within the recorded range": _within,
    "twice the recorded values": lambda _, array: 2 * array.astype(np.float64),
}
_FAR: dict[str, Draw] = {
    "normal": _normal(1.0),
    "between 0 and 1": _uniform,
    "large": _normal(100.0),
    "tiny": _normal(1e-4),
    "with extremes": _with_extremes,
}


def _drawn(draw: Draw, rng: np.random.Generator, array: Array, *, is_near: bool) -> Array:
    if is_float(array.dtype):
        limit = float(finfo(array.dtype).max)
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(np.clip(draw(rng, array), -limit, limit), array.dtype)
    if is_near or array.size == 0:
        return np.asarray(rng.permutation(array.reshape(-1)).reshape(array.shape))
    if array.dtype == bool:
        return np.asarray(rng.random(array.shape) < 0.5)
    low, high = int(array.min()), int(array.max())
    drawn = rng.integers(low, high, array.shape, endpoint=True, dtype=np.int64)
    return np.asarray(drawn, array.dtype)


def _constant(array: Array) -> Array:
    if is_float(array.dtype) or array.size == 0:
        return np.full(array.shape, 0.5, array.dtype)
    return np.full(array.shape, array.min(), array.dtype)
