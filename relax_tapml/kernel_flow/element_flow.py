"""Which elements of its parameters a PrimFunc reads for one element of a result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import Op
from tvm.ir import expr as ir_expr

from relax_tapml._compat import TensorLoad, buffer_of, prim
from relax_tapml.arrays import Array
from relax_tapml.kernel_flow.expressions import ADDRESS_OPS, choice_of
from relax_tapml.kernel_flow.interval import Environment, Interval, bounds
from relax_tapml.kernel_flow.stores import NotAnalyzableError, Store, stores_of

Region = tuple[Interval, ...]
_MAX_REGIONS = 1000


@dataclass(frozen=True, kw_only=True)
class Source:
    """Elements of one parameter, a range in each dimension."""

    param: int
    region: Region


class ElementFlow:
    """Follows loads backwards through a PrimFunc, for one set of arguments.

    Parameters
    ----------
    function
        A PrimFunc that stores every element at an index of its own iteration variables, as TE
        and schedules write it.
    arrays
        Parameter number to array, for the parameters it reads.
    fixed
        Values of integer parameters and of symbolic dimensions.
    """

    def __init__(
        self,
        function: tirx.PrimFunc,
        *,
        arrays: Mapping[int, Array],
        fixed: Mapping[tirx.Var, Interval],
    ) -> None:
        self._function = function
        self._params = list(function.params)
        self._arrays = {self._params[number]: array for number, array in arrays.items()}
        self._numbers = {self._params[number]: number for number in arrays}
        self._fixed = fixed
        self._stores: dict[tirx.Var, tuple[Store, ...]] = {}

    def sources(self, param: int, index: tuple[int, ...]) -> list[Source]:
        """Return what the element ``index`` of parameter ``param``, a result, is computed from.

        Returns
        -------
        list of Source
            Without duplicates, in the order in which they are met. A condition that the integer
            arguments decide is followed, and only the branch it takes.

        Raises
        ------
        NotAnalyzableError
            The function does something that is not followed.
        """
        self._stores = stores_of(self._function)
        found: dict[Source, None] = {}
        done: set[tuple[tirx.Var, Region]] = set()
        pending = [(self._params[param], tuple(Interval(i, i) for i in index))]
        while pending:
            wanted = pending.pop(0)
            if wanted in done:
                continue
            done.add(wanted)
            if len(done) > _MAX_REGIONS:
                raise NotAnalyzableError("too many intermediate values")
            for load, environment, store in self._loads(*wanted):
                buffer, region = buffer_of(load), self._region(load, environment)
                if buffer in self._numbers:
                    found[Source(param=self._numbers[buffer], region=region)] = None
                elif buffer.same_as(store.buffer):
                    if not tvm_ffi.structural_equal(load.indices, store.indices):
                        raise NotAnalyzableError(f"{buffer.name} depends on itself")
                elif buffer in self._stores:
                    pending.append((buffer, region))
                else:
                    raise NotAnalyzableError(f"nothing is known of {buffer.name}")
        return list(found)

    def _loads(
        self, buffer: tirx.Var, region: Region
    ) -> Iterator[tuple[TensorLoad, Environment, Store]]:
        for store in self._stores[buffer]:
            environment = self._matched(store, region)
            if environment is None:
                continue
            for expr in (*store.conditions, store.value, *store.indices):
                for load, inner in self._loads_of(expr, environment):
                    yield load, inner, store

    def _matched(self, store: Store, region: Region) -> dict[tirx.Var, Interval] | None:
        """Return the bounds of variables when a store writes to a region; None if it never does."""
        environment = dict(self._fixed)  # the same everywhere
        for var, low, extent in store.ranges:
            first, count = (bounds(expr, environment, self._element) for expr in (low, extent))
            if first is None or count is None or first.low + count.high <= first.low:
                raise NotAnalyzableError(f"the range of {var.name} is not known")
            environment[var] = Interval(first.low, first.high + count.high - 1)
        own = {var for var, _, _ in store.ranges}
        for expr, wanted in zip(store.indices, region, strict=True):
            has = bounds(expr, environment, self._element)
            if has is None:
                raise NotAnalyzableError(f"where {store.buffer.name} is written is not known")
            shared = has.clipped(wanted)
            if shared is None:
                return None
            if isinstance(expr, tirx.Var) and expr in own:
                environment[expr] = shared
            elif not has.is_point:
                raise NotAnalyzableError(f"where {store.buffer.name} is written is not simple")
        for var, value in store.bindings:
            bound = bounds(value, environment, self._element)
            if bound is not None:
                environment[var] = bound
        for condition in store.conditions:
            truth = bounds(condition, environment, self._element)
            if truth is not None and truth.high == 0:
                return None
        return environment

    def _loads_of(
        self, expr: Any, environment: Environment
    ) -> Iterator[tuple[TensorLoad, Environment]]:
        match expr:
            case TensorLoad():
                yield expr, environment
                parts = list(expr.indices)
            case _ if (choice := choice_of(expr)) is not None:
                parts = self._taken(*choice, environment)
            case ir_expr.Call():
                name = expr.op.name if isinstance(expr.op, Op) else ""
                if not name or name in ADDRESS_OPS:
                    raise NotAnalyzableError(f"it calls {name or expr.op}")
                parts = list(expr.args)
            case prim.Let():
                yield from self._loads_of(expr.value, environment)
                value = bounds(expr.value, environment, self._element)
                if value is not None:
                    environment = {**environment, expr.var: value}
                parts = [expr.body]
            case prim.BinaryOpExpr() | prim.CmpExpr() | prim.LogicalExpr():
                parts = [expr.a, expr.b]
            case prim.Not():
                parts = [expr.a]
            case prim.Cast():
                parts = [expr.value]
            case prim.IntImm() | prim.FloatImm() | tirx.Var():
                parts = []
            case _:
                raise NotAnalyzableError(f"it has a {type(expr).__name__}")
        for part in parts:
            yield from self._loads_of(part, environment)

    def _taken(
        self, condition: Any, true_value: Any, false_value: Any, environment: Environment
    ) -> list[Any]:
        truth = bounds(condition, environment, self._element)
        if truth is None or not truth.is_point:
            return [condition, true_value, false_value]
        return [condition, true_value if truth.low else false_value]

    def _region(self, load: TensorLoad, environment: Environment) -> Region:
        shape = self._shape(buffer_of(load))
        region = []
        for expr, extent in zip(load.indices, shape, strict=True):
            whole = Interval(0, extent - 1)
            index = bounds(expr, environment, self._element)
            # An index outside is read only where a condition of unknown value does not hold.
            region.append(whole if index is None else index.clipped(whole) or whole)
        return tuple(region)

    def _shape(self, buffer: tirx.Var) -> tuple[int, ...]:
        if buffer in self._arrays:
            shape: tuple[int, ...] = self._arrays[buffer].shape
            return shape
        extents = [bounds(extent, self._fixed, self._element) for extent in buffer.ty.shape]
        if any(extent is None or not extent.is_point for extent in extents):
            raise NotAnalyzableError(f"the shape of {buffer.name} is not known")
        return tuple(extent.low for extent in extents if extent is not None)

    def _element(self, load: TensorLoad, environment: Environment) -> Interval | None:
        """Return bounds of integers that are loaded, from the arguments or computed from them."""
        buffer = buffer_of(load)
        region = self._region(load, environment)
        array = self._arrays.get(buffer)
        if array is not None:
            part = array[tuple(slice(r.low, r.high + 1) for r in region)]
            if part.dtype.kind not in "biu" or part.size == 0:
                return None
            return Interval(int(part.min()), int(part.max()))
        stores = self._stores.get(buffer, ())
        if len(stores) != 1 or not all(item.is_point for item in region):
            return None
        inner = self._matched(stores[0], region)
        return None if inner is None else bounds(stores[0].value, inner, self._element)
