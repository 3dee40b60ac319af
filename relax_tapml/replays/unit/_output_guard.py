"""Find out whether a kernel leaves its outputs unwritten, or writes to memory behind them."""

from __future__ import annotations

from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir import GlobalVar, Op, TupleType

from relax_tapml.passes.operator_call import WRITES_ATTR, is_unit_function
from relax_tapml.passes.poison_results import PATTERN_BYTES, emit_fill
from relax_tapml.passes.submodule import submodule
from relax_tapml.replays.unit._poison import GUARD_BYTES, PoisonedBlock, pattern_sizes
from relax_tapml.replays.unit._workspace import PAGE_WORDS
from relax_tapml.targets.server.functions import ServerFunction

_ALLOC_TENSOR = Op.get("relax.builtin.alloc_tensor")
_TIR_CALLS = tuple(
    Op.get(f"relax.{name}") for name in ("call_tir", "call_tir_inplace", "call_dps_packed")
)
_PURE_PACKED = Op.get("relax.call_pure_packed")
_RESHAPE = "vm.builtin.reshape"
_COPY = relax.ExternFunc(str(ServerFunction.COPY))


@dataclass(frozen=True, kw_only=True)
class GuardedFunction:
    """A case function whose results are in poisoned memory.

    Parameters
    ----------
    function
        It takes a pattern more for each of ``pattern_sizes``, uint8, and returns what ``guards`` of
        each of ``blocks`` hold after the call, uint8 of ``GUARD_BYTES`` each.
    blocks
        The memory it allocates.
    """

    function: relax.Function
    blocks: tuple[PoisonedBlock, ...]


def guarded_call(
    module: tvm.IRModule, name: str, *, alignment: int = 1, filler: GlobalVar | None = None
) -> GuardedFunction | None:
    """Return a case function that fills its results with a pattern before it computes them.

    What memory held before, zeros or the right result of an earlier call, hides that a kernel does
    not write. And the first bytes behind an output belong to something else in a real program: to
    another tensor that the memory planner put there, or to the allocator. A kernel that writes
    there returns the right result and breaks another one. A pattern in memory reveals both. ::

        @R.function
        def replay(x: R.Tensor((4,), "float32")):
            out = R.call_tir(cls.kernel, (x,), out_ty=R.Tensor((4,), "float32"))
            return (out,)
        # after
        @R.function(pure=False)
        def replay(x: R.Tensor((4,), "float32"), pattern: R.Tensor((N,), "uint8")):
            storage = R.memory.alloc_storage(R.shape([N]), ...)
            part = R.memory.alloc_tensor(storage, 0, R.shape([N]), "uint8")
            R.call_packed("runtime.TVMTensorCopyFromTo", pattern, part)
            out = R.memory.alloc_tensor(storage, 0, R.shape([4]), "float32")
            cls.kernel(x, out)
            guard = R.memory.alloc_tensor(storage, 16, R.shape([GUARD_BYTES]), "uint8")
            seen = R.builtin.alloc_tensor(R.shape([GUARD_BYTES]), "uint8")
            R.call_packed("runtime.TVMTensorCopyFromTo", guard, seen)
            return (out, seen)

    Intermediate results between the kernels of an operator are poisoned and guarded, too. There is
    a guard before a result only where its kernels take a tensor at any offset (a buffer with an
    ``elem_offset`` of its own): the others, nearly all, refuse one.

    Parameters
    ----------
    module
        As prepared for a side; not changed.
    name
        Of a case function. It is left as it is if it does anything but call kernels and operators
        made of kernels: what a KV cache does to its memory is not followed.
    alignment
        Bytes that a guard's place must be a multiple of; writes to up to so many behind an output
        are not found.
    filler
        Of ``workspace.filler``, to be called before the kernel.

    Returns
    -------
    GuardedFunction or None
        None where nothing is allocated that could be guarded.
    """
    function = _inlined(module, name)
    if function is None or not all(_is_followed(call) for call in _calls(function)):
        return None
    gvar = module.get_global_var(name)
    alone = submodule(tvm.IRModule({**module.functions, gvar: function}), [name])
    lowered = _to_destination_passing(alone)[name]
    allocations = {
        binding.var: binding.value
        for binding in _bindings(lowered)
        if isinstance(binding.value, relax.Call)
        and binding.value.op.same_as(_ALLOC_TENSOR)
        and _is_static(binding.value.ty)
    }
    if not allocations:
        return None
    leaves = _returned(lowered)
    blocks = {
        var: _block(
            var,
            output=leaves.index(var) if var in leaves else None,
            alignment=alignment,
            before_bytes=GUARD_BYTES if _has_free_offset(var, lowered, module) else 0,
        )
        for var in allocations
    }
    function = _with_blocks(lowered, blocks, filler)
    return GuardedFunction(function=function, blocks=tuple(blocks.values()))


