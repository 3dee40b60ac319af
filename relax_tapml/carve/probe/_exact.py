"""Inputs for which a sum is exact in every order, so that one wrong term is found.

The tolerance of a sum of many terms allows for their roundings, so it may hide one dropped term.
Where all terms are small whole numbers times a power of two, and no partial sum has more digits
than the dtype of the sum, nothing is rounded, whatever the order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from tvm.ir import Op
from tvm.ir import expr as ir_expr

from relax_tapml._compat import bitwise, buffer_of, prim, prim_op
from relax_tapml.arrays import Array, as_float64, dtype_named, finfo, is_float
from relax_tapml.carve.probe._recorded_call import RecordedCall
from relax_tapml.carve.probe._roles import Flow
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.kernel_flow.expressions import is_float_expr, is_sum, loads, nodes
from relax_tapml.kernel_flow.interval import bounds
from relax_tapml.kernel_flow.stores import NotAnalyzableError, Store, stores_of
from relax_tapml.suite.recipe import Recipe

MOST_PROBES = 4
"""Probes that share the terms of a sum, where one cannot have all."""

# How large a packed weight of four bits is on average, without its zero point.
_PACKED = 4
# Terms that are drawn are more in one sum than in another.
_ROOM = 1.25
_ULPS = 8
_JUDGED = 0.9
_SMALL_PART = 1e-3
_CHOICES = {prim_op("if_then_else"), prim_op("likely"), "tirx.fabs"}
_OF_POSITIVE = {"tirx.sqrt", "tirx.rsqrt", "tirx.log", "tirx.log2", "tirx.pow"}
_MOST_PARTS = 64
_SEEDS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class ExactInputs:
    """Floats for a call.

    Parameters
    ----------
    recipes
        How each is made, by position of the input.
    arrays
        The same, made.
    """

    recipes: dict[int, Recipe]
    arrays: dict[int, Array]


class ExactSums:
    """The sums of floats in a recorded call.

    Attributes
    ----------
    obstacle
        Why they cannot be exact, in words; empty if they may be.
    """

    def __init__(self, recorded: RecordedCall) -> None:
        self._recorded = recorded
        self._sums = [store for store in recorded.stores if is_sum(store)]
        self.obstacle = self._obstacle() if self._sums else ""

    @property
    def has_sums(self) -> bool:
        """Whether there is a sum at all."""
        return bool(self._sums)

    def sees_terms(self, result: Array, tolerance: Tolerance) -> bool:
        """Return whether bounds are far below what one term of the longest sum may come to.

        Terms of either sign add up to about the square root of their number; a small part of one
        must be detected.
        """
        if not is_float(result.dtype) or result.size == 0:
            return True
        wide, allowed = as_float64(result), tolerance.allowed(result)
        is_judged = np.isfinite(allowed) & np.isfinite(wide)
        if is_judged.mean() < _JUDGED:
            return False
        typical = math.sqrt(float(np.mean(np.square(wide[is_judged]))))
        term = typical / math.sqrt(max(self._count, 1.0))
        return bool(np.median(allowed[is_judged]) <= _SMALL_PART * term)

    def parts(self, more: int) -> int:
        """Return in how many calls every term of a sum is not zero, together.

        Parameters
        ----------
        more
            How many times as many as should be needed.
        """
        _, parts = self._density
        return min(parts * more, _MOST_PARTS)

    def inputs(self, part: int, *, more: int) -> ExactInputs:
        """Return the floats of one call of those that share the terms.

        Parameters
        ----------
        part
            Which of them.
        more
            As for ``parts``.
        """
        parts = self.parts(more)
        magnitude = 1 if more > 1 else self._density[0]
        recipes: dict[int, Recipe] = {}
        for place, array in enumerate(self._recorded.inputs):
            if is_float(array.dtype) and array.size:
                is_shared = place == self._shared
                recipes[place] = Recipe(
                    # The parts of the one that is shared are of one seed; others differ.
                    seed=place if is_shared else place + _SEEDS * part,
                    is_signed=place not in self._positive,
                    magnitude=magnitude,
                    parts=parts if is_shared else 1,
                    part=part % parts if is_shared else 0,
                    exponent=self._exponent(parts) if is_shared else 0,
                )
        arrays = {
            place: recipe.array(
                self._recorded.inputs[place].dtype.name, self._recorded.inputs[place].shape
            )
            for place, recipe in recipes.items()
        }
        return ExactInputs(recipes=recipes, arrays=arrays)

    @cached_property
    def _flow(self) -> Flow:
        return Flow(self._recorded.kernel)

    @cached_property
    def _in_sums(self) -> set[int]:
        """Positions of the inputs that terms are made of."""
        given = self._recorded.call.inputs
        return {given[n] for s in self._sums for n in self._flow.sources(s.value) if n in given}

    @cached_property
    def _positive(self) -> set[int]:
        """Positions of the inputs that are no terms, and that a root or logarithm is taken of."""
        given = self._recorded.call.inputs
        arguments = [
            call.args[0]
            for call in nodes(self._recorded.kernel.body, ir_expr.Call)
            if getattr(call.op, "name", "") in _OF_POSITIVE
        ]
        found = {given[n] for a in arguments for n in self._flow.sources(a) if n in given}
        return found - self._in_sums

    @cached_property
    def _shared(self) -> int:
        """Position of the input of whose values few are not zero, where terms must be few."""
        inputs = self._recorded.inputs
        floats = [n for n in self._in_sums if is_float(inputs[n].dtype)]
        if not floats:
            return -1
        # The largest: then neighbouring sums have different terms, and few calls test all.
        return max(floats, key=lambda n: (inputs[n].size, n not in self._recorded.fixed, -n))

    @cached_property
    def _count(self) -> float:
        """Terms of the longest sum."""
        return max((_terms(store, self._recorded) for store in self._found), default=1.0)

    @cached_property
    def _found(self) -> list[Store]:
        try:
            every = stores_of(self._recorded.kernel)
        except NotAnalyzableError:
            return []
        return [store for stores in every.values() for store in stores if is_sum(store)]

    @cached_property
    def _density(self) -> tuple[int, int]:
        """How large the whole numbers are, and how many calls share the terms."""
        digits = min(_digits(store) for store in self._sums)
        has_packed = any(self._recorded.inputs[n].dtype.kind in "iu" for n in self._recorded.fixed)
        count = self._count * (_PACKED if has_packed else 1) * _ROOM
        room = 2.0**digits
        if count * 4 <= room:
            return 2, 1
        # Two at least: with values of one size only, half of all pairs are equal.
        return 1, min(_MOST_PARTS, max(2, math.ceil(count / room)))

    def _exponent(self, parts: int) -> int:
        """Keep sums near one where a function follows, which would map large ones to a limit."""
        if not _has_functions(self._recorded.kernel.body):
            return 0
        return -round(math.log2(max(self._count / parts, 1.0)) / 2)

    def _obstacle(self) -> str:
        impure: dict[Any, str] = {}
        while True:
            before = len(impure)
            for store in self._recorded.stores:
                found = self._rounds(store, impure)
                if found and store.buffer not in impure and not is_sum(store):
                    impure[store.buffer] = found
            if len(impure) == before:
                break
        for store in self._sums:
            found = self._rounds(store, impure)
            if found:
                return f"a sum has {found} in its terms"
        return ""

    def _rounds(self, store: Any, impure: dict[Any, str]) -> str:
        """Return what in a stored value has more digits than small whole numbers, if anything."""
        for call in nodes(store.value, ir_expr.Call):
            name = call.op.name if isinstance(call.op, Op) else str(call.op)
            if is_float_expr(call) and bitwise(call) is None and name not in _CHOICES:
                return name.rpartition(".")[2]
        if any(is_float_expr(node) for node in nodes(store.value, prim.Div)):
            return "a division"
        if any(_has_digits(node) for node in nodes(store.value, prim.FloatImm)):
            return "a factor of many digits"
        for load in loads(store.value):
            if buffer_of(load) in impure:
                return impure[buffer_of(load)]
        return ""


def is_exact(result: Array, tolerance: Tolerance) -> bool:
    """Return whether each judged value is held to a few units in the last place, or to none."""
    if not is_float(result.dtype) or result.size == 0:
        return True
    wide, allowed = as_float64(result), tolerance.allowed(result)
    is_judged = np.isfinite(allowed) & np.isfinite(wide)
    if is_judged.mean() < _JUDGED:
        return False
    typical = math.sqrt(float(np.mean(np.square(wide[is_judged]))))
    unit = float(finfo(result.dtype).eps)
    most = _ULPS * unit * np.maximum(np.abs(wide[is_judged]), typical)
    return typical > 0 and bool((allowed[is_judged] <= most).all())


def _terms(store: Store, recorded: RecordedCall) -> float:
    """Return how many terms a sum has: the loops whose variables are no indices."""
    own = set(store.indices)
    count = 1.0
    for var, _, extent in store.ranges:
        if var not in own:
            found = bounds(extent, recorded.dims)
            count *= 1 if found is None else max(found.high, 1)
    return count


def _digits(store: Any) -> int:
    return int(finfo(dtype_named(str(store.value.ty.dtype))).nmant) + 1


def _has_digits(constant: Any) -> bool:
    value = float(constant.value)
    if not math.isfinite(value):
        return False
    mantissa, _ = math.frexp(value)
    return abs(value) < 1e30 and mantissa * 64 != round(mantissa * 64)


def _has_functions(body: Any) -> bool:
    return any(
        is_float_expr(call)
        and bitwise(call) is None
        and getattr(call.op, "name", "") not in _CHOICES
        for call in nodes(body, ir_expr.Call)
    )
