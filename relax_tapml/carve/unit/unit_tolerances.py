"""Tolerances for the cases of one unit, derived from the unit itself."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.ir import GlobalVar, Op

from relax_tapml.arrays import Array, as_float64, is_integer
from relax_tapml.carve.unit.copied_axes import CopiedAxes
from relax_tapml.carve.unit.evaluations import Evaluations
from relax_tapml.carve.unit.held_call import held_call
from relax_tapml.compare.tolerances.elements import ElementTolerance, rounded_up
from relax_tapml.compare.tolerances.rule import tolerance_for
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.derive.choice_derivation import (
    ChoiceDerivation,
    derivation_of,
    restricted_derivation,
)
from relax_tapml.derive.derivation import Derivation, Promising, rule_because
from relax_tapml.derive.operators import operator_tolerances
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.kernel_flow.free_axes import free_axes
from relax_tapml.kernel_flow.kernel_call import KernelCall, kernel_call_of
from relax_tapml.kernel_flow.plain_kernel import plain_kernel
from relax_tapml.printable import message_line

_MASK = -1e4
"""Logarithms of this and below are of no weight at all."""
_OF_MASK = 1e-3


class UnitTolerances:
    """Derives tolerances for the cases of a unit.

    Parameters
    ----------
    module
        Of the unit, as ``unit_module`` makes it.
    evaluations
        Which evaluations are left out; by default none.
    """

    def __init__(self, module: tvm.IRModule, evaluations: Evaluations | None = None) -> None:
        self._module = module
        self._evaluations = evaluations or Evaluations()
        # Why the last call of ``evaluated`` or ``evaluable`` returned None.
        self.unevaluated = ""
        self._copies = CopiedAxes()
        self._held_calls: dict[tuple[str, CopiedAxes], KernelCall] = {}
        self._free_axes: dict[tuple[str, int], dict[int, dict[int, int]]] = {}
        self._derivations: dict[
            tuple[tirx.PrimFunc, tuple[int, ...]], Derivation | ChoiceDerivation
        ] = {}

    def with_copies(self, copies: CopiedAxes) -> UnitTolerances:
        """Return what evaluates calls with copies, of which it is given the held places only.

        The evaluations of both are counted together.
        """
        found = copy(self)
        found._copies = copies
        return found

    def of(
        self, function: str, inputs: Sequence[Array], oracles: Sequence[Array]
    ) -> list[Tolerance]:
        """Return one tolerance for each output of a case.

        Parameters
        ----------
        function
            Of the module: the one that does the call.
        inputs, oracles
            The tensors of the case, in order.
        """
        call = self._call(function)
        if call is None:
            found = self._of_operator(function, inputs, oracles)
            return found or [rule_because(o, "the unit is no PrimFunc") for o in oracles]
        refusal = self._evaluations.begin()
        if refusal:
            return [rule_because(oracle, refusal) for oracle in oracles]
        found = self._derivation(function, call).tolerances(
            _arguments(call, inputs), call.scalars, oracles
        )
        return list(map(no_more_than_rule, found, oracles)) if call.is_runtime_callback else found

    def evaluated(
        self,
        function: str,
        inputs: Sequence[Array],
        like: Sequence[Array],
        *,
        is_exact: bool = False,
        recorded: Sequence[tuple[Array, ...]] | None = None,
        is_promising: Promising | None = None,
    ) -> tuple[list[Array], list[Tolerance]] | None:
        """Evaluate a case function in float64; see ``Derivation.evaluated``.

        Returns
        -------
        tuple or None
            None also where the unit is no PrimFunc, or one that would run for long, and where
            this evaluation crashed before.
        """
        call = self.evaluable(function, inputs, like, is_exact=is_exact)
        if call is None:
            return None
        self.unevaluated = self._evaluations.begin()
        if self.unevaluated:
            return None
        derivation = self._derivation(function, call)
        arguments = _arguments(call, inputs)
        if isinstance(derivation, Derivation):
            found = derivation.evaluated(
                arguments,
                call.scalars,
                like,
                is_exact=is_exact,
                recorded=recorded,
                is_promising=is_promising,
            )
        elif recorded is None:
            found = derivation.evaluated(arguments, call.scalars, like, is_exact=is_exact)
        else:
            self.unevaluated = "another choice may read other places"
            return None
        if found is None:
            self.unevaluated = "it cannot be evaluated in float64; see the origin of its tolerances"
        return found

    @property
    def module(self) -> tvm.IRModule:
        """The module of the unit."""
        return self._module

    def callback(self, function: str) -> KernelCall | None:
        """Return the call of a case function whose kernel the runtime calls; None for others."""
        call = self._call(function)
        return call if call is not None and call.is_runtime_callback else None

    def evaluated_callback(
        self, function: str, inputs: Sequence[Array], like: Sequence[Array]
    ) -> tuple[list[Array], list[Tolerance]] | None:
        """Evaluate in float64 a kernel that the runtime calls, which writes to its arguments.

        Parameters and result are those of ``evaluated``; inputs that it writes to are as they are
        before the call.
        """
        call = self.callback(function)
        if call is None:
            return None
        derivation = self._derivation(function, call)
        is_long = derivation.too_long(_shapes(call, inputs, like), call.scalars)
        self.unevaluated = is_long or self._evaluations.begin()
        if self.unevaluated or not isinstance(derivation, Derivation):
            return None
        arguments = _arguments(call, inputs)
        try:
            values, _ = derivation.values_and_errors(arguments, call.scalars, like, {})
        except Exception as error:  # Whatever TVM and NumPy raise about arguments or memory.
            raise_machine_error(error, "evaluating a kernel")
            self.unevaluated = message_line(error)
            return None
        outputs = [
            values[number].astype(array.dtype)
            for number, array in zip(call.results, like, strict=True)
        ]
        found = derivation.tolerances(arguments, call.scalars, outputs)
        return outputs, list(map(no_more_than_rule, found, outputs))

    def evaluable(
        self,
        function: str,
        inputs: Sequence[Array],
        like: Sequence[Array],
        *,
        is_exact: bool = False,
    ) -> KernelCall | None:
        """Return the call of a PrimFunc that ``evaluated`` may take; None where it returns None.

        It may still turn out that the errors of the PrimFunc cannot be followed.
        """
        call = self._call(function)
        if call is None:
            self.unevaluated = "the unit is no PrimFunc"
        elif not call.inputs.keys().isdisjoint(call.results):
            self.unevaluated = "it writes to its arguments"
        else:
            self.unevaluated = self._derivation(function, call).too_long(
                _shapes(call, inputs, like), call.scalars, is_exact=is_exact
            )
            return None if self.unevaluated else call
        return None

    def free_axes_of(self, function: str, place: int) -> dict[int, dict[int, int]]:
        """Return the axes of an input that matter to single places of results.

        Parameters
        ----------
        function
            Of the module: the one that does the call.
        place
            Position of the input.

        Returns
        -------
        dict
            Axis of the input to the dimension of each result that has it, by number of the result.
            At each place along that axis, the results depend on the input at this place only, and
            results without it do not depend on the input. Empty where nothing is proven.
        """
        key = function, place
        if key not in self._free_axes:
            self._free_axes[key] = self._find_free_axes(function, place)
        return self._free_axes[key]

    def _find_free_axes(self, function: str, place: int) -> dict[int, dict[int, int]]:
        call = kernel_call_of(self._module, function)
        if call is None or call.is_runtime_callback:
            return {}
        params = [number for number, index in call.inputs.items() if index == place]
        if len(params) != 1 or not call.inputs.keys().isdisjoint(call.results):
            return {}
        try:
            axes = free_axes(plain_kernel(call.kernel))
        except Exception:  # Whatever TVM raises about a kernel that it cannot lower.
            return {}
        found: dict[int, dict[int, int]] = {}
        for axis in axes:
            at = [item.dim for item in axis.inputs if item.param == params[0]]
            results = {call.results.index(i.param): i.dim for i in axis.results}
            if len(at) == 1 and len(results) == len(axis.results):
                found[at[0]] = results
        return found

    def _call(self, function: str) -> KernelCall | None:
        """Return the call of a PrimFunc that a case function does, restricted to held places."""
        key = function, self._copies
        if key not in self._held_calls:
            call = kernel_call_of(self._module, function)
            if call is None:
                return None
            self._held_calls[key] = held_call(call, self._copies)
        return self._held_calls[key]

    def _derivation(self, function: str, call: KernelCall) -> Derivation | ChoiceDerivation:
        """Return the derivation for a call of ``_call``, which a case function does."""
        key = (call.kernel, tuple(call.results))
        if key not in self._derivations:
            whole = kernel_call_of(self._module, function)
            self._derivations[key] = (
                restricted_derivation(call.kernel, whole.kernel, call.results)
                if whole is not None and self._copies.axes
                else derivation_of(call.kernel, call.results)
            )
        return self._derivations[key]

    def _of_operator(
        self, function: str, inputs: Sequence[Array], oracles: Sequence[Array]
    ) -> list[Tolerance] | None:
        """Return tolerances of a unit that each side lowers by itself; None if not known."""
        caller = self._module[function]
        call = caller.body.blocks[0].bindings[0].value
        if not isinstance(call, relax.Call) or not isinstance(call.op, GlobalVar):
            return None
        unit = self._module[call.op]
        if not isinstance(unit, relax.Function):
            return None
        calls = [
            binding.value
            for block in unit.body.blocks
            for binding in block.bindings
            if isinstance(binding.value, relax.Call)
        ]
        is_operator = len(calls) == 1 and isinstance(calls[0].op, Op)
        is_plain = is_operator and list(call.args) == list(caller.params)
        # An operator of a constant has no parameters.
        if not is_plain or not unit.params or not calls[0].args[0].same_as(unit.params[0]):
            return None
        return operator_tolerances(calls[0], inputs, oracles)


def _arguments(call: KernelCall, inputs: Sequence[Array]) -> dict[int, Array]:
    return {**{number: inputs[index] for number, index in call.inputs.items()}, **call.constants}


def _shapes(
    call: KernelCall, inputs: Sequence[Array], outputs: Sequence[Array]
) -> dict[int, tuple[int, ...]]:
    shapes = {number: inputs[index].shape for number, index in call.inputs.items()}
    return shapes | {n: array.shape for n, array in zip(call.results, outputs, strict=False)}


def no_more_than_rule(derived: Tolerance, oracle: Array) -> Tolerance:
    """Return the smaller of a derived bound and what the dtype allows.

    A kernel of a KV cache scales what it has summed up by how the maximum moved, again and again.
    All of that cancels out in the end; the bounds of it do not, and grow with the sequence.

    Where a sequence has no token the logarithm of the sum of its weights is a mask, to which a
    kernel that adds up in several threads adds the logarithm of their number. No weight is left of
    either.
    """
    rule = tolerance_for(oracle)
    if not isinstance(derived, ElementTolerance) or is_integer(oracle.dtype):
        return derived
    # NaN where the errors have grown beyond all bounds: there the dtype decides.
    own = as_float64(derived.bound)
    least = np.fmin(own, rule.allowed(oracle))
    values = as_float64(oracle)
    bound = np.where(np.isfinite(values), least, own)
    origin = f"{derived.origin}; at most {rule.origin}"
    is_mask = np.isfinite(values) & (values <= _MASK)
    if is_mask.any():
        bound = np.where(is_mask, np.maximum(bound, _OF_MASK * np.abs(values)), bound)
        origin += f"; {_OF_MASK:g} of a mask, which says that a sequence has no token there"
    low_precision = None
    if derived.low_precision is not None:
        low_precision = rounded_up(bound + _more(derived.low_precision, own), oracle.dtype)
    return ElementTolerance(
        bound=rounded_up(bound, oracle.dtype),
        origin=origin,
        low_precision=low_precision,
    )


def _more(low_precision: Array, bound: Array) -> Array:
    """Return what low-precision functions add to a bound; nothing where there is no bound."""
    with np.errstate(invalid="ignore"):
        more = np.maximum(as_float64(low_precision) - bound, 0.0)
    return np.where(np.isnan(more), 0.0, more)
