"""The shadow kernels of one PrimFunc, compiled when they are first run."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from relax_tapml.arrays import Array, copy_wide, empty_aligned, is_float
from relax_tapml.capture.host_tensor import tensor_of, tensor_over
from relax_tapml.cpu_schedule.native_cpu import native_cpu_target
from relax_tapml.derive._call import Call
from relax_tapml.derive._functions import FUNCTIONS
from relax_tapml.derive._low_precision import LOW_PRECISION_FUNCTIONS
from relax_tapml.derive._precision import input_perturbation
from relax_tapml.derive._rewriter import ENTRY, ShadowKernel
from relax_tapml.derive._sampled import Sampled
from relax_tapml.derive._shadow_kernel import shadow_kernel_of

ORDERS = (1, 2, 32, 256)
"""In how many lanes the terms of sums are added, one lane after the other. The largest error of all
these orders counts. The first is the order of the kernel; see ``derive._partial_sums`` for further
orders that each of them covers."""

_KEPT = 4


@dataclass(frozen=True, kw_only=True)
class Mode:
    """What a shadow kernel allows for.

    Parameters
    ----------
    is_low_precision
        Whether elementary functions are as inaccurate as on some platforms.
    is_exact
        Whether what no order of the operations rounds has no error; see ``shadow_kernel_of``.
    """

    is_low_precision: bool = False
    is_exact: bool = False


USUAL = Mode()


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Results in float64, by number of the parameter.

    Parameters
    ----------
    values
        Of floats float64, else of the kernel's dtype.
    errors
        How far a right kernel may be from them, float64, of the results that have errors.
    samples
        Of each product, which of its elements were followed and which only estimated.
    """

    values: dict[int, Array]
    errors: dict[int, Array]
    samples: tuple[Sampled, ...] = ()


class BuiltShadow:
    """A shadow kernel, compiled when it is first run."""

    def __init__(self, kernel: ShadowKernel) -> None:
        self.kernel = kernel

    @cached_property
    def run(self) -> Any:
        """The compiled function."""
        return tvm.tirx.build(tvm.IRModule({ENTRY: self.kernel.function}), target=_target())[ENTRY]


@cache
def _target() -> Any:
    """Return this machine's CPU, with little optimisation.

    A shadow kernel runs a few times only, so most of its cost is the compilation, which takes half
    as long without the optimiser's later passes. Instructions of the CPU save a third of a run.
    """
    document = json.loads(str(native_cpu_target()))
    return tvm.target.Target({**document, "opt-level": 1})


