"""The shadow kernel of a PrimFunc: it computes in float64, with an error bound for each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx

from relax_tapml._compat import TensorLoad, buffer_of, prim
from relax_tapml.arrays import is_float
from relax_tapml.derive._expression import Expressions, Place
from relax_tapml.derive._functions import FUNCTIONS, Function
from relax_tapml.derive._partial_sums import PartialSum
from relax_tapml.derive._precision import unit_roundoff
from relax_tapml.derive._sum_loops import (
    SERIAL,
    added_to,
    is_same_element,
    terms_of,
)
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
from relax_tapml.kernel_flow.plain_kernel import plain_kernel

ENTRY = "shadow_kernel"
LANES = "lanes"
ORDER_FACTOR = 8.0
"""Where partial sums are not followed, a sum of n terms may differ by ``min(n, 8 sqrt(n))``
roundings of the sum of magnitudes: where it is not done in innermost loops, or where something
reads it before it is complete.
"""

_SHORT = 8  # Loops with fewer iterations stay in their order.


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


def shadow_kernel_of(
    function: tirx.PrimFunc,
    results: Sequence[int],
    functions: Mapping[str, Function] = FUNCTIONS,
    *,
    is_exact: bool = False,
    is_perturbed: bool = False,
    wide: frozenset[int] = frozenset(),
    kept: frozenset[int] = frozenset(),
) -> ShadowKernel:
    """Rewrite a PrimFunc to float64, with an error bound beside each value.

    Every rounding that the kernel does adds to the error of what it rounds, and every operation
    carries the errors of its operands. So the bound holds for whatever kernel does the same
    operations, with intermediate results in the same precision or a wider one, with sums in any
    order, and with elementary functions as accurate as ``derive._functions`` says. ::

        B[i] = B[i] + A[i, k] * W[k]
        # becomes, with v the product and e its error
        B64[i] = B64[i] + v
        carried[i] = carried[i] + e
        # and, when all of them are there
        B_error[i] = carried[i] + the error that PartialSum estimates from the partial sums

    Parameters
    ----------
    function
        As Relax lowers operators: loops and blocks, no threads. Not changed.
    results
        Numbers of the parameters that it stores results in.
    functions
        How accurate elementary functions are, by the name of the TIR operator.
    is_exact
        For inputs that are the same bits everywhere, such as small whole numbers: inputs are not
        perturbed, and a value that no order of the operations rounds has no error.
    is_perturbed
        Whether inputs are perturbed also where nothing rounds, because they are themselves results
        with errors.
    wide
        Numbers of the float inputs that are values of a shadow kernel themselves: float64, with
        errors in float64.
    kept
        Numbers of the results that another part of the kernel reads: these are rounded to their
        dtype.

    Raises
    ------
    NotDerivableError
        The kernel calls external code, runs in threads, or does something else whose errors cannot
        be followed; or rounding may change which element it stores.
    """
    plain = plain_kernel(function)
    uncertain: set[Any] = set()
    while True:
        # A tensor has errors if a value stored in it has one, which may depend on other tensors.
        rewriter = _Rewriter(
            plain, frozenset(results), uncertain, functions, is_exact=is_exact, wide=wide, kept=kept
        )
        shadow = rewriter.shadow()
        if rewriter.found <= uncertain:
            break
        uncertain |= rewriter.found
    if shadow.rounds or is_exact or is_perturbed or wide:
        return shadow
    # Without a rounding, the same input bits give the same output bits: no perturbation is needed.
    return _Rewriter(plain, frozenset(results), set(), functions, has_perturbations=False).shadow()


class _Rewriter:
    """Rewrites a function without blocks, for a given set of tensors that have errors."""

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
        self._statements: list[Any] = []
        self._places: dict[Any, Place] = {}
        self._bound: dict[Any, Any] = {}
        self._cells: set[Any] = set()
        self._expressions = Expressions(
            places=self._places, bind=self._bind, functions=functions, is_exact=is_exact
        )
        self._reread = loaded_buffers(function) | {function.params[number] for number in kept}
        self._wide = wide

    def shadow(self) -> ShadowKernel:
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

    def _bind(self, value: Any) -> Any:
        is_cell = isinstance(value, TensorLoad) and buffer_of(value) in self._cells
        if is_cell or isinstance(value, tirx.Var):
            return value
        name, dtype = f"t{len(self._statements)}", dtype_of(value)
        if dtype != F64:
            var = tirx.Var(name, dtype)
            self._statements.append(tirx.Bind(var, value))
            return var
        # TVM's simplifier substitutes variables into each other without limit, but not cells.
        return self._new_cell(name, value)

    def _new_cell(self, name: str, value: Any) -> Any:
        cell = tirx.decl_buffer((1,), dtype_of(value), name, scope="local")
        self._cells.add(cell)
        self._statements += [tirx.AllocBuffer(cell), tirx.BufferStore(cell, value, [0])]
        return tirx.BufferLoad(cell, [0])

    def _store_cell(self, cell: Any, value: Any) -> None:
        self._statements.append(tirx.BufferStore(buffer_of(cell), value, [0]))

    def _visited(self, statement: Any) -> Any:
        """Rewrite a statement; what its expressions need is bound before it."""
        outer, self._statements = self._statements, []
        self._visit(statement)
        done, self._statements = self._statements, outer
        if not done:
            return tirx.Evaluate(0)
        return done[0] if len(done) == 1 else tirx.SeqStmt(done)

    def _visit(self, statement: Any) -> None:
        match statement:
            case tirx.SeqStmt():
                for part in statement.seq:
                    self._visit(part)
            case tirx.Bind():
                self._bound[statement.var] = statement.value
                found = self._expressions.of(statement.value)
                self._expressions.variables[statement.var] = Bounded(
                    value=self._bind(found.value),
                    error=None if found.error is None else self._bind(found.error),
                )
            case tirx.For():
                self._visit_loop(statement)
            case tirx.IfThenElse():
                condition = self._expressions.exact(
                    statement.condition, "whether it stores something"
                )
                otherwise = statement.else_case
                self._statements.append(
                    tirx.IfThenElse(
                        condition,
                        self._visited(statement.then_case),
                        None if otherwise is None else self._visited(otherwise),
                    )
                )
            case tirx.AllocBuffer():
                place = self._places[statement.buffer] = self._place(statement.buffer)
                self._statements.append(tirx.AllocBuffer(place.values))
                if place.errors is not None:
                    self._statements.append(tirx.AllocBuffer(place.errors))
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
        is_reordered = bool(self._sums) and not _is_short(extent)
        variable = loop.loop_var
        if is_reordered:
            variable = tirx.Var(variable.name, dtype_of(variable))
            self._expressions.variables[loop.loop_var] = Bounded(value=variable)
        self._loops.append(loop)
        body = self._visited(loop.body)
        self._loops.pop()
        if is_reordered:
            self._statements.append(self._in_lanes(variable, start, extent, body))
        elif not self._loops and _is_parallel(loop):
            self._statements.append(tirx.For(variable, start, extent, tirx.ForKind.PARALLEL, body))
        else:
            self._statements.append(_serial(variable, start, extent, body))

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
                new_cell=self._new_cell,
                store_cell=self._store_cell,
                is_exact=self._is_exact,
            )
            error = None if place.errors is None else tirx.BufferLoad(place.errors, indices)
            partial.start(tirx.BufferLoad(place.values, indices), error)
            self._sums.append(_Sum(store=store, place=place, indices=indices, partial=partial))
        self._visit_loop(loop)
        done, self._sums = self._sums, []
        for one in done:
            self.found.add(one.store.buffer)
            self._statements.append(
                tirx.BufferStore(one.place.values, one.partial.value, one.indices)
            )
            if one.place.errors is not None:
                error = _unless_infinite(one.partial.value, one.partial.error())
                self._statements.append(tirx.BufferStore(one.place.errors, error, one.indices))

    def _in_lanes(self, variable: Any, start: Any, extent: Any, body: Any) -> Any:
        """Return a loop that runs lane after lane; with one lane, in the original order."""
        self._has_lanes = True
        dtype = dtype_of(variable)
        lanes = prim.Cast(dtype, self._lanes)
        lane, turn = (
            tirx.Var(f"{variable.name}_lane", dtype),
            tirx.Var(f"{variable.name}_turn", dtype),
        )
        zero, one = tirx.const(0, dtype), tirx.const(1, dtype)
        turns = tirx.floordiv(extent - lane + lanes - one, lanes)
        here = tirx.SeqStmt([tirx.Bind(variable, start + turn * lanes + lane), body])
        return _serial(lane, zero, prim.Min(lanes, extent), _serial(turn, zero, turns, here))

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
        value = self._bind(found.value)
        self._statements.append(tirx.BufferStore(place.values, value, indices))
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
        self._statements.append(tirx.BufferStore(place.errors, error, indices))

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
            value = self._bind(found.value)
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
            value = self._bind(found.value)
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


def _is_parallel(loop: tirx.For) -> bool:
    """Return whether no turn of a loop accesses what another turn stores.

    Each tensor that it stores to is accessed at its variable, always in the same dimension.
    """
    accesses: dict[Any, list[Sequence[Any]]] = {}
    stored: set[Any] = set()
    inside: set[Any] = set()

    def store(access: Any) -> None:
        stored.add(access.buffer)
        accesses.setdefault(access.buffer, []).append(access.indices)

    def load(access: Any) -> None:
        accesses.setdefault(buffer_of(access), []).append(access.indices)

    callbacks = [
        (tirx.BufferStore, store),
        (TensorLoad, load),
        (tirx.AllocBuffer, lambda allocation: inside.add(allocation.buffer)),
    ]
    tvm_ffi.structural_walk(loop.body, callbacks)

    def places(indices: Sequence[Any]) -> set[int]:
        return {n for n, index in enumerate(indices) if loop.loop_var.same_as(index)}

    return bool(stored) and all(
        set.intersection(*map(places, accesses[buffer])) for buffer in stored - inside
    )


def _is_short(extent: Any) -> bool:
    return isinstance(extent, prim.IntImm) and int(extent) < _SHORT


def _serial(variable: Any, start: Any, extent: Any, body: Any) -> Any:
    return tirx.For(variable, start, extent, tirx.ForKind.SERIAL, body)