def _with_blocks(
    function: relax.Function, blocks: dict[relax.Var, PoisonedBlock], filler: GlobalVar | None
) -> relax.Function:
    """Put each allocation into a block that a pattern fills, and return the guards, too."""
    patterns = {
        size: relax.Var(f"pattern{size}", relax.TensorType((size,), "uint8"))
        for size in pattern_sizes(tuple(blocks.values()))
    }
    guard_shape = relax.ShapeExpr([GUARD_BYTES])
    builder = relax.BlockBuilder()
    new: dict[relax.Var, relax.Expr] = {}
    with builder.function("main", [*function.params, *patterns.values()], pure=False):
        guards: list[relax.Expr] = []
        for binding in _bindings(function):
            block = blocks.get(binding.var)
            if block is None:
                new[binding.var] = builder.emit(_replaced(binding.value, new), binding.var.name)
                continue
            size = relax.ShapeExpr([block.size_bytes])
            storage = builder.emit(
                relax.op.memory.alloc_storage(size, 0, "global", "uint8"), "storage"
            )
            pattern = patterns[block.pattern_bytes]
            emit_fill(builder, storage, block.size_bytes, pattern, block.pattern_bytes)
            if filler is not None and not guards:
                words = _tensor_in(storage, 0, relax.ShapeExpr([PAGE_WORDS]), "uint32")
                unused = relax.op.builtin.alloc_tensor(relax.ShapeExpr([1]), "uint32", 0, "global")
                operands = [builder.emit(words, "words"), builder.emit(unused, "unused")]
                builder.emit(relax.Call(filler, operands, ty_args=[TupleType([])]))
            ty = binding.var.ty
            tensor = _tensor_in(storage, block.before_bytes, ty.shape, str(ty.dtype))
            new[binding.var] = builder.emit(tensor, binding.var.name)
            guards += [
                builder.emit(_tensor_in(storage, place, guard_shape, "uint8"), "guard")
                for place in block.guards
            ]
        seen = []
        for guard in guards:
            fresh = relax.op.builtin.alloc_tensor(guard_shape, "uint8", 0, "global")
            seen.append(builder.emit(fresh, "seen"))
            builder.emit(_copy(guard, seen[-1]))
        leaves = []
        for leaf in _returned(function):
            leaves.append(_replaced(leaf, new))
            block = blocks.get(leaf)
            if block is not None and block.before_bytes:
                # Not every device sends a tensor with an offset.
                fresh = relax.op.builtin.alloc_tensor(
                    leaf.ty.shape, str(leaf.ty.dtype), 0, "global"
                )
                whole = builder.emit(fresh, "whole")
                builder.emit(_copy(leaves[-1], whole))
                leaves[-1] = whole
        builder.emit_func_output(relax.Tuple([*leaves, *seen]))
    guarded = builder.get()["main"]
    return guarded.with_attr("global_symbol", function.attrs["global_symbol"])


def _inlined(module: tvm.IRModule, name: str) -> relax.Function | None:
    """Return a case function with the operators inlined that a side made of several calls.

    None where an operator writes to its arguments, as what a cache calls does.
    """
    function = module[name]
    units: dict[GlobalVar, relax.Function] = {}
    for call in _calls(function):
        if isinstance(call.op, GlobalVar) and is_unit_function(module[call.op]):
            unit = _with_extents(module[call.op], call)
            if WRITES_ATTR in unit.attrs or list(relax.analysis.defined_symbolic_vars(unit)):
                return None
            units[call.op] = unit
    return function.inline_functions(units) if units else function


