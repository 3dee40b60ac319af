"""Tolerances for the results of one PrimFunc, from the PrimFunc and its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from tvm import tirx

from relax_tapml.arrays import Array, is_integer
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.rule import RuleTolerance, tolerance_for
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.derive._blocks import Blocking, Blocks
from relax_tapml.derive._call import EVERYWHERE, Call, Places, Recorded
from relax_tapml.derive._chosen_index import ChosenIndex, chosen_indices
from relax_tapml.derive._evaluation import Evaluation
from relax_tapml.derive._low_precision import CUDA_FAST_MATH, WGSL_FUNCTIONS
from relax_tapml.derive._moves import Moves
from relax_tapml.derive._precision import SMALLEST_NORMAL, underflow
from relax_tapml.derive._result_bounds import ResultBounds
from relax_tapml.derive._rewriter import ShadowKernel
from relax_tapml.derive._sample import sample_of
from relax_tapml.derive._shadow_runs import USUAL, Evaluated, Mode
from relax_tapml.derive.bounded import NotDerivableError
from relax_tapml.derive.error_bounds import equal_values, kept_error_bounds
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.printable import message_line

_LOW_PRECISION = {name.split(".")[1] for name in {*WGSL_FUNCTIONS, *CUDA_FAST_MATH}}
_MOVES_ONLY = "the kernel moves and chooses values and rounds none, so they must be equal"

Promising = Callable[[Sequence[Array], Sequence[Tolerance], Sequence[Array]], bool]
"""Whether results of a block, their tolerances, and the part of ``like``, are worth going on."""


_Bounds = list[ResultBounds | None]
_Judged = tuple[list[Array], _Bounds]


class _UnpromisingError(Exception):
    """The first of several blocks is not promising."""


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
    chosen
        Which results are indices; by default those that ``chosen_indices`` finds.
    """

    def __init__(
        self,
        function: tirx.PrimFunc,
        results: Sequence[int],
        *,
        is_perturbed: bool = False,
        times: int = 1,
        chosen: Mapping[int, ChosenIndex] | None = None,
    ) -> None:
        self._function = function
        self._given_chosen = chosen
        self._results = list(results)
        self._is_block = times > 1
        self._evaluation = Evaluation(function, results, is_perturbed=is_perturbed, times=times)
        self._blocking = Blocking(function, results)
        self._in_blocks: dict[tuple[Any, int], Derivation] = {}
        self._moves = Moves(function)

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
        call = self._call(arguments, scalars, oracles, [EVERYWHERE] * len(oracles))
        reason = self.too_long(call.shapes, scalars)
        if reason:
            return self._tolerances_of_sample(call, reason)
        try:
            made = self._judged(call)
        except Exception as error:  # Whatever TVM and NumPy raise about arguments or memory.
            raise_machine_error(error, "deriving tolerances")
            return [rule_because(oracle, _unevaluated(error)) for oracle in oracles]
        return self._tolerances(call, *made)

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
        return self._evaluation.work(shapes, scalars, is_exact=is_exact).too_long

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
        call = self._call(arguments, scalars, like, recorded or ())
        if self._shadow is None or call.is_in_place:
            return None
        if self.too_long(call.shapes, scalars, is_exact=is_exact):
            return None
        try:
            if not self._shadow.rounds and self._moves.are_all:
                moved = self._moves.results(call)
                oracles = call.oracles(dict(zip(self._results, moved, strict=True)))
                return oracles, self._tolerances(call, oracles, [None] * len(oracles))
            made = self._judged(call, is_exact=is_exact, is_promising=is_promising)
        except _UnpromisingError:
            return None
        except Exception as error:
            raise_machine_error(error, "deriving tolerances")
            return None
        return made[0], self._tolerances(call, *made)

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
        made = self._evaluation.run(USUAL, self._call(arguments, scalars, like), slack)
        return made.values, made.errors

    def _call(
        self,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        like: Sequence[Array],
        recorded: Sequence[Recorded] = (),
    ) -> Call:
        return Call(
            numbers=tuple(self._results),
            arguments=arguments,
            scalars=scalars,
            like=like,
            recorded=tuple(recorded),
        )

    def _tolerances_of_sample(self, call: Call, reason: str) -> list[Tolerance]:
        """Return tolerances of a call that takes too long: of a sample, and the rule elsewhere."""
        oracles = call.like
        sample = None
        if not call.is_in_place and not self._is_block:
            sample = sample_of(self._function, self._results, call.shapes, call.scalars, oracles)
        if sample is None:
            return [rule_because(oracle, reason) for oracle in oracles]
        some = [
            np.ascontiguousarray(oracle[sample.grid(number, oracle.shape)])
            for number, oracle in zip(self._results, oracles, strict=True)
        ]
        inner = Derivation(sample.function, self._results)
        found = inner.tolerances(sample.arguments(call.arguments), call.scalars, some)
        return [
            self._simple(number, call.arguments, oracle)
            or sample.tolerance(number, tolerance, oracle, reason)
            for number, tolerance, oracle in zip(self._results, found, oracles, strict=True)
        ]

    def _judged(
        self, call: Call, *, is_exact: bool = False, is_promising: Promising | None = None
    ) -> _Judged:
        """Evaluate a call, in blocks if it is large; return oracles, and bounds of each.

        Raises
        ------
        _UnpromisingError
            The first of several blocks is not promising.
        Exception
            Whatever TVM and NumPy raise about arguments or memory.
        """
        blocks = None
        if not self._is_block and not call.is_in_place:
            blocks = self._blocking.of(call.shapes, call.scalars)
        if blocks is None:
            return self._judged_whole(call, is_exact=is_exact)
        inner = self._of_block(blocks)
        oracles = [
            array if call.is_recorded(position) else np.empty_like(array)
            for position, array in enumerate(call.like)
        ]
        found: list[_Bounds] = []
        for block in blocks.each():
            here = blocks.of(call, block)
            made, bounds = inner._judged_whole(here, is_exact=is_exact)
            if is_promising is not None and not found:
                tolerances = inner._tolerances(here, made, bounds)
                if not is_promising(made, tolerances, here.like):
                    raise _UnpromisingError
            found.append(bounds)
            views = blocks.views(self._results, oracles, block)
            for position, (view, values) in enumerate(zip(views, made, strict=True)):
                if not call.is_recorded(position):
                    view[...] = values
        return oracles, [
            blocks.joined(number, parts, oracle.shape)
            for number, oracle, *parts in zip(self._results, oracles, *found, strict=True)
        ]

    def _of_block(self, blocks: Blocks) -> Derivation:
        key = blocks.axis.loops, blocks.count
        if key not in self._in_blocks:
            function, count = blocks.function, blocks.count
            self._in_blocks[key] = Derivation(function, self._results, times=count)
        return self._in_blocks[key]

    def _judged_whole(self, call: Call, *, is_exact: bool) -> _Judged:
        """Evaluate a call at once; see ``_judged``."""
        if self._shadow is None:
            raise NotDerivableError(self._reason)
        mode = Mode(is_exact=is_exact)
        made = self._evaluation.run(mode, call)
        oracles = call.oracles(made.values)
        bounds = self._bounds(call, made, oracles)
        if not _LOW_PRECISION.intersection(self._shadow.error_sources):
            return oracles, bounds
        wider: _Bounds
        reason = ""
        try:
            mode = replace(mode, is_low_precision=True)
            made = self._evaluation.run(mode, call)
            wider = self._bounds(call, made, oracles)
        except Exception as error:  # Whatever TVM and NumPy raise about arguments or memory.
            raise_machine_error(error, "deriving tolerances")
            reason = f"not judged on devices with low-precision functions: {_unevaluated(error)}"
            wider = [one and one.unknown() for one in bounds]
        return oracles, [
            one and other and replace(one, low_precision=other.bound, unjudged=reason)
            for one, other in zip(bounds, wider, strict=True)
        ]

    def _bounds(self, call: Call, made: Evaluated, oracles: Sequence[Array]) -> _Bounds:
        """Return the bounds of each result; None of those that need none."""
        found: _Bounds = []
        for number, oracle in zip(self._results, oracles, strict=True):
            if self._simple(number, call.arguments, oracle) is not None:
                found.append(None)
                continue
            error = made.errors.get(number)
            bound, excess = kept_error_bounds(made.values[number], error, oracle)
            found.append(ResultBounds(bound=bound, excess=excess, samples=made.samples))
        return found

    def _tolerances(self, call: Call, oracles: Sequence[Array], bounds: _Bounds) -> list[Tolerance]:
        found = []
        for number, oracle, of_result in zip(self._results, oracles, bounds, strict=True):
            tolerance = self._simple(number, call.arguments, oracle)
            if tolerance is None:
                assert of_result is not None
                tolerance = of_result.tolerance(oracle, self._origin)
            found.append(tolerance)
        return found

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
    def _chosen(self) -> Mapping[int, ChosenIndex]:
        if self._given_chosen is None:
            return chosen_indices(self._function, self._results)
        return self._given_chosen

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


def _unevaluated(error: Exception) -> str:
    return f"the kernel cannot be evaluated in float64: {message_line(error, -1)}"


def rule_because(oracle: Array, reason: str) -> RuleTolerance:
    """Return ``tolerance_for`` an oracle; its origin gives the reason why it is not derived."""
    rule = tolerance_for(oracle)
    if is_integer(oracle.dtype):
        return rule
    return RuleTolerance(atol=rule.atol, rtol=rule.rtol, origin=f"{rule.origin}, because {reason}")
