"""Tolerances for the results of one PrimFunc, from the PrimFunc and its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from relax_tapml.arrays import Array, as_float64, is_float, is_integer
from relax_tapml.compare.tolerances.elements import ElementTolerance, with_low_precision
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.rule import RuleTolerance, tolerance_for
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.derive._chosen_index import ChosenIndex, chosen_indices
from relax_tapml.derive._functions import FUNCTIONS
from relax_tapml.derive._low_precision import (
    CUDA_FAST_MATH,
    LOW_PRECISION_FUNCTIONS,
    WGSL_FUNCTIONS,
)
from relax_tapml.derive._precision import SMALLEST_NORMAL, input_perturbation, underflow
from relax_tapml.derive._shadow_kernel import ENTRY, ShadowKernel, shadow_kernel_of
from relax_tapml.derive.bounded import NotDerivableError
from relax_tapml.derive.error_bounds import bound_tolerance, equal_values, output_error_bounds
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.printable import message_line

ORDERS = (1, 2, 32, 256)
"""In how many lanes the terms of sums are added, one lane after the other. The largest error of all
these orders counts. The first is the order of the kernel; see ``derive._partial_sums`` for further
orders that each of them covers."""

_KEPT = 4
# A shadow kernel runs a few times only, so most of its cost is the compilation, which takes half as
# long without the optimiser's later passes.
_TARGET = {"kind": "llvm", "opt-level": 1}
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
        self._built_shadows: dict[tuple[bool, bool], _BuiltShadow] = {}
        self._is_moved = is_perturbed
        # Keyed by the id of an array, which is kept beside it so that no other array gets that id.
        self._perturbations: dict[int, tuple[Array, Any]] = {}

    def tolerances(
        self,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        oracles: Sequence[Array],
        *,
        orders: Sequence[int] = ORDERS,
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
        orders
            Of ``ORDERS``, at least the first: the kernel is evaluated once for each.

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
            values, errors = self._evaluated(self._shadow, arguments, scalars, oracles, orders)
            derived = self._from_errors(arguments, values, errors, oracles)
            return self._with_low_precision(
                derived, arguments, scalars, oracles, orders, is_exact=False
            )
        except Exception as error:  # Whatever TVM and NumPy raise about arguments or memory.
            raise_machine_error(error, "deriving tolerances")
            return [rule_because(oracle, _unevaluated(error)) for oracle in oracles]

    def evaluated(
        self,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        like: Sequence[Array],
        *,
        orders: Sequence[int] = ORDERS,
        is_exact: bool = False,
    ) -> tuple[list[Array], list[Tolerance]] | None:
        """Evaluate the PrimFunc in float64 on arguments that no source ran on.

        Parameters
        ----------
        arguments, scalars
            As for ``tolerances``.
        like
            Arrays of the dtypes and shapes of the results.
        orders
            As for ``tolerances``; one is enough where ``is_exact``.
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
            shadow = self._built_shadow(is_low_precision=False, is_exact=is_exact)
            values, errors = self._evaluated(shadow, arguments, scalars, like, orders)
            with np.errstate(over="ignore", invalid="ignore"):
                oracles = [
                    values[number].astype(array.dtype)
                    for number, array in zip(self._results, like, strict=True)
                ]
            found = self._from_errors(arguments, values, errors, oracles)
            return oracles, self._with_low_precision(
                found, arguments, scalars, oracles, orders, is_exact=is_exact
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
        *,
        orders: Sequence[int] = ORDERS,
    ) -> tuple[dict[int, Array], dict[int, Array]]:
        """Evaluate the PrimFunc in float64.

        Parameters
        ----------
        arguments, scalars, like
            As for ``evaluated``.
        slack
            How far float arguments may be off, where that is more than their last place.
        orders
            As for ``tolerances``.

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
        return self._evaluated(self._shadow, arguments, scalars, like, orders, slack)

    def _from_errors(
        self,
        arguments: Mapping[int, Array],
        values: Mapping[int, Array],
        errors: Mapping[int, Array],
        oracles: Sequence[Array],
    ) -> list[Tolerance]:
        return [
            self._simple(number, arguments, oracle)
            or bound_tolerance(
                *output_error_bounds(values[number], errors.get(number), oracle),
                oracle,
                self._origin,
            )
            for number, oracle in zip(self._results, oracles, strict=True)
        ]

    def _with_low_precision(
        self,
        found: list[Tolerance],
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        oracles: Sequence[Array],
        orders: Sequence[int],
        *,
        is_exact: bool,
    ) -> list[Tolerance]:
        """Add bounds for devices with low-precision functions, if the kernel calls such a function.

        Where these bounds cannot be derived, no value is judged on such devices.
        """
        assert self._shadow is not None
        if not _LOW_PRECISION.intersection(self._shadow.kernel.error_sources):
            return found
        try:
            shadow = self._built_shadow(is_low_precision=True, is_exact=is_exact)
            values, errors = self._evaluated(shadow, arguments, scalars, oracles, orders)
            wider = self._from_errors(arguments, values, errors, oracles)
        except Exception as error:  # Whatever TVM and NumPy raise about arguments or memory.
            raise_machine_error(error, "deriving tolerances")
            return [
                _without_low_precision(*both, error) for both in zip(found, oracles, strict=True)
            ]
        return [with_low_precision(*both) for both in zip(found, wider, strict=True)]

    @cached_property
    def _rewritten(self) -> _BuiltShadow | str:
        """The shadow kernel, compiled; or the reason why there is none."""
        try:
            return self._built_shadow(is_low_precision=False, is_exact=False)
        except NotDerivableError as error:
            return str(error)
        except Exception as error:  # Whatever TVM raises about an unforeseen kernel.
            raise_machine_error(error, "deriving tolerances")
            return _unevaluated(error)

    @property
    def _shadow(self) -> _BuiltShadow | None:
        return None if isinstance(self._rewritten, str) else self._rewritten

    @property
    def _reason(self) -> str:
        return self._rewritten if isinstance(self._rewritten, str) else ""

    def _built_shadow(self, *, is_low_precision: bool, is_exact: bool) -> _BuiltShadow:
        """Return a shadow kernel, compiled on first use."""
        key = is_low_precision, is_exact
        if key not in self._built_shadows:
            functions = LOW_PRECISION_FUNCTIONS if is_low_precision else FUNCTIONS
            shadow = shadow_kernel_of(
                self._function,
                self._results,
                functions,
                is_exact=is_exact,
                is_perturbed=self._is_moved,
            )
            built = tvm.tirx.build(tvm.IRModule({ENTRY: shadow.function}), target=_TARGET)
            self._built_shadows[key] = _BuiltShadow(kernel=shadow, run=built[ENTRY])
        return self._built_shadows[key]

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
        if self._shadow.kernel.rounds:
            return None
        if is_integer(oracle.dtype):
            return equal_values(oracle.dtype)
        if underflow(oracle.dtype.name) == SMALLEST_NORMAL:
            return RuleTolerance(
                atol=SMALLEST_NORMAL, rtol=0.0, origin=f"{_MOVES_ONLY}; denormals may be flushed"
            )
        return EqualTolerance(origin=_MOVES_ONLY)

    def _evaluated(
        self,
        shadow: _BuiltShadow,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        oracles: Sequence[Array],
        orders: Sequence[int] = ORDERS,
        slack: Mapping[int, Array] | None = None,
    ) -> tuple[dict[int, Array], dict[int, Array]]:
        """Run a shadow kernel; return values and errors of results by number of the parameter."""
        slack = slack or {}
        outputs = dict(zip(self._results, oracles, strict=True))
        passed: list[Any] = []
        values: dict[int, Any] = {}
        for number in range(len(self._function.params)):
            if number in scalars:
                passed.append(scalars[number])
            elif number in outputs:
                initial = arguments.get(number)
                if initial is None:
                    initial = np.zeros_like(outputs[number])
                wide = as_float64(initial) if is_float(initial.dtype) else initial
                values[number] = tvm.runtime.tensor(np.require(wide, requirements=["C", "W"]))
                passed.append(values[number])
            else:
                passed.append(tvm.runtime.tensor(_widened(arguments[number])))
        for number in shadow.kernel.perturbed:
            perturbation = self._perturbation(arguments[number])
            if number in slack:
                larger = np.fmax(perturbation.numpy(), slack[number].astype(np.float32))
                perturbation = tvm.runtime.tensor(np.require(larger, np.float32, "C"))
            passed.append(perturbation)
        errors = {
            n: tvm.runtime.tensor(self._initial(n, arguments, outputs[n]))
            for n in shadow.kernel.errors
        }
        passed += errors.values()
        if not shadow.kernel.has_lanes:
            shadow.run(*passed)
            return _arrays(values), _arrays(errors)
        tensors = [*values.values(), *errors.values()]
        begun = [tensor.numpy() for tensor in tensors]
        largest: dict[int, Array] = {}
        # The order of the kernel comes last, so that its values are the ones returned.
        for lanes in reversed(orders):
            for tensor, array in zip(tensors, begun, strict=True):
                tensor.copyfrom(array)
            shadow.run(*passed, lanes)
            for n, found in _arrays(errors).items():
                # A NaN means an error without a bound, and ``maximum`` keeps it.
                largest[n] = np.maximum(largest[n], found) if n in largest else found
        return _arrays(values), largest

    def _perturbation(self, array: Array) -> Any:
        """Return the perturbation of an input; the last few are kept, since cases share weights."""
        if id(array) not in self._perturbations:
            while len(self._perturbations) >= _KEPT:
                self._perturbations.pop(next(iter(self._perturbations)))
            self._perturbations[id(array)] = (array, tvm.runtime.tensor(input_perturbation(array)))
        return self._perturbations[id(array)][1]

    def _initial(self, number: int, arguments: Mapping[int, Array], oracle: Array) -> Array:
        if number in arguments and is_float(arguments[number].dtype):
            return input_perturbation(arguments[number]).astype(np.float64)
        return np.zeros(oracle.shape)

    @property
    def _origin(self) -> str:
        assert self._shadow is not None
        sources = ", ".join(("rounding of each operation", *self._shadow.kernel.error_sources))
        return f"float64 evaluation with the errors of: {sources}"


@dataclass(frozen=True, kw_only=True)
class _BuiltShadow:
    """A shadow kernel, and its compiled function."""

    kernel: ShadowKernel
    run: Any


def _arrays(tensors: Mapping[int, Any]) -> dict[int, Array]:
    return {number: tensor.numpy() for number, tensor in tensors.items()}


def _without_low_precision(found: Tolerance, oracle: Array, error: Exception) -> Tolerance:
    """Return the same tolerance, which judges nothing on devices with low-precision functions."""
    reason = f"not judged on devices with low-precision functions: {_unevaluated(error)}"
    unjudged = ElementTolerance(bound=np.full(oracle.shape, np.nan), origin="")
    both = with_low_precision(found, unjudged)
    return replace(both, origin=f"{found.origin}; {reason}")  # type: ignore[type-var]


def _unevaluated(error: Exception) -> str:
    return f"the kernel cannot be evaluated in float64: {message_line(error, -1)}"


def _widened(array: Array) -> Array:
    """Return an input as the shadow kernel takes it: floats narrower than float32 as float32."""
    if is_float(array.dtype) and array.dtype.itemsize < 4:
        return array.astype(np.float32)
    return np.require(array, requirements="C")


def rule_because(oracle: Array, reason: str) -> RuleTolerance:
    """Return ``tolerance_for`` an oracle; its origin gives the reason why it is not derived."""
    rule = tolerance_for(oracle)
    if is_integer(oracle.dtype):
        return rule
    return RuleTolerance(atol=rule.atol, rtol=rule.rtol, origin=f"{rule.origin}, because {reason}")
