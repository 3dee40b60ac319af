"""How many bytes a capture will store, from static shapes and the shapes of a model's calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax, tirx

from relax_tapml._compat import Analyzer
from relax_tapml.capture.host_tensor import packed_bytes
from relax_tapml.passes.operator_call import operator_functions
from relax_tapml.passes.value_leaves import bindings_in

_INTRINSICS = ("relax_tapml.capture.inputs", "relax_tapml.capture.outputs")

Dims = Mapping[tirx.Var, int]


@dataclass(frozen=True, kw_only=True)
class FunctionCall:
    """A call of a function of the model.

    Parameters
    ----------
    function
        Its name.
    shapes
        Of the arguments without weights: that of a tensor, or a shape itself; None for others.
    """

    function: str
    shapes: tuple[tuple[int, ...] | None, ...]

    @classmethod
    def of(cls, function: str, values: Iterable[Any]) -> FunctionCall:
        """Describe a call with these arguments."""
        return cls(function=function, shapes=tuple(map(_shape, values)))


@dataclass(frozen=True, kw_only=True)
class CaptureSize:
    """How many bytes a capture stores at most; of equal tensors, one is stored.

    Parameters
    ----------
    activation_bytes
        Of inputs and outputs of the captured calls.
    weight_bytes
        Of all weights, those that are derived from others included.
    unknown
        How many values a run captures whose size is not known before; they are not counted.
    """

    activation_bytes: int
    weight_bytes: int
    unknown: int = 0

    @property
    def total_bytes(self) -> int:
        """Of activations and weights."""
        return self.activation_bytes + self.weight_bytes


def capture_size(
    instrumented: tvm.IRModule,
    samples: Sequence[Sequence[FunctionCall]],
    weights: Mapping[str, int],
    every: int = 1,
) -> CaptureSize:
    """Return what a module stores that ``InsertCapture`` has made.

    Parameters
    ----------
    instrumented
        The module.
    samples
        The calls of each sample that is to be captured, in order.
    weights
        Bytes of the model's weights, by name.
    every
        As for ``InsertCapture``.
    """
    values = {
        gvar.name_hint: _Values.of(function) for gvar, function in operator_functions(instrumented)
    }
    derived = {name: size for each in values.values() for name, size in each.weights.items()}
    activations = unknown = 0
    for calls in samples:
        count: Counter[str] = Counter()
        for call in calls:
            count[call.function] += 1
            if call.function in values and (count[call.function] - 1) % every == 0:
                size, missing = values[call.function].size(call.shapes)
                activations += size
                unknown = max(unknown, missing)
    # What the model's own functions call is not seen.
    unknown += sum(len(each.types) for each in values.values() if each.is_private)
    return CaptureSize(
        activation_bytes=activations,
        weight_bytes=sum((derived | dict(weights)).values()),
        unknown=unknown,
    )


class _Values:
    """The values that one execution of a function captures."""

    def __init__(self, function: relax.Function, types: list[Any], weights: dict[str, int]) -> None:
        self._function = function
        self.types = types
        self.weights = weights
        self.is_private = "global_symbol" not in (function.attrs or {})
        self._sizes: dict[tuple[tuple[int, ...] | None, ...], tuple[int, int]] = {}

    @classmethod
    def of(cls, function: relax.Function) -> _Values:
        types, weights = [], {}
        for token, value in _captured(function):
            if token.startswith("+"):
                types.append(value.ty)
            elif token.startswith("@"):
                weights[token[1:]] = _bytes(value.ty, {}) or 0
        return cls(function, types, weights)

    def size(self, shapes: tuple[tuple[int, ...] | None, ...]) -> tuple[int, int]:
        """Return the bytes for arguments of such shapes, and how many values are not counted."""
        if shapes not in self._sizes:
            dims = dict(_dims(self._function, shapes))
            sizes = [_bytes(ty, dims) for ty in self.types]
            self._sizes[shapes] = sum(filter(None, sizes)), sizes.count(None)
        return self._sizes[shapes]


def _captured(function: relax.Function) -> Iterator[tuple[str, relax.Expr]]:
    """Yield tokens that are followed by a value, with the value."""
    for binding in bindings_in(function.body):
        call = binding.value
        if not isinstance(call, relax.Call) or not isinstance(call.op, relax.ExternFunc):
            continue
        if call.op.global_symbol not in _INTRINSICS:
            continue
        args = iter(call.args[2:])
        for token in args:
            text = str(token.value)
            if not text.startswith("="):
                yield text, next(args)


def _dims(
    function: relax.Function, shapes: Sequence[tuple[int, ...] | None]
) -> Iterator[tuple[tirx.Var, int]]:
    for param, shape in zip(function.params, shapes, strict=False):
        extents = param.ty
        if isinstance(extents, relax.TensorType):
            extents = extents.shape
        values = getattr(extents, "values", None)
        if shape is None or values is None:
            continue
        for extent, size in zip(values, shape, strict=False):
            if isinstance(extent, tirx.Var):
                yield extent, size


def _bytes(ty: tvm.ir.Type, dims: Dims) -> int | None:
    """Return the bytes of a captured value: 0 of one that is no tensor, None if not known."""
    if not isinstance(ty, relax.TensorType):
        # Scalars and shapes are text; an object may be the content of a cache.
        return None if isinstance(ty, relax.ObjectType) and type(ty) is relax.ObjectType else 0
    values = getattr(ty.shape, "values", None)
    if values is None:
        return None
    sizes = [_extent(extent, dims) for extent in values]
    known = tuple(size for size in sizes if size is not None)
    return packed_bytes(str(ty.dtype), known) if len(known) == len(sizes) else None


def _extent(extent: relax.Expr, dims: Dims) -> int | None:
    if isinstance(extent, tirx.IntImm):
        return int(extent)
    if isinstance(extent, tirx.Var):
        return dims.get(extent)
    analyzer = Analyzer()
    for var, size in dims.items():
        analyzer.bind(var, tirx.IntImm(str(var.ty.dtype), size))
    value = analyzer.simplify(extent)
    return int(value) if isinstance(value, tirx.IntImm) else None


def _shape(value: Any) -> tuple[int, ...] | None:
    shape = value if isinstance(value, tuple) else getattr(value, "shape", None)
    return None if shape is None else tuple(map(int, shape))