class ShadowRuns:
    """Evaluates one PrimFunc in float64.

    Parameters
    ----------
    function
        As Relax lowers operators.
    results
        Numbers of its parameters that hold results.
    is_perturbed
        Whether inputs are perturbed also where nothing rounds; see ``shadow_kernel_of``.
    wide, kept
        As for ``shadow_kernel_of``.
    """

    def __init__(
        self,
        function: tirx.PrimFunc,
        results: Sequence[int],
        *,
        is_perturbed: bool = False,
        wide: Collection[int] = (),
        kept: Collection[int] = (),
    ) -> None:
        self.function = function
        self.results = list(results)
        self._is_perturbed = is_perturbed
        self._wide = frozenset(wide)
        self._kept = frozenset(kept)
        self._shadows: dict[Mode, BuiltShadow] = {}
        # Keyed by the id of an array, which is kept beside it so that no other array gets that id.
        self._perturbations: dict[int, tuple[Array, Any]] = {}

    def shadow(self, mode: Mode) -> BuiltShadow:
        """Return a shadow kernel.

        Raises
        ------
        NotDerivableError
            The errors of the PrimFunc cannot be followed.
        """
        if mode not in self._shadows:
            kernel = shadow_kernel_of(
                self.function,
                self.results,
                LOW_PRECISION_FUNCTIONS if mode.is_low_precision else FUNCTIONS,
                is_exact=mode.is_exact,
                is_perturbed=self._is_perturbed,
                wide=self._wide,
                kept=self._kept,
            )
            self._shadows[mode] = BuiltShadow(kernel)
        return self._shadows[mode]

    def run(
        self,
        mode: Mode,
        call: Call,
        *,
        orders: Sequence[int] = ORDERS,
        slack: Mapping[int, Array] | None = None,
    ) -> Evaluated:
        """Evaluate all elements of the results of a call.

        Parameters
        ----------
        mode
            Which shadow kernel.
        call
            Of the PrimFunc.
        orders
            Of ``ORDERS``, at least the first: the kernel is evaluated once for each.
        slack
            How far float arguments may be off, where that is more than their last place; of
            arguments that are ``wide``, their errors.
        """
        shadow = self.shadow(mode)
        slack = slack or {}
        arguments, outputs = call.arguments, dict(zip(self.results, call.like, strict=True))
        values = {n: _initial_values(arguments.get(n), array) for n, array in outputs.items()}
        errors = {n: _initial_errors(arguments.get(n), outputs[n]) for n in shadow.kernel.errors}
        passed: list[Any] = []
        for number in range(len(self.function.params)):
            if number in call.scalars:
                passed.append(call.scalars[number])
            elif number in outputs:
                passed.append(tensor_to_write(values[number]))
            else:
                passed.append(tensor_of(_widened(arguments[number])))
        passed += [
            self._perturbation_of(number, arguments[number], slack.get(number))
            for number in shadow.kernel.perturbed
        ]
        passed += map(tensor_to_write, errors.values())
        if not shadow.kernel.has_lanes:
            shadow.run(*passed)
            return Evaluated(values=values, errors=errors)
        written = [*values.values(), *errors.values()]
        begun = [array.copy() for array in written] if len(orders) > 1 else []
        largest: dict[int, Array] = {}
        # The order of the kernel comes last, so that its values are the ones returned.
        for lanes in reversed(orders):
            for array, initial in zip(written, begun, strict=False):
                array[...] = initial
            shadow.run(*passed, lanes)
            for n, found in errors.items():
                # A NaN means an error without a bound, and ``maximum`` keeps it.
                largest[n] = np.maximum(largest[n], found) if n in largest else found.copy()
        return Evaluated(values=values, errors=largest)

    def _perturbation_of(self, number: int, array: Array, slack: Array | None) -> Any:
        if number in self._wide:
            errors = np.zeros(array.shape) if slack is None else slack
            return tvm.runtime.tensor(np.require(errors, np.float64, "C"))
        perturbation = self._perturbation(array)
        if slack is None:
            return perturbation
        larger = np.fmax(perturbation.numpy(), slack.astype(np.float32))
        return tvm.runtime.tensor(np.require(larger, np.float32, "C"))

    def _perturbation(self, array: Array) -> Any:
        """Return the perturbation of an input; the last few are kept, since cases share weights."""
        if id(array) not in self._perturbations:
            while len(self._perturbations) >= _KEPT:
                self._perturbations.pop(next(iter(self._perturbations)))
            self._perturbations[id(array)] = (array, tvm.runtime.tensor(input_perturbation(array)))
        return self._perturbations[id(array)][1]


def tensor_to_write(array: Array) -> Any:
    """Return a tensor over the memory of what ``empty_aligned`` returned."""
    tensor = tensor_over(array)
    assert tensor is not None or not array.size
    return tvm.runtime.tensor(array) if tensor is None else tensor


def _initial_values(argument: Array | None, result: Array) -> Array:
    """Return the memory of a result, with what the kernel finds there."""
    dtype = np.dtype(np.float64) if is_float(result.dtype) else result.dtype
    values = empty_aligned(result.shape, dtype)
    if argument is None:
        values[...] = 0
    elif is_float(dtype):
        copy_wide(values, argument)
    else:
        values[...] = argument
    return values


def _initial_errors(argument: Array | None, result: Array) -> Array:
    errors = empty_aligned(result.shape, np.dtype(np.float64))
    errors[...] = 0.0
    if argument is not None and is_float(argument.dtype):
        errors[...] = input_perturbation(argument)
    return errors


def _widened(array: Array) -> Array:
    """Return an input as the shadow kernel takes it: floats narrower than float32 as float32."""
    if not is_float(array.dtype) or array.dtype.itemsize >= 4:
        return array
    wide = empty_aligned(array.shape, np.dtype(np.float32))
    copy_wide(wide, array)
    return wide
