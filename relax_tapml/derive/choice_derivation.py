"""Tolerances for the results of a PrimFunc that chooses an index by a score.

A right kernel may choose any of several equal scores, and any of several scores whose order
rounding may change. Later results in the kernel depend on the choice: a wrapped index, a row of a
table. So the PrimFunc is evaluated with each of these choices, and each of the results is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tvm_ffi
from tvm import tirx

from relax_tapml._compat import Analyzer
from relax_tapml.arrays import Array, as_float64
from relax_tapml.compare.tolerances.choices import ChoiceTolerance
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.derive._chooser import Chooser, choosers, extra_results, with_choices, with_scores
from relax_tapml.derive._chosen_index import chosen_indices
from relax_tapml.derive.bounded import NotDerivableError
from relax_tapml.derive.derivation import Derivation
from relax_tapml.derive.error_bounds import bound_tolerance, output_error_bounds
from relax_tapml.files.machine import raise_machine_error

MOST_CHOICES = 16
"""The most equal scores of one row that are tried; of more, the first and the last ones."""

_EQUAL = "any of the results of equal scores"
_EXACT = "the kernel chooses by scores, and is evaluated in float64 with every choice it may make"


def derivation_of(
    function: tirx.PrimFunc, results: Sequence[int], *, is_perturbed: bool = False
) -> Derivation | ChoiceDerivation:
    """Return the derivation of tolerances for a PrimFunc, depending on whether it chooses.

    The parameters are those of ``Derivation``.
    """
    plain = Derivation(function, results)
    found = choosers(function)
    return (
        ChoiceDerivation(plain, function, results, found, is_perturbed=is_perturbed)
        if found
        else plain
    )


def can_restrict(function: tirx.PrimFunc, results: Sequence[int]) -> bool:
    """Return whether ``restricted_derivation`` follows what a PrimFunc chooses, if anything.

    It does where all results are the chosen indices themselves.
    """
    return not choosers(function) or chosen_indices(function, results).keys() == set(results)


def restricted_derivation(
    restricted: tirx.PrimFunc, function: tirx.PrimFunc, results: Sequence[int]
) -> Derivation:
    """Return the derivation of tolerances for a PrimFunc restricted to places of free axes.

    Parameters
    ----------
    restricted
        From ``restricted_kernel``, which has no blocks; so what is found in these is found in the
        function.
    function, results
        As for ``Derivation``; the function as Relax lowers operators, and one of which
        ``can_restrict`` is true.
    """
    return Derivation(restricted, results, chosen=chosen_indices(function, results))


class ChoiceDerivation:
    """Derives tolerances for calls of a PrimFunc that chooses.

    Parameters
    ----------
    plain
        Derives the tolerances where this class cannot follow the kernel.
    function, results
        As for ``Derivation``.
    found
        The ``choosers`` of the function.
    is_perturbed
        Whether arguments may be off by more than their last place.
    """

    def __init__(
        self,
        plain: Derivation,
        function: tirx.PrimFunc,
        results: Sequence[int],
        found: Sequence[Chooser],
        *,
        is_perturbed: bool,
    ) -> None:
        self._plain = plain
        self._results = list(results)
        self._found = list(found)
        self._indices = chosen_indices(function, results)
        params = list(function.params)
        self._params = [*params, *extra_results(function, found)]
        self._extra = range(len(params), len(self._params))
        read = [*results, *self._extra]
        self._open = Derivation(with_scores(function, found), read, is_perturbed=is_perturbed)
        scores = with_scores(function, found, is_chosen=False)
        self._scores = Derivation(scores, read, is_perturbed=is_perturbed)
        forced, choices = with_choices(function, found)
        self._forced = Derivation(forced, results, is_perturbed=is_perturbed)
        self._choices = [len(params) + number for number in range(len(choices))]

    def tolerances(
        self,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        oracles: Sequence[Array],
        slack: Mapping[int, Array] | None = None,
    ) -> list[Tolerance]:
        """Return how far each result may be from its oracle; see ``Derivation.tolerances``.

        Parameters
        ----------
        arguments, scalars, oracles
            As there.
        slack
            How far float arguments may be off, where that is more than their last place.
        """
        slack = slack or {}
        direct = [self._of_index(number, arguments, slack) for number in self._results]
        if all(direct):
            return [tolerance for tolerance in direct if tolerance is not None]
        try:
            found = self._evaluate_choices(arguments, scalars, oracles, slack)[1]
        except Exception as error:  # Whatever TVM and NumPy raise about an unforeseen kernel.
            raise_machine_error(error, "deriving tolerances")
            return self._plain.tolerances(arguments, scalars, oracles)
        return [index or other for index, other in zip(direct, found, strict=True)]

    def too_long(
        self,
        shapes: Mapping[int, tuple[int, ...]],
        scalars: Mapping[int, float],
        *,
        is_exact: bool = False,
    ) -> str:
        """Return why an evaluation would take too long; see ``Derivation.too_long``."""
        return self._plain.too_long(shapes, scalars, is_exact=is_exact)

    def evaluated(
        self,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        like: Sequence[Array],
        *,
        is_exact: bool = False,
    ) -> tuple[list[Array], list[Tolerance]] | None:
        """Evaluate the PrimFunc without a source; see ``Derivation.evaluated``.

        Returns None for exact inputs: among small whole numbers nearly every choice is a tie.
        """
        if is_exact:
            return None
        try:
            oracles, found = self._evaluate_choices(arguments, scalars, None, {}, like)
        except Exception as error:
            raise_machine_error(error, "deriving tolerances")
            return self._plain.evaluated(arguments, scalars, like)
        direct = [self._of_index(number, arguments, {}) for number in self._results]
        return oracles, [index or other for index, other in zip(direct, found, strict=True)]

    def _of_index(
        self, number: int, arguments: Mapping[int, Array], slack: Mapping[int, Array]
    ) -> Tolerance | None:
        chosen = self._indices.get(number)
        if chosen is None or chosen.values not in arguments:
            return None
        return chosen.tolerance(arguments, slack)

    def _evaluate_choices(
        self,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        oracles: Sequence[Array] | None,
        slack: Mapping[int, Array],
        like: Sequence[Array] = (),
    ) -> tuple[list[Array], list[Tolerance]]:
        """Evaluate with every choice; return oracles, of float64 by default, and tolerances."""
        if not arguments.keys().isdisjoint(self._results):
            raise NotDerivableError("the kernel writes to its arguments")
        like = oracles or like
        picked, is_cut = self._picked(arguments, scalars, like, slack)
        runs = [
            self._forced.values_and_errors({**arguments, **choice}, scalars, like, slack)
            for choice in picked
        ]
        rounded = [
            [values[n].astype(a.dtype) for n, a in zip(self._results, like, strict=True)]
            for values, _ in runs
        ]
        oracles = oracles or rounded[0]
        found: list[Tolerance] = []
        for position, (number, oracle) in enumerate(zip(self._results, oracles, strict=True)):
            results = [
                (values[number], errors.get(number, np.zeros(oracle.shape)))
                for values, errors in runs
            ]
            others = [result[position] for result in rounded]
            found.append(_tolerance(oracle, results, others, is_cut=is_cut))
        return list(oracles), found

    def _picked(
        self,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        like: Sequence[Array],
        slack: Mapping[int, Array],
    ) -> tuple[list[dict[int, Array]], bool]:
        """Return the choices to evaluate, and whether further choices were left out."""
        extents = _extents(self._params, arguments)
        extra = [self._params[number] for number in self._extra]
        empty = [np.zeros(_shape(buffer, extents), str(buffer.dtype)) for buffer in extra]
        is_chosen = True
        try:
            evaluated = self._open.values_and_errors(arguments, scalars, [*like, *empty], slack)
        except NotDerivableError:  # Rounding may change the choice, and other results depend on it.
            is_chosen = False
            evaluated = self._scores.values_and_errors(arguments, scalars, [*like, *empty], slack)
        values, errors = evaluated
        candidates = []
        for chooser in self._found:
            number = self._params.index(chooser.scores)
            base = values[self._params.index(chooser.index)]
            if not is_chosen:
                base = _best(values[number].reshape(base.size, -1), chooser.is_largest)
            candidates.append(_candidates(base, values[number], errors.get(number)))
        count = max(rows.shape[1] for rows, _ in candidates)
        picked = []
        for turn in range(count):
            choice = {}
            for number, chooser, (rows, _) in zip(
                self._choices, self._found, candidates, strict=True
            ):
                column = rows[:, min(turn, rows.shape[1] - 1)]
                shape = _shape(chooser.index, extents)
                choice[number] = column.reshape(shape).astype(str(chooser.index.dtype))
            picked.append(choice)
        return picked, any(is_cut for _, is_cut in candidates)


def _tolerance(
    oracle: Array,
    results: Sequence[tuple[Array, Array]],
    others: Sequence[Array],
    *,
    is_cut: bool,
) -> Tolerance:
    """Return the tolerance of a result, from values and errors with each choice."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.array([np.abs(as_float64(value) - as_float64(oracle)) for value, _ in results])
    apart = np.where(np.isnan(apart), np.inf, apart)
    nearest = apart.argmin(axis=0)[None]
    value, error = (
        np.take_along_axis(np.array(part), nearest, axis=0)[0]
        for part in zip(*results, strict=True)
    )
    bound, excess = output_error_bounds(value, error, oracle)
    for (other, error_of_other), rounded in zip(results, others, strict=True):
        bound = np.maximum(bound, output_error_bounds(other, error_of_other, rounded)[0])
    with np.errstate(invalid="ignore", over="ignore"):
        far = [np.abs(as_float64(o) - as_float64(oracle)) > bound for o in others]
    distinct = [other for other, is_far in zip(others, far, strict=True) if is_far.any()]
    if is_cut:  # Not all choices were tried: values that depend on the choice are not judged.
        bound = np.where(np.any(far, axis=0), np.nan, bound)
    base = bound_tolerance(bound, excess, oracle, _EXACT)
    if not distinct or is_cut:
        return base
    return ChoiceTolerance(
        base=base, alternatives=np.array(distinct), origin=f"{_EQUAL}; {base.origin}"
    )


