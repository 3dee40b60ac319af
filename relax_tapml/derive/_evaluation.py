"""The float64 evaluation of one PrimFunc: as a whole, or in pieces where that would be long."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tvm_ffi
from tvm import tirx

from relax_tapml._compat import Analyzer
from relax_tapml.arrays import Array, is_float
from relax_tapml.derive._pieces import Part, Pieces, Product, pieces_of
from relax_tapml.derive._precision import input_perturbation
from relax_tapml.derive._product_matrices import Factor
from relax_tapml.derive._products import evaluate_product
from relax_tapml.derive._sampled import Sampled
from relax_tapml.derive._shadow_runs import ORDERS, Evaluated, Mode, ShadowRuns
from relax_tapml.derive.bounded import NotDerivableError
from relax_tapml.kernel_flow.iterations import Shape, iterations_of
from relax_tapml.kernel_flow.kernel_call import dims_of
from relax_tapml.kernel_flow.plain_kernel import plain_kernel

EXACT_ITERATIONS = 3e7
"""Of the innermost loops of a kernel: up to so many, every partial sum of it is followed. Each
takes some nanoseconds, for each order of the sums."""

MOST_ITERATIONS = 4e9
"""A kernel is not evaluated as a whole if its loops run longer: half a minute on one core."""

MOST_TERMS = 2e12
"""Nor if a matrix library adds up more products for it. Each takes 0.2 ns of one core, and the work
is done by all cores: 400 s of one, 25 s of 16."""

EXACT_SHARE = 1 / 4
"""What a term of a sum that is known to be exact takes, of one with the errors of the sum."""

PRODUCT_COST = 1 / 40
"""What a term of a product costs beside an iteration of a loop."""

_MANY = 1e6
_FEW_ORDERS = (ORDERS[0], ORDERS[2])


def _orders(iterations: float) -> Sequence[int]:
    """Return in how many orders the sums of a kernel are evaluated, which each take their time."""
    if iterations > EXACT_ITERATIONS:
        return ORDERS[:1]
    return ORDERS if iterations <= _MANY else _FEW_ORDERS


@dataclass(frozen=True, kw_only=True)
class Work:
    """What an evaluation does.

    Parameters
    ----------
    iterations
        Of the innermost loops of shadow kernels.
    terms
        Products that a matrix library adds up; those of exact sums count as their share.
    """

    iterations: float
    terms: float = 0.0

    @property
    def too_long(self) -> str:
        """Why this is not done; empty if it is."""
        if self.iterations > MOST_ITERATIONS:
            return f"its float64 evaluation would run {self.iterations:.1g} loop iterations"
        if self.terms > MOST_TERMS:
            return f"its float64 evaluation would add up {self.terms:.1g} products"
        return ""


class Evaluation:
    """Evaluates one PrimFunc in float64, with errors.

    A kernel of few iterations is evaluated as a whole: every partial sum of every element. Of a
    larger one, products of two tensors are evaluated by matrix products, with the errors of a
    sample (``derive._products``), and what comes between as a whole.

    Parameters
    ----------
    function, results, is_perturbed
        As for ``ShadowRuns``.
    times
        How many such calls are one evaluation, which is divided into blocks. They count together.
    """

    def __init__(
        self,
        function: tirx.PrimFunc,
        results: Sequence[int],
        *,
        is_perturbed: bool = False,
        times: int = 1,
    ) -> None:
        self._times = times
        self._is_perturbed = is_perturbed
        self._function = function
        self._results = list(results)
        self.whole = ShadowRuns(function, results, is_perturbed=is_perturbed)
        self._parts: dict[int, ShadowRuns] = {}

    def work(
        self, shapes: Mapping[int, Shape], scalars: Mapping[int, float], *, is_exact: bool
    ) -> Work:
        """Return what an evaluation does, by the shapes of parameters."""
        whole = self._whole(shapes, scalars)
        if whole <= EXACT_ITERATIONS or self._pieces is None:
            return Work(iterations=whole)
        dims = dims_of(self._function, shapes, scalars)
        parts = [piece for piece in self._pieces.pieces if isinstance(piece, Part)]
        rest = self._times * sum(iterations_of(part.function, {}, {}, dims) for part in parts)
        return Work(iterations=rest, terms=(whole - rest) * (EXACT_SHARE if is_exact else 1.0))

    def run(
        self,
        mode: Mode,
        arguments: Mapping[int, Array],
        scalars: Mapping[int, float],
        like: Sequence[Array],
        slack: Mapping[int, Array] | None = None,
    ) -> Evaluated:
        """Evaluate all elements of the results, in as many orders as there is time for.

        Parameters
        ----------
        mode, arguments, scalars, like, slack
            As for ``ShadowRuns.run``.

        Raises
        ------
        NotDerivableError
            The errors cannot be followed, or the evaluation would take too long.
        """
        shapes = {number: array.shape for number, array in arguments.items()}
        shapes |= {n: array.shape for n, array in zip(self._results, like, strict=True)}
        whole = self._whole(shapes, scalars)
        work = self.work(shapes, scalars, is_exact=mode.is_exact)
        if work.too_long and self._times == 1:
            raise NotDerivableError(work.too_long)
        orders: Sequence[int] = ORDERS[:1]
        if not mode.is_exact:
            orders = _orders(work.iterations + PRODUCT_COST * work.terms)
        is_inplace = not arguments.keys().isdisjoint(self._results)
        if whole <= EXACT_ITERATIONS or self._pieces is None or is_inplace:
            return self.whole.run(mode, arguments, scalars, like, orders=orders, slack=slack)
        run = _Run(self._pieces, mode, orders, self._runs_of)
        params = list(self._function.params)
        run.scalars |= {params[number]: value for number, value in scalars.items()}
        run.scalars |= dims_of(self._function, shapes, scalars)
        for number, array in arguments.items():
            errors = (slack or {}).get(number)
            if errors is not None:
                errors = np.fmax(input_perturbation(array), errors).astype(np.float64)
            run.tensors[params[number]] = Factor(values=array, errors=errors, is_input=True)
        for number, array in zip(self._results, like, strict=True):
            run.shapes[params[number]] = array.shape
        return run.results({number: params[number] for number in self._results})

    def _whole(self, shapes: Mapping[int, Shape], scalars: Mapping[int, float]) -> float:
        return self._times * iterations_of(self._function, shapes, scalars)

    @cached_property
    def _pieces(self) -> Pieces | None:
        return pieces_of(plain_kernel(self._function))

    def _runs_of(self, part: Part, wide: Collection[int], kept: Collection[int]) -> ShadowRuns:
        # Which of its tensors are values of another piece is the same in every call.
        key = id(part)
        if key not in self._parts:
            self._parts[key] = ShadowRuns(
                part.function,
                part.results,
                is_perturbed=self._is_perturbed,
                wide=wide,
                kept=kept,
            )
        return self._parts[key]


class _Run:
    """One evaluation in pieces."""

    def __init__(self, pieces: Pieces, mode: Mode, orders: Sequence[int], runs_of: Any) -> None:
        self._pieces = pieces
        self._mode = mode
        self._orders = orders
        self._runs_of = runs_of
        # Dimensions and parameters that are numbers.
        self.scalars: dict[Any, float] = {}
        self.tensors: dict[Any, Factor] = {}
        self.shapes: dict[Any, tuple[int, ...]] = {}
        self._samples: list[Sampled] = []
        self._read = {buffer for piece in pieces.pieces for buffer in piece.read}

    def results(self, wanted: Mapping[int, Any]) -> Evaluated:
        for piece in self._pieces.pieces:
            if isinstance(piece, Product):
                self._multiply(piece)
            else:
                self._run_part(piece)
        found = {number: self.tensors[buffer] for number, buffer in wanted.items()}
        return Evaluated(
            values={number: factor.values for number, factor in found.items()},
            errors={n: factor.errors for n, factor in found.items() if factor.errors is not None},
            samples=tuple(self._samples),
        )

    def _multiply(self, product: Product) -> None:
        extents = {v: self._sized(extent) for v, extent in product.extents.items()}
        left, right = (self.tensors[operand.buffer] for operand in product.operands)
        made = evaluate_product(
            product,
            (left, right),
            extents,
            self._shape(product.result),
            is_exact=self._mode.is_exact,
        )
        self.tensors[product.result] = Factor(
            values=made.values, errors=made.errors, is_input=False
        )
        if made.sampled is not None:
            self._samples.append(made.sampled)

    def _run_part(self, part: Part) -> None:
        arguments, slack, wide = {}, {}, []
        for number, buffer in enumerate(part.buffers):
            if number in part.results:
                continue
            factor = self.tensors[buffer]
            arguments[number] = factor.values
            if factor.errors is not None:
                slack[number] = factor.errors
            if not factor.is_input and is_float(str(buffer.dtype)):
                wide.append(number)
            elif not factor.is_input and factor.errors is not None and factor.errors.any():
                raise NotDerivableError("rounding may change a whole number between two products")
        kept = [n for n in part.results if part.buffers[n] in self._read]
        scalars = {
            len(part.buffers) + number: self.scalars[variable]
            for number, variable in enumerate(part.scalars)
        }
        like = [
            np.empty(self._shape(part.buffers[n]), _like(str(part.buffers[n].dtype)))
            for n in part.results
        ]
        made = self._runs_of(part, wide, kept).run(
            self._mode, arguments, scalars, like, orders=self._orders, slack=slack
        )
        for number in part.results:
            self.tensors[part.buffers[number]] = Factor(
                values=made.values[number], errors=made.errors.get(number), is_input=False
            )

    def _shape(self, buffer: Any) -> tuple[int, ...]:
        if buffer not in self.shapes:
            return tuple(self._sized(extent) for extent in self._pieces.shapes[buffer])
        return self.shapes[buffer]

    def _sized(self, extent: Any) -> int:
        known = tvm_ffi.structural_map(
            extent, (tirx.Var, lambda var: tirx.const(self.scalars[var], str(var.ty.dtype)))
        )
        return int(Analyzer().simplify(known))


def _like(dtype: str) -> Any:
    """Return a dtype that NumPy has: results that are floats are float64 in any case."""
    return "float32" if is_float(dtype) else dtype
