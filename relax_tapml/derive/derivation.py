"""Tolerances for the results of one PrimFunc, from the PrimFunc and its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from tvm import tirx

from relax_tapml.arrays import Array, is_integer
from relax_tapml.compare.tolerances.elements import ElementTolerance, with_low_precision
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.rule import RuleTolerance, tolerance_for
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.derive._chosen_index import ChosenIndex, chosen_indices
from relax_tapml.derive._evaluation import MOST_ITERATIONS, Evaluation, too_long
from relax_tapml.derive._low_precision import CUDA_FAST_MATH, WGSL_FUNCTIONS
from relax_tapml.derive._precision import SMALLEST_NORMAL, underflow
from relax_tapml.derive._shadow_kernel import ShadowKernel
from relax_tapml.derive._shadow_runs import USUAL, Evaluated, Mode
from relax_tapml.derive.bounded import NotDerivableError
from relax_tapml.derive.error_bounds import bound_tolerance, equal_values, output_error_bounds
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.printable import message_line

_LOW_PRECISION = {name.split(".")[1] for name in {*WGSL_FUNCTIONS, *CUDA_FAST_MATH}}
_MOVES_ONLY = "the kernel moves and chooses values and rounds none, so they must be equal"


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
    """

    def __init__(
        self, function: tirx.PrimFunc, results: Sequence[int], *, is_perturbed: bool = False
    ) -> None:
        self._function = function
        self._results = list(results)
        self._evaluation = Evaluation(function, results, is_perturbed=is_perturbed)

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
        try:
            made = self._evaluation.run(USUAL, arguments, scalars, oracles)
            derived = self._from_errors(arguments, made, oracles)
            return self._with_low_precision(derived, arguments, scalars, oracles, is_exact=False)
        except Exception as error:  # Whatever TVM and NumPy raise about arguments or memory.
            raise_machine_error(error, "deriving tolerances")
            return [rule_because(oracle, _unevaluated(error)) for oracle in oracles]

    def too_long(self, shapes: Mapping[int, tuple[int, ...]], scalars: Mapping[int, float]) -> str:
        """Return why an evaluation would take too long, by the shapes of parameters; or nothing."""
        count = self._evaluation.iterations(shapes, scalars)
        return too_long(count) if count > MOST_ITERATIONS else ""

    def evaluated(
        self,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        like: Sequence[Array],
        *,
        is_exact: bool = False,
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

        Returns
        -------
        tuple or None
            Results, rounded to their dtypes, and their tolerances. None where the errors of the
            PrimFunc cannot be followed, or where it writes to its arguments.
        """
        if self._shadow is None or not arguments.keys().isdisjoint(self._results):
            return None
        try:
            mode = Mode(is_exact=is_exact)
            made = self._evaluation.run(mode, arguments, scalars, like)
            with np.errstate(over="ignore", invalid="ignore"):
                oracles = [
                    made.values[number].astype(array.dtype)
                    for number, array in zip(self._results, like, strict=True)
                ]
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
