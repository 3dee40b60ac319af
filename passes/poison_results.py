"""Fill the results of a region with a pattern before its kernels compute them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir import GlobalVar, Op, TupleType

from ._device_protocol import REGION_ATTR

_CALL_TIR = Op.get("relax.call_tir")
_COPY = relax.ExternFunc("runtime.TVMTensorCopyFromTo")

Shape = Sequence[int]

PATTERN_BYTES = 1 << 16
"""As much of a pattern as larger results of a known size are filled with, again and again."""

_COPIES = 32  # Of a pattern at most, until it is made longer.


@dataclass(frozen=True, kw_only=True)
class PoisonedRegion:
    """The data to compute how long a pattern a region needs.

    Parameters
    ----------
    params
        The types of its parameters, without the pattern.
    results
        Extents and bytes of a value of each result that is filled: numbers, or variables that the
        shapes of the parameters define.
    """

    params: tuple[tvm.ir.Type, ...]
    results: tuple[tuple[tuple[int | tirx.Var, ...], int], ...]

    def size_bytes(self, shapes: Sequence[Shape]) -> int:
        """Return how many bytes of the pattern it reads.

        As many as its largest result has, but for results of more than ``PATTERN_BYTES`` whose size
        is known before the call: these are filled with so many.

        Parameters
        ----------
        shapes
            For each parameter the shape of its tensor, or the shape that it is.
        """
        values: dict[tirx.Var, int] = {}
        for ty, shape in zip(self.params, shapes, strict=True):
            for extent, actual in zip(_extents(ty), shape, strict=False):
                if isinstance(extent, tirx.Var):
                    values[extent] = int(actual)
        sizes = []
        for extents, width in self.results:
            known = _known_bytes(extents, width)
            numbers = (values[e] if isinstance(e, tirx.Var) else e for e in extents)
            sizes.append(math.prod(numbers) * width if known is None else min(known, PATTERN_BYTES))
        return max(sizes)


@dataclass(frozen=True, kw_only=True)
class PoisonedModule:
    """A device module whose regions fill results, and the patterns they need, by region name."""

    module: tvm.IRModule
    regions: Mapping[str, PoisonedRegion]


def poison_results(mod: tvm.IRModule, units: Collection[str]) -> PoisonedModule:
    """Let regions fill the memory of results with a pattern, which they take as last argument.

    The memory of a result often still holds the result of the run before, which may be right: a
    kernel that writes nothing, or only a part, would pass. Values between the kernels of a region
    are not filled, since no other region reads them. ::

        @R.function
        def main_region0(x: R.Tensor((2, 4), "float32")):
            y = R.call_tir(cls.relu, (x,), out_ty=R.Tensor((2, 4), "float32"))
            return (y,)
        # after
        @R.function(pure=False)
        def main_region0(x: R.Tensor((2, 4), "float32"), poison: R.Tensor(("p",), "uint8")):
            y = R.builtin.alloc_tensor(R.shape([2, 4]), "float32")
            pattern = R.builtin.alloc_tensor(R.shape([p]), "uint8")
            R.call_packed("runtime.TVMTensorCopyFromTo", poison, pattern)
            view = R.memory.view(pattern, R.shape([2, 4]), "float32", 0)
            R.call_packed("runtime.TVMTensorCopyFromTo", view, y)
            cls.relu(x, y)
            return (y,)

    A result of a known size of more than ``PATTERN_BYTES`` is filled with so much of the pattern,
    again and again. So the pattern does not grow with a derived weight.

    Parameters
    ----------
    mod
        The device's side of ``split_module``; not changed.
    units
        PrimFuncs, by name, that write all of their results on the source. Results of others are not
        filled, nor are those with an extent that is neither a number nor a variable that a
        parameter defines.

    Returns
    -------
    PoisonedModule
        With the module itself, and no regions, if there is nothing to fill.
    """
    functions = dict(mod.functions.items())
    regions: dict[str, PoisonedRegion] = {}
    for gvar, function in mod.functions.items():
        if not (function.attrs and REGION_ATTR in function.attrs):
            continue
        filled = _filled(function, units)
        if not filled:
            continue
        poisoned = GlobalVar(gvar.name_hint)
        functions[poisoned] = _with_fills(function, filled)
        relax.expr._update_type(poisoned, functions[poisoned].ty)
        del functions[gvar]
        types = [ty for var in filled for ty in _tensors(var.ty)]
        regions[gvar.name_hint] = PoisonedRegion(
            params=tuple(param.ty for param in function.params),
            results=tuple((tuple(_extents(ty)), _width(ty)) for ty in types),
        )
    module = tvm.IRModule(functions, attrs=mod.attrs) if regions else mod
    return PoisonedModule(module=module, regions=regions)


def _filled(function: relax.Function, units: Collection[str]) -> list[relax.Var]:
    """Return the variables that hold returned results of kernels, as far as these are filled."""
    defined = {
        extent
        for param in function.params
        for extent in _extents(param.ty)
        if isinstance(extent, tirx.Var)
    }
    (block,) = function.body.blocks
    sources = {
        binding.var: binding.value.tuple_value
        for binding in block.bindings
        if isinstance(binding.value, relax.TupleGetItem)
    }
    result = block.bindings[-1].value
    leaves = [leaf for leaf in result.fields if isinstance(leaf, relax.Var)]
    returned = {*leaves, *(sources[leaf] for leaf in leaves if leaf in sources)}
    return [
        binding.var
        for binding in block.bindings
        if binding.var in returned
        and isinstance(binding.value, relax.Call)
        and binding.value.op.same_as(_CALL_TIR)
        and len(binding.value.args) == 2
        and binding.value.args[0].name_hint in units
        and all(_can_be_filled(ty, defined) for ty in _tensors(binding.var.ty))
    ]


def _with_fills(function: relax.Function, filled: Collection[relax.Var]) -> relax.Function:
    extent = tirx.Var("poison_bytes", "int64")
    poison = relax.Var("poison", relax.TensorType((extent,), "uint8"))
    builder = relax.BlockBuilder()
    new: dict[relax.Var, relax.Expr] = {}
    renewed = _Renewed(new)
    (block,) = function.body.blocks
    with builder.function("region", [*function.params, poison], pure=False):
        # A tensor that was passed by RPC is borrowed; only a tensor that the VM owns has views.
        size = relax.ShapeExpr([extent])
        pattern = builder.emit(relax.op.builtin.alloc_tensor(size, "uint8", 0, "global"), "pattern")
        builder.emit(_copy(poison, pattern))
        for binding in block.bindings:
            value = renewed.visit_expr(binding.value)
            if binding.var not in filled:
                new[binding.var] = builder.emit(value, binding.var.name)
                continue
            outputs = [_fill(builder, ty, pattern) for ty in _tensors(binding.var.ty)]
            operands = [*value.args[1].fields, *outputs]
            builder.emit(relax.Call(value.args[0], operands, ty_args=[TupleType([])]))
            is_tuple = isinstance(binding.var.ty, TupleType)
            whole = relax.Tuple(outputs) if is_tuple else outputs[0]
            new[binding.var] = builder.emit(whole, binding.var.name)
        builder.emit_func_output(new[block.bindings[-1].var])
    region = builder.get()["region"].with_attrs(function.attrs)
    return region.with_attr("global_symbol", function.attrs["global_symbol"])


@relax.expr_functor.mutator
class _Renewed(relax.PyExprMutator):  # type: ignore[misc]
    """Puts expressions in place of variables."""

    def __init__(self, new: Mapping[relax.Var, relax.Expr]) -> None:
        super().__init__()
        self._new = new

    def visit_var_(self, var: relax.Var) -> relax.Expr:
        """Return the expression that replaces a variable."""
        return self._new.get(var, var)

    def visit_dataflow_var_(self, var: relax.DataflowVar) -> relax.Expr:
        """Return the expression that replaces a variable."""
        return self._new.get(var, var)


def _fill(builder: relax.BlockBuilder, ty: relax.TensorType, pattern: relax.Var) -> relax.Var:
    """Emit a tensor that holds a pattern; where it is longer than that, again and again."""
    dtype = str(ty.dtype)
    size = _known_bytes(_extents(ty), _width(ty))
    if size is None or size <= PATTERN_BYTES:
        tensor = builder.emit(relax.op.builtin.alloc_tensor(ty.shape, dtype, 0, "global"), "result")
        view = builder.emit(relax.op.memory.view(pattern, ty.shape, dtype, 0), "view")
        builder.emit(_copy(view, tensor))
        return tensor
    whole = relax.ShapeExpr([size])
    storage = builder.emit(relax.op.memory.alloc_storage(whole, 0, "global", "uint8"), "storage")
    first = relax.op.memory.view(pattern, relax.ShapeExpr([PATTERN_BYTES]), "uint8", 0)
    emit_fill(builder, storage, size, builder.emit(first, "view"), PATTERN_BYTES)
    return builder.emit(relax.op.memory.alloc_tensor(storage, 0, ty.shape, dtype), "result")


def emit_fill(
    builder: relax.BlockBuilder,
    storage: relax.Var,
    size_bytes: int,
    pattern: relax.Var,
    pattern_bytes: int,
) -> None:
    """Emit copies that fill a storage with a pattern, again and again.

    They are few, however short the pattern is: it is made longer first, twice as long each time.
    Nothing is copied within one storage, which WebGPU refuses.

    Parameters
    ----------
    builder
        Of the function.
    storage, size_bytes
        What is filled, and its bytes, a multiple of those of the pattern unless the VM owns that.
    pattern, pattern_bytes
        A tensor of uint8, and how many.
    """

    def shape(length: int) -> relax.ShapeExpr:
        return relax.ShapeExpr([length])

    def part(of: relax.Var, begin: int, length: int) -> relax.Var:
        tensor = relax.op.memory.alloc_tensor(of, begin, shape(length), "uint8")
        return builder.emit(tensor, "part")

    while pattern_bytes * _COPIES < size_bytes:
        twice = relax.op.memory.alloc_storage(shape(2 * pattern_bytes), 0, "global", "uint8")
        longer = builder.emit(twice, "longer")
        for begin in (0, pattern_bytes):
            builder.emit(_copy(pattern, part(longer, begin, pattern_bytes)))
        pattern_bytes *= 2
        pattern = part(longer, 0, pattern_bytes)
    for begin in range(0, size_bytes, pattern_bytes):
        length = min(pattern_bytes, size_bytes - begin)
        if length < pattern_bytes:
            rest = relax.op.memory.view(pattern, shape(length), "uint8", 0)
            pattern = builder.emit(rest, "rest")
        builder.emit(_copy(pattern, part(storage, begin, length)))


def _known_bytes(extents: Sequence[int | tirx.Var | None], width: int) -> int | None:
    """Return the bytes of a tensor; None where its size is not known before the call."""
    numbers = [extent for extent in extents if isinstance(extent, int)]
    return math.prod(numbers) * width if len(numbers) == len(extents) else None


def _copy(source: relax.Var, to: relax.Var) -> relax.Call:
    return relax.Call(_COPY, [source, to], ty_args=[TupleType([])])


def _tensors(ty: tvm.ir.Type) -> list[relax.TensorType]:
    return list(ty.fields) if isinstance(ty, TupleType) else [ty]


def _extents(ty: tvm.ir.Type) -> list[int | tirx.Var | None]:
    """Return the extents of a tensor or shape: numbers, variables, and None for expressions."""
    shape = ty.shape if isinstance(ty, relax.TensorType) else ty
    values = getattr(shape, "values", None) or ()
    return [
        int(extent)
        if isinstance(extent, tirx.IntImm)
        else extent
        if isinstance(extent, tirx.Var)
        else None
        for extent in values
    ]


def _can_be_filled(ty: tvm.ir.Type, defined: Collection[tirx.Var]) -> bool:
    return (
        isinstance(ty, relax.TensorType)
        and isinstance(ty.shape, relax.ShapeExpr)
        and all(isinstance(e, int) or e in defined for e in _extents(ty))
        and _bits(ty) % 8 == 0
    )


def _bits(ty: relax.TensorType) -> int:
    dtype = tvm_ffi.dtype(ty.dtype)
    return int(dtype.bits) * int(dtype.lanes)


def _width(ty: relax.TensorType) -> int:
    return _bits(ty) // 8