def _best(scores: Array, is_largest: bool | None) -> Array:
    if is_largest is None:
        raise NotDerivableError(
            "the kernel may choose the largest score or the smallest: its initial value is neither "
            "negative nor positive"
        )
    return np.asarray(scores.argmax(axis=1) if is_largest else scores.argmin(axis=1))


def _candidates(base: Array, scores: Array, apart: Array | None) -> tuple[Array, bool]:
    """Return the possible choices of each row, the base first, and whether some were left out.

    Rows with fewer choices repeat the base. A row with a NaN, or without a choice, has the base
    only.

    Parameters
    ----------
    base
        The choice of each row in exact arithmetic.
    scores, apart
        The scores of each row, and how far they may be off; None if they are exact.
    """
    chosen = np.asarray(base, np.int64).reshape(-1)
    wide = as_float64(scores).reshape(chosen.size, -1)
    error = 0.0 if apart is None else as_float64(apart).reshape(wide.shape)
    length = wide.shape[1]
    is_valid = (chosen >= 0) & (chosen < length) & ~np.isnan(wide).any(axis=1)
    rows = np.flatnonzero(is_valid)
    if not rows.size:
        return chosen[:, None], False
    with np.errstate(invalid="ignore"):
        low, high = (wide - error)[rows], (wide + error)[rows]
    places = chosen[rows][:, None]
    tops, bottoms = low.max(axis=1, keepdims=True), high.min(axis=1, keepdims=True)
    if (np.take_along_axis(high, places, 1) >= tops).all():
        near = high >= tops
    elif (np.take_along_axis(low, places, 1) <= bottoms).all():
        near = low <= bottoms
    else:
        raise NotDerivableError("the kernel chooses neither the largest score nor the smallest")
    counts = near.sum(axis=1)
    width = int(min(counts.max(), MOST_CHOICES))
    found = np.repeat(chosen[:, None], width, axis=1)
    for row, allowed in zip(rows[counts > 1], near[counts > 1], strict=True):
        places = np.flatnonzero(allowed)
        places = places[places != chosen[row]]
        if len(places) > width - 1:
            half = (width - 1) // 2
            places = np.concatenate([places[: width - 1 - half], places[len(places) - half :]])
        found[row, 1 : 1 + len(places)] = places
    return found, bool(counts.max() > MOST_CHOICES)


def _extents(params: Sequence[Any], arguments: Mapping[int, Array]) -> dict[Any, int]:
    return {
        extent: actual
        for number, array in arguments.items()
        for extent, actual in zip(params[number].ty.shape, array.shape, strict=True)
        if isinstance(extent, tirx.Var)
    }


def _shape(buffer: Any, extents: Mapping[Any, int]) -> tuple[int, ...]:
    shape = []
    for extent in buffer.shape:
        constant = tvm_ffi.structural_map(
            extent, (tirx.Var, lambda var: tirx.const(extents[var], str(var.ty.dtype)))
        )
        shape.append(int(Analyzer().simplify(constant)))
    return tuple(shape)
