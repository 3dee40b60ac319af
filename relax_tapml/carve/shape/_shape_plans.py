"""Which other extents the symbolic dimensions of a call are tried with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tvm import tirx

from relax_tapml.capture.values import CallRecord
from relax_tapml.carve.shape._symbolic_call import Sizes, SymbolicCall, SymbolicFunction
from relax_tapml.kernel_flow.stores import NotAnalyzableError

MOST_PROBES = 6
"""Of one unit. They are small, and each finds kernels that the others do not."""

# Those of the usual schedules; a suite is for any target.
_TILES = (128, 64, 32, 16)


@dataclass(frozen=True, kw_only=True)
class ShapePlan:
    """A call with other sizes, before its tensors are made.

    Parameters
    ----------
    sizes
        Of all symbolic variables of the call.
    record
        The call with the shapes that follow.
    """

    sizes: Sizes
    record: CallRecord


def shape_plans(
    function: SymbolicFunction, call: SymbolicCall, seen: Mapping[tirx.Var, frozenset[int]]
) -> list[ShapePlan]:
    """Choose other extents for the symbolic dimensions of a call.

    A kernel may be right for a multiple of its tile only, for less than a tile, or for more than
    one element. So every variable gets: the least that is allowed, the next, an odd prime, the
    powers of two around what was recorded and the sizes of usual tiles, with one less and one more,
    and the most that is allowed. Variables are changed together, each to another kind of value.

    Parameters
    ----------
    function, call
        What the model declares about the variables, and the call.
    seen
        Values that recorded calls had already.

    Returns
    -------
    list of ShapePlan
        The most useful first; more than are needed, because some cannot be made. Variables that
        weights decide keep their value.
    """
    free = [variable for variable in call.sizes if variable not in function.weights]
    choices = {
        variable: _values(function, call.sizes, variable, seen.get(variable, frozenset()))
        for variable in free
    }
    found: dict[tuple[int, ...], ShapePlan] = {}
    for sizes in _combined(call.sizes, choices):
        key = tuple(sizes.values())
        if key in found or sizes == call.sizes or not function.allows(sizes, call.sizes):
            continue
        try:
            found[key] = ShapePlan(sizes=sizes, record=call.resized(sizes))
        except NotAnalyzableError:
            continue
    return list(found.values())


def _combined(
    recorded: Sizes, choices: Mapping[tirx.Var, Sequence[int]]
) -> Iterator[dict[tirx.Var, int]]:
    """Yield sizes for all variables at once, then for each alone, in case those are too much."""
    choices = {variable: values for variable, values in choices.items() if values}
    most = max(map(len, choices.values()), default=0)
    for start in range(0, most, MOST_PROBES):
        for number in range(MOST_PROBES):
            turned = {}
            for turn, (variable, values) in enumerate(choices.items()):
                # So every variable has its most useful values in as many probes as there are.
                part = values[start : start + MOST_PROBES] or values[:MOST_PROBES]
                turned[variable] = part[(number + turn) % len(part)]
            yield {**recorded, **turned}
    if len(choices) > 1:
        yield {**recorded, **{variable: values[0] for variable, values in choices.items()}}
        for number in range(most):
            for variable, values in choices.items():
                if number < len(values):
                    yield {**recorded, variable: values[number]}


def _values(
    function: SymbolicFunction, recorded: Sizes, variable: tirx.Var, seen: frozenset[int]
) -> list[int]:
    size = recorded[variable]
    lowest = max(1, function.lowest.get(variable.name, 1))
    highest = function.highest.get(variable.name)
    below = 1 << (size.bit_length() - 1)
    tile = next((t for t in _TILES if highest is None or t < highest), 2)
    nearest = [below + 1, below - 1, 2 * below - 1, 2 * below + 1, below, 2 * below]
    candidates = [lowest, tile + 1, _prime(size), lowest + 1, tile - 1, highest or tile]
    candidates += [*nearest, *(t + d for t in _TILES for d in (1, -1, 0))]
    period = function.period
    found: dict[int, None] = {}
    for value in candidates:
        # Where the model divides the dimension, keep what is left over.
        fitting = value if period == 1 else value + (size - value) % period
        for candidate in (value, fitting):
            alone = {**recorded, variable: candidate}
            if candidate not in seen and candidate != size and function.allows(alone, recorded):
                found[candidate] = None
                break
    return list(found)


def _prime(size: int) -> int:
    """Return the odd prime nearest to a size, of those that differ from it by at least one."""
    near = (n for d in range(1, size + 7) for n in (size - d, size + d) if n > 4)
    return next(n for n in near if all(n % by for by in range(2, math.isqrt(n) + 1)))
