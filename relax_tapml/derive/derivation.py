"""Tolerances for the results of one PrimFunc, from the PrimFunc and its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from tvm import tirx

from relax_tapml.arrays import Array, is_integer
from relax_tapml.compare.tolerances.elements import ElementTolerance, with_low_precision
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.rule import RuleTolerance, tolerance_for
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.derive._blocks import Blocking, Blocks
from relax_tapml.derive._chosen_index import ChosenIndex, chosen_indices
from relax_tapml.derive._evaluation import MOST_ITERATIONS, Evaluation, too_long
from relax_tapml.derive._low_precision import CUDA_FAST_MATH, WGSL_FUNCTIONS
from relax_tapml.derive._moves import Moves
from relax_tapml.derive._precision import SMALLEST_NORMAL, underflow
from relax_tapml.derive._sample import sample_of
from relax_tapml.derive._shadow_kernel import ShadowKernel
from relax_tapml.derive._shadow_runs import USUAL, Evaluated, Mode
from relax_tapml.derive.bounded import NotDerivableError
from relax_tapml.derive.error_bounds import bound_tolerance, equal_values, output_error_bounds
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.printable import message_line

_LOW_PRECISION = {name.split(".")[1] for name in {*WGSL_FUNCTIONS, *CUDA_FAST_MATH}}
_UNMADE = Evaluated(values={}, errors={})
_MOVES_ONLY = "the kernel moves and chooses values and rounds none, so they must be equal"

Places = tuple[Array, ...]
"""A grid of elements of a result: for each of its axes some places, ascending."""

Promising = Callable[[Sequence[Array], Sequence[Tolerance], Sequence[Array]], bool]
"""Whether results of a block, their tolerances, and the part of ``like``, are worth going on."""


class Derivation:
    """Derives tolerances for calls of one PrimFunc.

    The PrimFunc is evaluated in float64 on the arguments of the call, with the error of every
    rounding carried along; see ``shadow_kernel_of``. A result is allowed if it is within that error
    of the exact value. The source itself may be farther off, where it uses a less accurate
    approximation; its result is always allowed.

    Parameters
    ----------
    function
        As Relax lowers operators.
    results
        Numbers of its parameters that hold results.
    is_perturbed
        Whether inputs are perturbed also where nothing rounds; see ``shadow_kernel_of``.
    times
        How many calls are evaluated together, as blocks of one.
    """

    def __init__(
        self,
        function: tirx.PrimFunc,
        results: Sequence[int],
        *,
        is_perturbed: bool = False,
        times: int = 1,
    ) -> None:
        self._function = function
        self._results = list(results)
        self._is_block = times > 1
        self._evaluation = Evaluation(function, results, is_perturbed=is_perturbed, times=times)
        self._blocking = Blocking(function, results)
        self._in_blocks: dict[tuple[Any, int], Derivation] = {}
        self._moves = Moves(function, results)

    def tolerances(
        self,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        oracles: Sequence[Array],
    ) -> list[Tolerance]:
        """Return how far each result may be from its oracle.

        Parameters
        ----------
        arguments
            Tensor arguments by number of the parameter; of results, only those written in place.
        scalars
            Numbers.
        oracles
            What the source returned, in the order of ``results``.

        Returns
        -------
        list of Tolerance
            Where the errors of the PrimFunc cannot be followed, ``tolerance_for`` with the reason
            in its origin.
        """
        if self._shadow is None:
            return [rule_because(oracle, self._reason) for oracle in oracles]
        found = [
            self._simple(number, arguments, oracle)
            for number, oracle in zip(self._results, oracles, strict=True)
        ]
        if all(tolerance is not None for tolerance in found):
            return [tolerance for tolerance in found if tolerance is not None]
        reason = self.too_long(self._shapes(arguments, oracles), scalars)
        if reason:
            return self._tolerances_of_sample(arguments, scalars, oracles, reason)
        blocks = self._blocks(arguments, scalars, oracles)
        if blocks is not None:
            return self._tolerances_of_blocks(blocks, arguments, scalars, oracles)
        try:
            made = self._evaluation.run(USUAL, arguments, scalars, oracles)
            derived = self._from_errors(arguments, made, oracles)
            return self._with_low_precision(derived, arguments, scalars, oracles, is_exact=False)
        except Exception as error:  # Whatever TVM and NumPy raise about arguments or memory.
            raise_machine_error(error, "deriving tolerances")
            return [rule_because(oracle, _unevaluated(error)) for oracle in oracles]

    def too_long(
        self,
        shapes: Mapping[int, tuple[int, ...]],
        scalars: Mapping[int, float],
        *,
        is_exact: bool = False,
    ) -> str:
        """Return why an evaluation would take too long, by the shapes of parameters; or nothing."""
        if self._is_block:
            return ""
        count = self._evaluation.iterations(Mode(is_exact=is_exact), shapes, scalars)
        return too_long(count) if count > MOST_ITERATIONS else ""

    def evaluated(
        self,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        like: Sequence[Array],
        *,
        is_exact: bool = False,
        recorded: Sequence[Places] | None = None,
        is_promising: Promising | None = None,
    ) -> tuple[list[Array], list[Tolerance]] | None:
        """Evaluate the PrimFunc in float64 on arguments that no source ran on.

        Parameters
        ----------
        arguments, scalars
            As for ``tolerances``.
        like
            Arrays of the dtypes and shapes of the results.
        is_exact
            Whether what no order of the operations rounds must be equal; see ``shadow_kernel_of``.
        recorded
            For each result where a source did compute it: there ``like`` holds its values, which
            are the oracle, and are allowed as in ``tolerances``. By default nowhere.
        is_promising
            Asked after the first of several blocks, by default not.

        Returns
        -------
        tuple or None
            Results, rounded to their dtypes, and their tolerances. None where the errors of the
            PrimFunc cannot be followed, where it writes to its arguments, where the evaluation
            would take too long, and where the first block is not promising.
        """
        if self._shadow is None or not arguments.keys().isdisjoint(self._results):
            return None
        if self.too_long(self._shapes(arguments, like), scalars, is_exact=is_exact):
            return None
        try:
            if not self._shadow.rounds and self._moves.are_all:
                oracles = self._moves.results(arguments, scalars, like)
                _put_recorded(oracles, like, recorded)
                return oracles, self._from_errors(arguments, _UNMADE, oracles)
            blocks = self._blocks(arguments, scalars, like)
            if blocks is not None:
                return self._evaluated_in_blocks(
                    blocks,
                    arguments,
                    scalars,
                    like,
                    is_exact=is_exact,
                    recorded=recorded,
                    is_promising=is_promising,
                )
            mode = Mode(is_exact=is_exact)
            made = self._evaluation.run(mode, arguments, scalars, like)
            with np.errstate(over="ignore", invalid="ignore"):
                oracles = [
                    made.values[number].astype(array.dtype)
                    for number, array in zip(self._results, like, strict=True)
                ]
            _put_recorded(oracles, like, recorded)
            found = self._from_errors(arguments, made, oracles)
            return oracles, self._with_low_precision(
                found, arguments, scalars, oracles, is_exact=is_exact
            )
        except Exception as error:
            raise_machine_error(error, "deriving tolerances")
            return None

    def values_and_errors(
        self,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        like: Sequence[Array],
        slack: Mapping[int, Array],
    ) -> tuple[dict[int, Array], dict[int, Array]]:
        """Evaluate the PrimFunc in float64.

        Parameters
        ----------
        arguments, scalars, like
            As for ``evaluated``.
        slack
            How far float arguments may be off, where that is more than their last place.


        Returns
        -------
        tuple
            Values of the results, and the errors of those that have some, by number.

        Raises
        ------
        NotDerivableError
            The errors of the PrimFunc cannot be followed.
        """
        if self._shadow is None:
            raise NotDerivableError(self._reason)
        made = self._evaluation.run(USUAL, arguments, scalars, like, slack=slack)
        return made.values, made.errors

    def _blocks(
        self,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        results: Sequence[Array],
    ) -> Blocks | None:
        if self._is_block or not arguments.keys().isdisjoint(self._results):
            return None
        return self._blocking.of(self._shapes(arguments, results), scalars)

    def _shapes(
        self, arguments: Mapping[int, Array], results: Sequence[Array]
    ) -> dict[int, tuple[int, ...]]:
        shapes = {number: array.shape for number, array in arguments.items()}
        return shapes | {n: array.shape for n, array in zip(self._results, results, strict=True)}

    def _tolerances_of_sample(
        self,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        oracles: Sequence[Array],
        reason: str,
    ) -> list[Tolerance]:
        """Return tolerances of a call that takes too long: of a sample, and the rule elsewhere."""
        shapes = self._shapes(arguments, oracles)
        sample = None
        if arguments.keys().isdisjoint(self._results) and not self._is_block:
            sample = sample_of(self._function, self._results, shapes, scalars, oracles)
        if sample is None:
            return [rule_because(oracle, reason) for oracle in oracles]
        some = [
            np.ascontiguousarray(oracle[sample.grid(number, oracle.shape)])
            for number, oracle in zip(self._results, oracles, strict=True)
        ]
        inner = Derivation(sample.function, self._results)
        found = inner.tolerances(sample.arguments(arguments), scalars, some)
        return [
            self._simple(number, arguments, oracle)
            or sample.tolerance(number, tolerance, oracle, reason)
            for number, tolerance, oracle in zip(self._results, found, oracles, strict=True)
        ]

    def _of_block(self, blocks: Blocks) -> Derivation:
        key = blocks.axis.loops, blocks.count
        if key not in self._in_blocks:
            function, count = blocks.function, blocks.count
            self._in_blocks[key] = Derivation(function, self._results, times=count)
        return self._in_blocks[key]

    def _tolerances_of_blocks(
        self,
        blocks: Blocks,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        oracles: Sequence[Array],
    ) -> list[Tolerance]:
        inner = self._of_block(blocks)
        found = [
            inner.tolerances(
                blocks.arguments(arguments, block),
                scalars,
                blocks.results(self._results, oracles, block),
            )
            for block in blocks.each()
        ]
        return self._joined(blocks, found, arguments, oracles)

    def _evaluated_in_blocks(
        self,
        blocks: Blocks,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        like: Sequence[Array],
        *,
        is_exact: bool,
        recorded: Sequence[Places] | None,
        is_promising: Promising | None,
    ) -> tuple[list[Array], list[Tolerance]] | None:
        inner = self._of_block(blocks)
        oracles = [np.zeros_like(array) for array in like]
        found: list[list[Tolerance]] = []
        for block in blocks.each():
            begun = blocks.results(self._results, like, block)
            made = inner.evaluated(
                blocks.arguments(arguments, block),
                scalars,
                begun,
                is_exact=is_exact,
                recorded=recorded and blocks.places(self._results, recorded, block),
            )
            if made is None:
                return None
            if is_promising is not None and not found and not is_promising(*made, begun):
                return None
            views = blocks.results(self._results, oracles, block)
            for view, values in zip(views, made[0], strict=True):
                view[...] = values
            found.append(made[1])
        return oracles, self._joined(blocks, found, arguments, oracles)

    def _joined(
        self,
        blocks: Blocks,
        found: Sequence[Sequence[Tolerance]],
        arguments: Mapping[int, Array],
        oracles: Sequence[Array],
    ) -> list[Tolerance]:
        joined = []
        for place, (number, oracle) in enumerate(zip(self._results, oracles, strict=True)):
            parts = [tolerances[place] for tolerances in found]
            whole = self._simple(number, arguments, oracle) or blocks.joined(number, parts, oracle)
            joined.append(whole or rule_because(oracle, "some of its blocks cannot be evaluated"))
        return joined

    def _from_errors(
        self,
        arguments: Mapping[int, Array],
        made: Evaluated,
        oracles: Sequence[Array],
    ) -> list[Tolerance]:
        origin = f"{self._origin}; {made.note}" if made.note else self._origin
        return [
            self._simple(number, arguments, oracle)
            or bound_tolerance(
                *output_error_bounds(made.values[number], made.errors.get(number), oracle),
                oracle,
                origin,
            )
            for number, oracle in zip(self._results, oracles, strict=True)
        ]

    def _with_low_precision(
        self,
        found: list[Tolerance],
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        oracles: Sequence[Array],
        *,
        is_exact: bool,
    ) -> list[Tolerance]:
        """Add bounds for devices with low-precision functions, if the kernel calls such a function.

        Where these bounds cannot be derived, no value is judged on such devices.
        """
        assert self._shadow is not None
        if not _LOW_PRECISION.intersection(self._shadow.error_sources):
            return found
        try:
            mode = Mode(is_low_precision=True, is_exact=is_exact)
            made = self._evaluation.run(mode, arguments, scalars, oracles)
            wider = self._from_errors(arguments, made, oracles)
        except Exception as error:  # Whatever TVM and NumPy raise about arguments or memory.
            raise_machine_error(error, "deriving tolerances")
            return [
                _without_low_precision(*both, error) for both in zip(found, oracles, strict=True)
            ]
        return [with_low_precision(*both) for both in zip(found, wider, strict=True)]

    @cached_property
    def _rewritten(self) -> ShadowKernel | str:
        """The shadow kernel; or the reason why there is none."""
        try:
            return self._evaluation.whole.shadow(USUAL).kernel
        except NotDerivableError as error:
            return str(error)
        except Exception as error:  # Whatever TVM raises about an unforeseen kernel.
            raise_machine_error(error, "deriving tolerances")
            return _unevaluated(error)

    @property
    def _shadow(self) -> ShadowKernel | None:
        return None if isinstance(self._rewritten, str) else self._rewritten

    @property
    def _reason(self) -> str:
        return self._rewritten if isinstance(self._rewritten, str) else ""

    @cached_property
    def _chosen(self) -> dict[int, ChosenIndex]:
        return chosen_indices(self._function, self._results)

    def _simple(
        self, number: int, arguments: Mapping[int, Array], oracle: Array
    ) -> Tolerance | None:
        """Return the tolerance of a result that needs no evaluation; None if it needs one."""
        chosen = self._chosen.get(number)
        if chosen is not None and chosen.values in arguments:
            return chosen.tolerance(arguments)
        assert self._shadow is not None
        if self._shadow.rounds:
            return None
        if is_integer(oracle.dtype):
            return equal_values(oracle.dtype)
        if underflow(oracle.dtype.name) == SMALLEST_NORMAL:
            return RuleTolerance(
                atol=SMALLEST_NORMAL, rtol=0.0, origin=f"{_MOVES_ONLY}; denormals may be flushed"
            )
        return EqualTolerance(origin=_MOVES_ONLY)

    @property
    def _origin(self) -> str:
        assert self._shadow is not None
        sources = ", ".join(("rounding of each operation", *self._shadow.error_sources))
        return f"float64 evaluation with the errors of: {sources}"


def _put_recorded(
    oracles: Sequence[Array], like: Sequence[Array], recorded: Sequence[Places] | None
) -> None:
    """Let what a source did compute be the oracle."""
    for oracle, array, places in zip(oracles, like, recorded or (), strict=recorded is not None):
        grid = np.ix_(*places)
        oracle[grid] = array[grid]


def _without_low_precision(found: Tolerance, oracle: Array, error: Exception) -> Tolerance:
    """Return the same tolerance, which judges nothing on devices with low-precision functions."""
    reason = f"not judged on devices with low-precision functions: {_unevaluated(error)}"
    unjudged = ElementTolerance(bound=np.full(oracle.shape, np.nan), origin="")
    both = with_low_precision(found, unjudged)
    return replace(both, origin=f"{found.origin}; {reason}")  # type: ignore[type-var]


def _unevaluated(error: Exception) -> str:
    return f"the kernel cannot be evaluated in float64: {message_line(error, -1)}"


def rule_because(oracle: Array, reason: str) -> RuleTolerance:
    """Return ``tolerance_for`` an oracle; its origin gives the reason why it is not derived."""
    rule = tolerance_for(oracle)
    if is_integer(oracle.dtype):
        return rule
    return RuleTolerance(atol=rule.atol, rtol=rule.rtol, origin=f"{rule.origin}, because {reason}")
