"""Names that differ between TVM 0.26 and 0.27; no other module of the package uses them.

Errors of both releases that can be corrected in one place are corrected here, too.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import tvm
from tvm import ir, relax, s_tir, tirx
from tvm_ffi import register_error
from tvm_ffi.serialization import from_json_graph_str

__all__ = [
    "IS_TVM_026",
    "Analyzer",
    "Constant",
    "SBlock",
    "SBlockRealize",
    "StringImm",
    "TensorLoad",
    "TensorRegion",
    "TirStringImm",
    "bitwise",
    "buffer_of",
    "constant_tensor",
    "expr_deep_equal",
    "load_json",
    "portable_script",
    "prim",
    "prim_op",
    "torch_reshape",
    "verify_well_formed",
]

# An interrupt in a function that TVM calls, such as a pass, leaves TVM as a KeyboardInterrupt.
# Without this line it is a RuntimeError, which callers handle as an error of the pass.
register_error("KeyboardInterrupt", KeyboardInterrupt)

IS_TVM_026 = not hasattr(ir, "prim")

if IS_TVM_026:
    from tvm.arith import Analyzer
    from tvm.tirx import expr as prim
    from tvm.tirx.analysis import expr_deep_equal, verify_well_formed
else:
    from tvm.ir.prim import expr as prim
    from tvm.ir.prim import expr_deep_equal
    from tvm.s_tir.analysis import verify_well_formed
    from tvm.sym import Analyzer

# The name in 0.26, else the name in 0.27.
Constant = relax.Constant if IS_TVM_026 else ir.GenericConst
StringImm = relax.StringImm if IS_TVM_026 else ir.StringImm
TirStringImm = tirx.StringImm if IS_TVM_026 else ir.StringImm
TensorLoad = tirx.BufferLoad if IS_TVM_026 else ir.TensorLoad
TensorRegion = tirx.BufferRegion if IS_TVM_026 else ir.TensorRegion
SBlock = (tirx if IS_TVM_026 else s_tir).SBlock
SBlockRealize = (tirx if IS_TVM_026 else s_tir).SBlockRealize

_BITWISE: dict[Any, Callable[[Any, Any], Any]] = (
    {
        ir.Op.get("tirx.bitwise_and"): operator.and_,
        ir.Op.get("tirx.bitwise_or"): operator.or_,
        ir.Op.get("tirx.bitwise_xor"): operator.xor,
        ir.Op.get("tirx.shift_left"): operator.lshift,
        ir.Op.get("tirx.shift_right"): operator.rshift,
    }
    if IS_TVM_026
    else {
        prim.BitwiseAnd: operator.and_,
        prim.BitwiseOr: operator.or_,
        prim.BitwiseXor: operator.xor,
        prim.LShift: operator.lshift,
        prim.RShift: operator.rshift,
    }
)


def load_json(text: str) -> Any:
    """Read JSON of ``tvm.ir.save_json``; JSON of this version of TVM is not upgraded.

    ``tvm.ir.load_json`` searches every node for old names, in Python, which takes ten times as long
    as the reading itself.
    """
    is_ours = text.endswith(f'"metadata":{{"tvm_version":"{tvm.__version__}"}}}}')
    return from_json_graph_str(text) if is_ours else tvm.ir.load_json(text)


def constant_tensor(constant: Any) -> Any:
    """Return the tensor of a ``Constant``."""
    return constant.data if IS_TVM_026 else constant.value


def buffer_of(access: Any) -> Any:
    """Return the buffer that a ``TensorLoad`` or ``TensorRegion`` is of."""
    return access.buffer if IS_TVM_026 else access.source


def prim_op(name: str) -> str:
    """Return the full name of an operator that left TIR in 0.27: ``if_then_else``, ``ceil``."""
    return f"tirx.{name}" if IS_TVM_026 else f"prim.{name}"


def torch_reshape(importer: Any, x: Any, dims: Any) -> Any:
    """Emit a reshape through TVM's importer, which in 0.26 has no method for it.

    That method reads a 0 as an extent, as PyTorch does; in ``reshape``, a 0 copies the old extent.
    """
    if IS_TVM_026:
        return importer.block_builder.emit(relax.op.reshape(x, dims))
    return importer._emit_torch_reshape(x, dims)


def portable_script(module: Any) -> str:
    """Return a module's TVMScript in a form that every release of Python can parse.

    From Python 3.12 on, TVM 0.27 declares type variables in a form that older releases cannot
    parse.
    """
    if IS_TVM_026:
        return str(module.script())
    return str(module.script(extra_config={"script.use_pep695": False}))


def bitwise(expr: Any) -> tuple[Callable[[Any, Any], Any], Any, Any] | None:
    """Return the operation and the operands of a bitwise expression or shift; None for others.

    The operation is a function of the module ``operator``, which also creates such expressions.
    They are calls in 0.26 and nodes of their own in 0.27.
    """
    if not IS_TVM_026:
        operation = _BITWISE.get(type(expr))
        return None if operation is None else (operation, expr.a, expr.b)
    operation = _BITWISE.get(expr.op) if isinstance(expr, ir.Call) else None
    return None if operation is None else (operation, expr.args[0], expr.args[1])