def _with_extents(unit: relax.Function, call: relax.Call) -> relax.Function:
    """Return an operator's function for the extents of the tensors that a call gives it."""
    extents: dict[tirx.Var, int] = {}
    for param, arg in zip(unit.params, call.args, strict=True):
        if isinstance(param.ty, relax.TensorType) and _has_shape(param.ty) and _is_static(arg.ty):
            for extent, actual in zip(param.ty.shape.values, arg.ty.shape.values, strict=True):
                if isinstance(extent, tirx.Var):
                    extents[extent] = int(actual)
    return unit.bind_symbolic_vars(extents) if extents else unit


def _to_destination_passing(module: tvm.IRModule) -> tvm.IRModule:
    """Allocate the results of kernels by calls of their own, as the build pipeline would."""
    passes = (
        relax.transform.ToNonDataflow(),
        relax.transform.RemovePurityChecking(),
        relax.transform.CallTIRRewrite(),
    )
    return tvm.transform.Sequential(passes)(module)


def _is_followed(call: relax.Call) -> bool:
    if any(call.op.same_as(op) for op in _TIR_CALLS):
        return True
    return (
        isinstance(call.op, Op)
        and call.op.same_as(_PURE_PACKED)
        and call.args[0].global_symbol == _RESHAPE
    )


def _calls(function: relax.Function) -> list[relax.Call]:
    return [b.value for b in _bindings(function) if isinstance(b.value, relax.Call)]


def _bindings(function: relax.Function) -> list[relax.VarBinding]:
    return [binding for block in function.body.blocks for binding in block.bindings]


def _returned(function: relax.Function) -> list[relax.Expr]:
    """Return the leaves of a function's result, as far as they can be followed to a variable."""
    values = {binding.var: binding.value for binding in _bindings(function)}

    def followed(expr: relax.Expr) -> relax.Expr:
        if isinstance(expr, relax.Var) and isinstance(
            values.get(expr), relax.Var | relax.Tuple | relax.TupleGetItem
        ):
            return followed(values[expr])
        if isinstance(expr, relax.TupleGetItem):
            whole = followed(expr.tuple_value)
            return followed(whole.fields[expr.index]) if isinstance(whole, relax.Tuple) else expr
        return expr

    result = followed(function.body.body)
    fields = result.fields if isinstance(result, relax.Tuple) else [result]
    return [followed(field) for field in fields]


def _replaced(expr: relax.Expr, new: dict[relax.Var, relax.Expr]) -> relax.Expr:
    return tvm_ffi.structural_map(expr, (relax.Var, lambda var: new.get(var, var)))


def _block(
    var: relax.Var, *, output: int | None, alignment: int, before_bytes: int
) -> PoisonedBlock:
    unit = max(alignment, 1)
    tensor_bytes = -(-_size_bytes(var.ty) // unit) * unit
    least = before_bytes + tensor_bytes + GUARD_BYTES
    return PoisonedBlock(
        output=output,
        tensor_bytes=tensor_bytes,
        pattern_bytes=min(1 << (least - 1).bit_length(), PATTERN_BYTES),
        before_bytes=before_bytes,
    )


def _has_free_offset(var: relax.Var, function: relax.Function, module: tvm.IRModule) -> bool:
    """Whether every kernel that gets a tensor takes it at any offset."""
    users = [call for call in _calls(function) if var in call.args]
    return bool(users) and all(
        isinstance(call.op, GlobalVar)
        and isinstance(module[call.op], tirx.PrimFunc)
        and all(
            isinstance(getattr(param.ty, "elem_offset", None), tirx.Var)
            for param, arg in zip(module[call.op].params, call.args, strict=False)
            if var.same_as(arg)
        )
        for call in users
    )


def _has_shape(ty: relax.TensorType) -> bool:
    return isinstance(ty.shape, relax.ShapeExpr)


def _is_static(ty: relax.TensorType) -> bool:
    return _has_shape(ty) and all(isinstance(extent, tirx.IntImm) for extent in ty.shape.values)


def _size_bytes(ty: relax.TensorType) -> int:
    dtype = tvm_ffi.dtype(ty.dtype)
    bits = int(dtype.bits) * int(dtype.lanes)
    for extent in ty.shape.values:
        bits *= int(extent)
    return -(-bits // 8)


def _tensor_in(storage: relax.Expr, offset: int, shape: relax.Expr, dtype: str) -> relax.Call:
    return relax.op.memory.alloc_tensor(storage, offset, shape, dtype)


def _copy(source: relax.Expr, to: relax.Expr) -> relax.Call:
    return relax.Call(_COPY, [source, to], ty_args=[TupleType([])])
