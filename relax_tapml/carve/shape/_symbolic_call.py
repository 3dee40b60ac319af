"""The symbolic dimensions of a call, and what else they may be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import relax, tirx

from relax_tapml.capture.values import CallRecord, ParameterValue, TensorValue, Value
from relax_tapml.kernel_flow.expressions import DIVISIONS
from relax_tapml.kernel_flow.integer_values import integer_values
from relax_tapml.kernel_flow.stores import NotAnalyzableError
from relax_tapml.passes.operator_call import leaf_types, operator_call
from relax_tapml.passes.value_leaves import bindings_in

LOWEST, HIGHEST = "tir_var_lower_bound", "tir_var_upper_bound"
"""Attributes of a Relax function: name of a symbolic variable to its least, greatest value."""

Sizes = Mapping[tirx.Var, int]


@dataclass(frozen=True, kw_only=True)
class SymbolicFunction:
    """What a Relax function declares about its symbolic dimensions.

    Parameters
    ----------
    names
        Variable to its name in reports, with a parameter that has it: ``n (axis 0 of x)``.
    lowest, highest
        Name of a variable to its least and greatest value.
    divisions
        Numerators and divisors of the divisions in shapes. Where one left no remainder in a
        recorded call, the model may rely on that.
    equal
        Pairs of dimensions that ``match_cast`` requires to be equal.
    weights
        Variables that are dimensions of weights, which decide what they are.
    """

    names: Mapping[tirx.Var, str]
    lowest: Mapping[str, int]
    highest: Mapping[str, int]
    divisions: tuple[tuple[Any, int], ...]
    equal: tuple[tuple[Any, Any], ...]
    weights: frozenset[tirx.Var] = frozenset()

    @classmethod
    def of(cls, function: relax.Function) -> SymbolicFunction:
        """Read a function of a lowered module."""
        attrs = function.attrs or {}
        names: dict[tirx.Var, str] = {}
        for param in function.params:
            for axis, dim in enumerate(_dims(param.ty) or ()):
                if isinstance(dim, tirx.Var):
                    names.setdefault(dim, f"{dim.name} (axis {axis} of {param.name})")
        types = [param.ty for param in function.params]
        equal: list[tuple[Any, Any]] = []
        for binding in bindings_in(function.body):
            types.append(binding.var.ty)
            if isinstance(binding, relax.MatchCast):
                given, declared = _dims(binding.value.ty), _dims(binding.var.ty)
                if given is not None and declared is not None:
                    equal += zip(given, declared, strict=False)
        return cls(
            names=names,
            lowest={str(name): int(value) for name, value in attrs.get(LOWEST, {}).items()},
            highest={str(name): int(value) for name, value in attrs.get(HIGHEST, {}).items()},
            divisions=tuple(_divisions(types)),
            equal=tuple(equal),
            weights=frozenset(
                variable
                for param in function.params[int(attrs.get("num_input", len(function.params))) :]
                for variable in _variables(_dims(param.ty))
            ),
        )

    def name(self, variable: tirx.Var) -> str:
        """Return the name of a variable in reports."""
        return self.names.get(variable, variable.name)

    def allows(self, sizes: Sizes, recorded: Sizes) -> bool:
        """Whether the function may be called so: what it declares and seems to rely on holds."""
        for variable, size in sizes.items():
            lowest = max(1, self.lowest.get(variable.name, 1))
            if not lowest <= size <= self.highest.get(variable.name, size):
                return False
        for numerator, divisor in self.divisions:
            before, now = _known(numerator, recorded), _known(numerator, sizes)
            if before is not None and now is not None and before % divisor == 0 != now % divisor:
                return False
        for left, right in self.equal:
            one, other = _known(left, sizes), _known(right, sizes)
            if one is not None and other is not None and one != other:
                return False
        return True

    @property
    def period(self) -> int:
        """A number by which a dimension may grow without a new remainder in any division."""
        return math.lcm(*(divisor for _, divisor in self.divisions))


@dataclass(frozen=True, kw_only=True)
class SymbolicCall:
    """A recorded call of a PrimFunc whose arguments have symbolic dimensions.

    Parameters
    ----------
    record
        The call.
    sizes
        Value of each symbolic variable in it.
    inputs, outputs
        For each value what its type declares: dimensions of a tensor, a shape, or a number.
    """

    record: CallRecord
    sizes: Sizes
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]

    @classmethod
    def of(cls, lowered: tvm.IRModule, call: relax.Call, record: CallRecord) -> SymbolicCall:
        """Match the types of a call's arguments with what was recorded.

        Parameters
        ----------
        lowered, call, record
            As for ``case_function``.

        Raises
        ------
        NotAnalyzableError
            A type does not state the dimensions of a tensor, or others than were recorded.
        """
        found = operator_call(call, lowered)
        if found is None:
            raise NotAnalyzableError("it is no operator call")
        inputs = [part for arg in found.args for part in _parts(arg)]
        outputs = [_dims(ty) for ty in leaf_types(call.ty)]
        values = [*record.inputs, *(record.outputs or ())]
        declared = [*inputs, *outputs]
        if len(declared) != len(values):
            raise NotAnalyzableError("its types do not fit what was recorded")
        pairs: list[tuple[Any, int]] = []
        for dims, value in zip(declared, values, strict=True):
            pairs += _pairs(dims, value)
        sizes = _solved(pairs)
        return cls(
            record=record,
            sizes=sizes,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
        )

    def resized(self, sizes: Sizes) -> CallRecord:
        """Return the call as it would be recorded with other sizes, without digests.

        Raises
        ------
        NotAnalyzableError
            A dimension would be less than 1.
        """
        record = self.record
        return replace(
            record,
            inputs=tuple(map(lambda t, v: _resized(t, v, sizes), self.inputs, record.inputs)),
            outputs=tuple(
                map(lambda t, v: _resized(t, v, sizes), self.outputs, record.outputs or ())
            ),
        )


def _parts(arg: relax.Expr) -> Iterator[Any]:
    """Yield what the type of an argument declares of each of its leaves."""
    if isinstance(arg, relax.Tuple):
        for field in arg.fields:
            yield from _parts(field)
    elif isinstance(arg, relax.ShapeExpr):
        yield list(arg.values)
    elif isinstance(arg, tirx.IntImm | tirx.FloatImm):
        yield arg
    elif isinstance(arg.ty, relax.TensorType):
        yield _dims(arg.ty)
    elif isinstance(arg, tirx.Var) or not isinstance(arg, relax.Var):
        yield getattr(arg, "value", arg)
    else:
        yield from (_dims(ty) for ty in leaf_types(arg.ty))


def _dims(ty: tvm.ir.Type) -> list[Any] | None:
    """Return the dimensions that a type states; None where it states none."""
    shape = getattr(ty, "shape", None)
    return list(shape.values) if isinstance(shape, relax.ShapeExpr) else None


def _pairs(declared: Any, value: Value) -> Iterator[tuple[Any, int]]:
    """Yield dimensions and numbers of one value with what they were."""
    match value:
        case TensorValue() | tuple():
            shape = value if isinstance(value, tuple) else value.shape
            if not isinstance(declared, list) or len(declared) != len(shape):
                raise NotAnalyzableError("the model does not state the dimensions of a tensor")
            yield from zip(declared, shape, strict=True)
        case bool() | float() | str() | None:
            return
        case int():
            yield declared, value
        case ParameterValue() if declared is not None:
            # Its own shape is not known here; another argument must contain the variable.
            return
        case _:
            raise NotAnalyzableError("it takes something other than tensors and numbers")


def _solved(pairs: Sequence[tuple[Any, int]]) -> dict[tirx.Var, int]:
    """Return the variables for which all expressions have the given values."""
    sizes = {expr: value for expr, value in pairs if isinstance(expr, tirx.Var)}
    for expr, value in pairs:
        unknown = _variables([expr]) - sizes.keys()
        if len(unknown) == 1:
            (variable,) = unknown
            offset, at_one = (_known(expr, {**sizes, variable: n}) for n in (0, 1))
            if offset is None or at_one is None or at_one == offset:
                continue
            sizes[variable] = (value - offset) // (at_one - offset)
    for expr, value in pairs:
        if _known(expr, sizes) != value:
            raise NotAnalyzableError(f"the model declares {expr} where {value} was recorded")
    return sizes


def _resized(declared: Any, value: Value, sizes: Sizes) -> Value:
    match value:
        case TensorValue():
            return replace(value, digest="", shape=extents_of(declared, sizes))
        case tuple():
            return extents_of(declared, sizes)
        case bool():
            return value
        case int():
            (number,) = extents_of([declared], sizes, lowest=-math.inf)
            return number
    return value


def extents_of(declared: Any, sizes: Sizes, lowest: float = 1) -> tuple[int, ...]:
    """Return the values that dimensions have for some sizes of their variables.

    Raises
    ------
    NotAnalyzableError
        One has another variable, or would be less than ``lowest``.
    """
    found = [_known(expr, sizes) for expr in declared]
    if any(size is None or size < lowest for size in found):
        raise NotAnalyzableError("a dimension would be less than 1")
    return tuple(size for size in found if size is not None)


def _known(expr: Any, sizes: Sizes) -> int | None:
    """Return the value of an expression; None if it has other variables."""
    if isinstance(expr, tirx.IntImm):
        return int(expr.value)
    if not _variables([expr]) <= sizes.keys():
        return None
    environment = {variable: np.asarray(size) for variable, size in sizes.items()}
    return int(integer_values(expr, environment, _no_load))


def _no_load(_load: Any, _indices: Any) -> Any:
    raise NotAnalyzableError("it reads a tensor")


def _variables(declared: Any) -> set[tirx.Var]:
    found: set[tirx.Var] = set()
    for expr in declared if isinstance(declared, list) else [declared]:
        if isinstance(expr, tirx.Var):
            found.add(expr)
        elif expr is not None and not isinstance(expr, int | tirx.IntImm | tirx.FloatImm):
            found.update(tirx.analysis.undefined_vars(expr))
    return found


def _divisions(types: Iterable[tvm.ir.Type]) -> Iterator[tuple[Any, int]]:
    seen: dict[str, tuple[Any, int]] = {}

    def note(node: Any) -> None:
        if isinstance(node.b, tirx.IntImm) and int(node.b.value) > 1:
            seen.setdefault(f"{node.a} {node.b}", (node.a, int(node.b.value)))

    for ty in types:
        for leaf in leaf_types(ty):
            for dim in _dims(leaf) or ():
                for kind in DIVISIONS if _variables(dim) and not isinstance(dim, tirx.Var) else ():
                    tvm_ffi.structural_walk(dim, (kind, note))
    yield from seen.values()
