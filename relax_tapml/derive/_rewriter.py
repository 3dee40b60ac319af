"""Rewrites the statements of a PrimFunc to float64, with an error bound beside each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from relax_tapml._compat import prim
from relax_tapml.arrays import is_float
from relax_tapml.derive._emitted import Emitted
from relax_tapml.derive._expression import Expressions, Place
from relax_tapml.derive._functions import Function
from relax_tapml.derive._partial_sums import PartialSum
from relax_tapml.derive._precision import unit_roundoff
from relax_tapml.derive._shadow_loops import in_lanes, is_parallel, is_short, runs_once, serial
from relax_tapml.derive._sum_loops import SERIAL, added_to, is_same_element, terms_of
from relax_tapml.derive.bounded import (
    F64,
    Bounded,
    NotDerivableError,
    dtype_of,
    magnitude,
    number,
    plus,
)
from relax_tapml.kernel_flow.expressions import loaded_buffers

ENTRY = "shadow_kernel"
LANES = "lanes"
ORDER_FACTOR = 8.0
"""Where partial sums are not followed, a sum of n terms may differ by ``min(n, 8 sqrt(n))``
roundings of the sum of magnitudes: where it is not done in innermost loops, or where something
reads it before it is complete.
"""


@dataclass(frozen=True, kw_only=True)
class ShadowKernel:
    """A PrimFunc that computes in float64, with an error bound for each value.

    Parameters
    ----------
    function
        Takes the parameters of the kernel, then the perturbations, then the errors, then ``lanes``
        if it has lanes. Float inputs are float32, or float64 where the kernel takes float64; float
        results are float64.
    perturbed
        Numbers of the kernel's parameters that are float inputs. The perturbation of each of their
        values is passed as float32, of wide ones as float64.
    errors
        Numbers of the kernel's parameters that are results with errors, which are float64.
    rounds
        Whether the kernel rounds anything.
    error_sources
        Descriptions of what the errors come from.
    has_lanes
        Whether the order of its sums is an argument: terms 0, lanes, 2 lanes, ... come first, then
        1, lanes + 1, and so on. One lane is the order of the kernel.
    """

    function: tirx.PrimFunc
    perturbed: tuple[int, ...]
    errors: tuple[int, ...]
    rounds: bool
    error_sources: tuple[str, ...]
    has_lanes: bool = False


class Rewriter:
    """Rewrites a function without blocks, for a given set of tensors that have errors.

    Parameters
    ----------
    function
        Without blocks, as ``plain_kernel`` returns it.
    results, functions, is_exact, wide, kept
        As for ``shadow_kernel_of``.
    uncertain
        The tensors that have errors.
    has_perturbations
        Whether inputs are perturbed.

    Attributes
    ----------
    found
        The tensors that get a value with an error.
    """

    def __init__(
        self,
        function: tirx.PrimFunc,
        results: frozenset[int],
        uncertain: set[Any],
        functions: Mapping[str, Function],
        *,
        has_perturbations: bool = True,
        is_exact: bool = False,
        wide: frozenset[int] = frozenset(),
        kept: frozenset[int] = frozenset(),
    ) -> None:
        self.found: set[Any] = set()
        self._function = function
        self._uncertain = uncertain
        self._has_perturbations = has_perturbations and not is_exact
        self._is_exact = is_exact
        self._lanes = tirx.Var(LANES, "int64")
        self._has_lanes = False
        # For the loops that only add to elements: the sum that is followed for each element.
        self._sums: list[_Sum] = []
        self._results = {function.params[number] for number in results}
        self._inputs = set(function.params) - self._results
        self._loops: list[tirx.For] = []
        self._emitted = Emitted()
        self._places: dict[Any, Place] = {}
        self._bound: dict[Any, Any] = {}
        self._expressions = Expressions(
            places=self._places, bind=self._emitted.bind, functions=functions, is_exact=is_exact
        )
        self._reread = loaded_buffers(function) | {function.params[number] for number in kept}
        self._wide = wide

    def shadow(self) -> ShadowKernel:
        """Return the shadow kernel. Raises ``NotDerivableError`` where there is none."""
        params, perturbations, errors = [], {}, {}
        for number_, param in enumerate(self._function.params):
            if not tirx.is_buffer_var(param):
                params.append(param)
                continue
            dtype = str(param.dtype)
            if dtype.endswith(("int4", "int2", "int1")) or dtype.startswith("float4"):
                raise NotDerivableError(f"the kernel has a {dtype} tensor")
            if param in self._results:
                place = self._place(param)
                if place.errors is not None:
                    errors[number_] = place.errors
            elif is_float(dtype):
                is_wide = number_ in self._wide
                wide = F64 if dtype == F64 or is_wide else "float32"
                values = tirx.decl_buffer(param.shape, wide, param.name)
                place = Place(values=values)
                if self._has_perturbations or is_wide:
                    place.errors = perturbations[number_] = tirx.decl_buffer(
                        param.shape, F64 if is_wide else "float32", f"{param.name}_perturbation"
                    )
            else:
                place = Place(values=param)
            self._places[param] = place
            params.append(place.values)
        body = self._visited(self._function.body)
        attrs = {"global_symbol": ENTRY, "tirx.noalias": True}
        params += [*perturbations.values(), *errors.values()]
        params += [self._lanes] if self._has_lanes else []
        return ShadowKernel(
            function=tirx.PrimFunc(params, body).with_attrs(attrs),
            perturbed=tuple(perturbations),
            errors=tuple(errors),
            rounds=self._expressions.rounds,
            error_sources=tuple(self._expressions.error_sources),
            has_lanes=self._has_lanes,
        )

    def _place(self, buffer: Any) -> Place:
        values = buffer
        if is_float(str(buffer.dtype)):
            values = tirx.decl_buffer(buffer.shape, F64, buffer.name)
        errors = None
        if buffer in self._uncertain:
            errors = tirx.decl_buffer(buffer.shape, F64, f"{buffer.name}_error")
        return Place(values=values, errors=errors)

    def _visited(self, statement: Any) -> Any:
        """Rewrite a statement; what its expressions need is bound before it."""
        return self._emitted.apart(lambda: self._visit(statement))

    def _visit(self, statement: Any) -> None:
        match statement:
            case tirx.SeqStmt():
                for part in statement.seq:
                    self._visit(part)
            case tirx.Bind():
                self._bound[statement.var] = statement.value
                found = self._expressions.of(statement.value)
                self._expressions.variables[statement.var] = Bounded(
                    value=self._emitted.bind(found.value),
                    error=None if found.error is None else self._emitted.bind(found.error),
                )
            case tirx.For():
                self._visit_loop(statement)
            case tirx.IfThenElse():
                condition = self._expressions.exact(
                    statement.condition, "whether it stores something"
                )
                otherwise = statement.else_case
                self._emitted.add(
                    tirx.IfThenElse(
                        condition,
                        self._visited(statement.then_case),
                        None if otherwise is None else self._visited(otherwise),
                    )
                )
            case tirx.AllocBuffer():
                place = self._places[statement.buffer] = self._place(statement.buffer)
                self._emitted.add(tirx.AllocBuffer(place.values))
                if place.errors is not None:
                    self._emitted.add(tirx.AllocBuffer(place.errors))
            case tirx.BufferStore():
                self._visit_store(statement)
            case tirx.Evaluate() if isinstance(statement.value, prim.IntImm):
                pass
            case _:
                raise NotDerivableError(f"the kernel has a {type(statement).__name__}")

    def _visit_loop(self, loop: tirx.For) -> None:
        if loop.kind not in SERIAL or loop.step is not None:
            raise NotDerivableError("the kernel runs in threads")
        added = [] if self._sums else added_to(loop, self._bound)
        if added:
            self._visit_sums(loop, added)
            return
        exact = self._expressions.exact
        start, extent = exact(loop.min, "a loop"), exact(loop.extent, "a loop")
        is_reordered = bool(self._sums) and not is_short(loop)
        variable = loop.loop_var
        if is_reordered:
            variable = tirx.Var(variable.name, dtype_of(variable))
            self._expressions.variables[loop.loop_var] = Bounded(value=variable)
        self._loops.append(loop)
        body = self._visited(loop.body)
        self._loops.pop()
        if is_reordered:
            self._has_lanes = True
            self._emitted.add(in_lanes(self._lanes, variable, start, extent, body))
        elif all(map(runs_once, self._loops)) and not runs_once(loop) and is_parallel(loop):
            self._emitted.add(tirx.For(variable, start, extent, tirx.ForKind.PARALLEL, body))
        else:
            self._emitted.add(serial(variable, start, extent, body))

    def _visit_sums(self, loop: tirx.For, added: Sequence[Any]) -> None:
        """Rewrite a loop that only adds to elements, the same ones in every turn."""
        exact = self._expressions.exact
        for store in added:
            indices = [exact(index, "where it stores") for index in store.indices]
            place = self._places.get(store.buffer)
            if place is None or store.buffer in self._inputs:
                raise NotDerivableError(f"the kernel writes to its input {store.buffer.name}")
            partial = PartialSum(
                str(store.buffer.dtype),
                new_cell=self._emitted.new_cell,
                store_cell=self._emitted.store_cell,
                is_exact=self._is_exact,
            )
            error = None if place.errors is None else tirx.BufferLoad(place.errors, indices)
            partial.start(tirx.BufferLoad(place.values, indices), error)
            self._sums.append(_Sum(store=store, place=place, indices=indices, partial=partial))
        self._visit_loop(loop)
        done, self._sums = self._sums, []
        for one in done:
            self.found.add(one.store.buffer)
            self._emitted.add(tirx.BufferStore(one.place.values, one.partial.value, one.indices))
            if one.place.errors is not None:
                error = _unless_infinite(one.partial.value, one.partial.error())
                self._emitted.add(tirx.BufferStore(one.place.errors, error, one.indices))

    def _visit_store(self, store: Any) -> None:
        place = self._places.get(store.buffer)
        if place is None or store.buffer in self._inputs:
            raise NotDerivableError(f"the kernel writes to its input {store.buffer.name}")
        exact = self._expressions.exact
        terms = terms_of(store, self._bound)
        for one in self._sums:
            if is_same_element(one.store, store):
                self._add(one.partial, store, terms)
                return
        indices = [exact(index, "where it stores") for index in store.indices]
        if terms is not None:
            found = self._summed(store, place, indices, terms)
        else:
            # A result that is not read again gets its last rounding when it is compared.
            is_last = store.buffer in self._results and store.buffer not in self._reread
            found = self._expressions.of(store.value, is_last=is_last)
        value = self._emitted.bind(found.value)
        self._emitted.add(tirx.BufferStore(place.values, value, indices))
        if found.error is not None:
            self.found.add(store.buffer)
        if place.errors is None:
            return
        error = number(0.0)
        if found.error is not None and dtype_of(value) == "bool":
            error = prim.Select(found.error, number(1.0), number(0.0))
        elif found.error is not None:
            error = found.error
            if is_float(str(store.buffer.dtype)):
                error = _unless_infinite(value, error)
        self._emitted.add(tirx.BufferStore(place.errors, error, indices))

    def _add(
        self, partial: PartialSum, store: Any, terms: Sequence[tuple[bool, Any]] | None
    ) -> None:
        """Add terms to a sum that is followed; without terms, start the sum again."""
        if terms is None:
            found = self._expressions.of(store.value)
            partial.start(found.value, found.error)
            return
        self._expressions.error_sources[self._sum_source(store)] = None
        self._expressions.rounds = True
        for is_added, term in terms:
            found = self._expressions.of(term)
            value = self._emitted.bind(found.value)
            partial.add(value if is_added else -value, found.error)

    def _summed(
        self, store: Any, place: Place, indices: list[Any], terms: Sequence[tuple[bool, Any]]
    ) -> Bounded:
        """Add terms to the stored value, for any order in which the loops run."""
        self._expressions.error_sources[self._sum_source(store)] = None
        total: Any = tirx.BufferLoad(place.values, indices)
        error: Any = None if place.errors is None else tirx.BufferLoad(place.errors, indices)
        roundings = self._roundings(store)
        for is_added, term in terms:
            found = self._expressions.of(term)
            value = self._emitted.bind(found.value)
            total = total + value if is_added else total - value
            self._expressions.rounds = True
            unit = number(unit_roundoff(str(store.buffer.dtype)))
            error = plus(error, found.error, magnitude(value) * unit * roundings)
        return Bounded(value=total, error=error)

    def _reduced_extents(self, store: Any) -> list[Any]:
        """Return the extents of the loops that may store to one element more than once.

        A loop does not if its variable is an index by itself, or an index with a constant added.
        """
        kept: set[Any] = set()
        for index in store.indices:
            is_shifted = isinstance(index, prim.Add | prim.Sub) and isinstance(index.b, prim.IntImm)
            kept.add(index.a if is_shifted else index)
        return [loop.extent for loop in self._loops if loop.loop_var not in kept]

    def _sum_source(self, store: Any) -> str:
        extents = self._reduced_extents(store)
        count = 1
        for extent in extents:
            if not isinstance(extent, prim.IntImm):
                return "sums, by their partial sums in several orders"
            count *= int(extent)
        return f"sums of {count} terms, by their partial sums in several orders"

    def _roundings(self, store: Any) -> Any:
        count: Any = number(1.0)
        constant = 1.0
        is_constant = True
        for extent in self._reduced_extents(store):
            if isinstance(extent, prim.IntImm):
                constant *= int(extent)
            else:
                is_constant = False
                count = count * prim.Cast(F64, self._expressions.exact(extent, "a loop"))
        if is_constant:
            return number(max(1.0, min(constant, ORDER_FACTOR * constant**0.5)))
        count = count * number(constant)
        return prim.Min(count, number(ORDER_FACTOR) * tirx.sqrt(count))


@dataclass(frozen=True, kw_only=True)
class _Sum:
    """An element that loops add to, and the sum that is followed for it.

    Parameters
    ----------
    store
        One of the stores that add to it.
    place, indices
        Where it is kept.
    partial
        Its value and error while it is added to.
    """

    store: Any
    place: Place
    indices: Sequence[Any]
    partial: PartialSum


def _unless_infinite(value: Any, error: Any) -> Any:
    """Return an error, or zero for an infinite value: additions do not change an infinity."""
    is_infinite = prim.EQ(magnitude(value), number(float("inf")))
    return prim.Select(is_infinite, number(0.0), error)
