"""Tolerances of calls that take too long to evaluate: some elements by evaluation, others by rule.

A grid of elements along the free axes of the kernel is evaluated, and has derived bounds. All
others have the rule of their dtype, made wider where the grid shows that it is too narrow.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from relax_tapml.arrays import Array, as_float64, is_float
from relax_tapml.compare.tolerances.elements import ElementTolerance, rounded_up
from relax_tapml.compare.tolerances.rule import tolerance_for
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.kernel_flow.free_axes import FreeAxis, free_axes
from relax_tapml.kernel_flow.interval import bounds
from relax_tapml.kernel_flow.iterations import iterations_of
from relax_tapml.kernel_flow.kernel_call import KernelCall
from relax_tapml.kernel_flow.plain_kernel import plain_kernel
from relax_tapml.kernel_flow.restricted_kernel import restricted_kernel

SAMPLED_ITERATIONS = 3e7
"""How often the innermost loops of a kernel run for the elements of a sample."""

SAFETY = 2.0
"""What is not sampled may be off by so many times what the sample shows, if that is more than the
rule of its dtype."""

_PART = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Some elements of the results of one call, as a grid along free axes.

    Parameters
    ----------
    function
        The kernel restricted to the axes.
    axes
        The axes.
    values
        Of each axis, ascending.
    """

    function: tirx.PrimFunc
    axes: tuple[FreeAxis, ...]
    values: tuple[Array, ...]

    def arguments(self, arguments: Mapping[int, Array]) -> dict[int, Array]:
        """Return the arguments of the restricted kernel."""
        found = dict(arguments)
        for axis, values in zip(self.axes, self.values, strict=True):
            for at in axis.inputs:
                found[at.param] = found[at.param].take(values, axis=at.dim)
        first = len(self.function.params) - len(self.axes)
        return found | {first + number: values for number, values in enumerate(self.values)}

    def grid(self, number: int, shape: Sequence[int]) -> tuple[Array, ...]:
        """Return the places of the sampled elements in a result, an index for ``np.ix_``."""
        places = [np.arange(extent) for extent in shape]
        for axis, values in zip(self.axes, self.values, strict=True):
            for at in axis.results:
                if at.param == number:
                    places[at.dim] = values
        return np.ix_(*places)

    def tolerance(self, number: int, sampled: Tolerance, oracle: Array, reason: str) -> Tolerance:
        """Return the tolerance of a whole result.

        Parameters
        ----------
        number
            Of the parameter.
        sampled
            The tolerance of the sampled elements.
        oracle
            What the source returned.
        reason
            Why not all are evaluated.
        """
        rule = tolerance_for(oracle)
        if not isinstance(sampled, ElementTolerance) or not is_float(oracle.dtype):
            return rule
        grid = self.grid(number, oracle.shape)
        some = np.ascontiguousarray(oracle[grid])
        derived = sampled.allowed(some)
        with np.errstate(all="ignore"):
            ratios = SAFETY * derived / rule.allowed(some)
        ratio = max(1.0, float(ratios[np.isfinite(ratios)].max(initial=0.0)))
        flat = oracle.reshape(-1)
        bound = np.empty(flat.shape, sampled.bound.dtype)
        for start in range(0, flat.size, _PART):
            part = flat[start : start + _PART]
            allowed = rule.allowed(part) * ratio
            allowed[~np.isfinite(as_float64(part))] = np.nan
            bound[start : start + _PART] = rounded_up(allowed, oracle.dtype)
        bound = bound.reshape(oracle.shape)
        bound[grid] = sampled.bound
        coarse = None
        if sampled.low_precision is not None:
            coarse = np.full_like(bound, np.nan)
            coarse[grid] = sampled.low_precision
        wider = f"{ratio:.2g} times as wide as " if ratio > 1 else ""
        return ElementTolerance(
            bound=bound,
            origin=(
                f"{some.size} of {oracle.size} elements: {sampled.origin}; others, because "
                f"{reason}: {wider}{rule.origin}"
            ),
            low_precision=coarse,
        )


def sample_of(
    function: tirx.PrimFunc,
    results: Sequence[int],
    shapes: Mapping[int, tuple[int, ...]],
    scalars: Mapping[int, float],
    oracles: Sequence[Array],
) -> Sample | None:
    """Choose the elements of a sample, by a seed from the shapes; None where no axis is free.

    Half of the values of an axis are its ends, and where the first result is largest, least, or
    not finite; the others are drawn.

    Parameters
    ----------
    function
        As Relax lowers operators.
    results
        Numbers of its parameters that hold results.
    shapes, scalars
        Of parameters, by number.
    oracles
        What the source returned.
    """
    plain = plain_kernel(function)
    axes = [a for a in free_axes(plain) if {at.param for at in a.results} == set(results)]
    dims = KernelCall(kernel=plain, scalars=dict(scalars)).fixed(shapes)
    found = [(axis, bounds(axis.extent, dims)) for axis in axes]
    known = [(axis, extent.high) for axis, extent in found if extent is not None]
    if not known:
        return None
    chosen = [axis for axis, _ in known]
    restricted = restricted_kernel(plain, chosen)
    sizes = [extent for _, extent in known]
    first = len(plain.params)
    while max(sizes) > 1:
        changed = {first + number: (size,) for number, size in enumerate(sizes)}
        # The other dimensions of a restricted kernel are those of the kernel.
        kept = {variable: interval.high for variable, interval in dims.items()}
        if iterations_of(restricted, changed, scalars, kept) <= SAMPLED_ITERATIONS:
            break
        largest = max(range(len(sizes)), key=lambda number: sizes[number])
        sizes[largest] = (sizes[largest] + 1) // 2
    rng = np.random.default_rng(zlib.crc32(repr(sorted(shapes.items())).encode()))
    extremes = _extremes(oracles[0])
    values = []
    for (axis, extent), size in zip(known, sizes, strict=True):
        dim = min(at.dim for at in axis.results if at.param == results[0])
        first_ones = [0, extent - 1, *(place[dim] for place in extremes)]
        picked = list(dict.fromkeys(map(int, first_ones)))[: max(1, size // 2)]
        others = rng.permutation(extent)
        more = others[~np.isin(others, picked)][: size - len(picked)]
        values.append(np.sort(np.concatenate([np.asarray(picked, np.int64), more])))
    return Sample(function=restricted, axes=tuple(chosen), values=tuple(values))


def _extremes(oracle: Array) -> list[tuple[int, ...]]:
    """Return the places of the largest and least magnitude, and of a value that is not finite."""
    if not oracle.size:
        return []
    flat = oracle.reshape(-1)
    found: dict[str, tuple[float, int]] = {}
    for start in range(0, flat.size, _PART):
        size = np.abs(as_float64(flat[start : start + _PART]))
        is_finite = np.isfinite(size)
        if not is_finite.all():
            found.setdefault("other", (0.0, start + int(np.argmin(is_finite))))
        for name, values in (
            ("largest", np.where(is_finite, size, -math.inf)),
            ("least", np.where(is_finite, -size, -math.inf)),
        ):
            place = int(values.argmax())
            if name not in found or values[place] > found[name][0]:
                found[name] = float(values[place]), start + place
    return [tuple(map(int, np.unravel_index(place, oracle.shape))) for _, place in found.values()]
