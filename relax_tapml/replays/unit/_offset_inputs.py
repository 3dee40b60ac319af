"""Give a kernel its inputs as parts of larger memory, where it takes them so."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.ir import GlobalVar, Op, TupleType

from relax_tapml.arrays import dtype_named
from relax_tapml.partition.kernel_interface import KernelInterface
from relax_tapml.passes.operator_call import is_unit_function
from relax_tapml.targets.server.functions import ServerFunction

_CALL_TIR = Op.get("relax.call_tir")
_COPY = relax.ExternFunc(str(ServerFunction.COPY))
_OFFSET_BYTES = 16
"""Slices that TVM's runtime makes of a buffer begin at multiples of it."""


def with_offset_inputs(
    module: tvm.IRModule, name: str, *, alignment: int = 1
) -> relax.Function | None:
    """Return a case function whose kernel gets inputs that do not begin where their memory does.

    A KV cache gives its kernels slices of one buffer on some devices. A kernel that ignores where a
    slice begins is right on tensors of their own. Only inputs are given so that the kernel says to
    take at any offset (a buffer with an ``elem_offset`` of its own), and that it does not write. ::

        @R.function
        def replay(table: R.Tensor((4,), "int32")):
            return (cls.unit(table),)
        # after
        @R.function(pure=False)
        def replay(table: R.Tensor((4,), "int32")):
            storage = R.memory.alloc_storage(R.shape([32]), ...)
            part = R.memory.alloc_tensor(storage, 16, R.shape([4]), "int32")
            R.call_packed("runtime.TVMTensorCopyFromTo", table, part)
            return (cls.unit(part),)

    Parameters
    ----------
    module
        As prepared for a side; not changed.
    name
        Of a case function.
    alignment
        Bytes that an offset must be a multiple of.

    Returns
    -------
    Function or None
        None where no input is to be given so.
    """
    function = module[name]
    taken = [param for param in function.params if _may_be_a_part(param, function, module)]
    if not taken:
        return None
    builder = relax.BlockBuilder()
    new: dict[relax.Var, relax.Expr] = {}
    with builder.function("main", list(function.params), pure=False):
        for param in taken:
            new[param] = _emit_part(builder, param, math.lcm(_OFFSET_BYTES, alignment))
        for binding in _bindings(function):
            new[binding.var] = builder.emit(_replaced(binding.value, new), binding.var.name)
        builder.emit_func_output(_replaced(function.body.body, new))
    made = builder.get()["main"]
    return made.with_attr("global_symbol", function.attrs["global_symbol"])


def _emit_part(builder: relax.BlockBuilder, param: relax.Var, offset_bytes: int) -> relax.Var:
    """Emit a copy of a parameter that begins behind the start of its memory."""
    shape, dtype = param.ty.shape, str(param.ty.dtype)
    size = math.prod(int(extent) for extent in shape.values) * dtype_named(dtype).itemsize
    whole = relax.ShapeExpr([offset_bytes + size])
    storage = builder.emit(relax.op.memory.alloc_storage(whole, 0, "global", "uint8"), "storage")
    part = builder.emit(
        relax.op.memory.alloc_tensor(storage, offset_bytes, shape, dtype), param.name
    )
    builder.emit(relax.Call(_COPY, [param, part], ty_args=[TupleType([])]), "_")
    return part


def _may_be_a_part(param: relax.Var, function: relax.Function, module: tvm.IRModule) -> bool:
    """Whether a parameter is read by kernels only, all of which take it at any offset."""
    ty = param.ty
    is_sized = (
        isinstance(ty, relax.TensorType)
        and isinstance(ty.shape, relax.ShapeExpr)
        and all(isinstance(extent, tirx.IntImm) and int(extent) for extent in ty.shape.values)
    )
    if not is_sized:
        return False
    uses = 0
    for binding in _bindings(function):
        count = len(_occurrences(binding.value, param))
        uses += count
        if count and count != len(list(_free_uses(binding.value, param, module))):
            return False
    return uses > 0 and not _occurrences(function.body.body, param)


def _free_uses(value: relax.Expr, param: relax.Var, module: tvm.IRModule) -> Iterator[int]:
    """Yield the numbers of the operands that a kernel only reads, at any offset."""
    found = _kernel_call(value, module)
    if found is None:
        return
    kernel, operands = found
    interface = KernelInterface.of(kernel)
    for number, operand in enumerate(operands):
        if operand.same_as(param) and number in interface.offsets - set(interface.written):
            yield number


def _kernel_call(
    value: relax.Expr, module: tvm.IRModule
) -> tuple[tirx.PrimFunc, Sequence[relax.Expr]] | None:
    """Return the kernel that a call runs, and its operands; None for other values."""
    if not isinstance(value, relax.Call):
        return None
    if isinstance(value.op, Op) and value.op == _CALL_TIR:
        return module[value.args[0]], value.args[1].fields
    if not isinstance(value.op, GlobalVar) or not is_unit_function(module[value.op]):
        return None
    unit = module[value.op]
    inner = _bindings(unit)[0].value
    is_kernel = (
        isinstance(inner, relax.Call)
        and isinstance(inner.op, GlobalVar)
        and isinstance(module[inner.op], tirx.PrimFunc)
        and len(inner.args) == len(unit.params)
        and all(a.same_as(b) for a, b in zip(inner.args, unit.params, strict=True))
    )
    return (module[inner.op], value.args) if is_kernel else None


def _occurrences(value: relax.Expr, param: relax.Var) -> list[relax.Var]:
    found: list[relax.Var] = []
    tvm_ffi.structural_walk(value, (relax.Var, lambda v: found.append(v) if v == param else None))
    return found


def _bindings(function: relax.Function) -> list[relax.VarBinding]:
    return [binding for block in function.body.blocks for binding in block.bindings]


def _replaced(expr: relax.Expr, new: dict[relax.Var, relax.Expr]) -> relax.Expr:
    return tvm_ffi.structural_map(expr, (relax.Var, lambda var: new.get(var, var)))
