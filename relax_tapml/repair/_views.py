"""Views of a kernel's parameters in another dtype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm_ffi
from tvm import s_tir, tirx

from relax_tapml._compat import SBlockRealize, TensorLoad, buffer_of
from relax_tapml.repair._blocks import allocated, changed_block, with_regions


def parameters_of(kernel: tirx.PrimFunc, dtypes: Sequence[str]) -> list[Any]:
    """Return the tensors among the parameters of a kernel that are of some dtypes."""
    tensors = [param for param in kernel.params if tirx.is_buffer_var(param)]
    return [tensor for tensor in tensors if str(tensor.dtype) in dtypes]


def allocated_of(kernel: tirx.PrimFunc, dtypes: Sequence[str]) -> list[Any]:
    """Return the buffers that blocks of a kernel allocate and that are of some dtypes."""
    return [buffer for buffer in allocated(kernel) if str(buffer.dtype) in dtypes]


def written_by(statement: Any) -> list[Any]:
    """Return the buffers that the stores of a statement write, one for each store."""
    found: list[Any] = []
    tvm_ffi.structural_walk(statement, (tirx.BufferStore, lambda one: found.append(one.buffer)))
    return found


def read_by(statement: Any) -> list[Any]:
    """Return the buffers that a statement reads, one for each load."""
    found: list[Any] = []
    tvm_ffi.structural_walk(statement, (TensorLoad, lambda one: found.append(buffer_of(one))))
    return found


def view_of(param: Any, shape: Sequence[Any], dtype: str) -> tuple[Any, Any]:
    """Return a buffer with the memory of a parameter, and the statement that declares it."""
    view = tirx.decl_buffer(list(shape), dtype, f"{param.name}_{dtype}", layout=None)
    return view, tirx.DeclBuffer(view, data=tirx.buffer_data(param))


def with_body(
    kernel: tirx.PrimFunc, body: Any, first: Sequence[Any], last: Sequence[Any] = ()
) -> tirx.PrimFunc:
    """Return a kernel with another body.

    Parameters
    ----------
    kernel
        Its parameters and attributes are kept.
    body
        The realization of the root block that it gets.
    first, last
        Statements that come before and behind those of the block.
    """
    root = body.block
    own = list(root.body.seq) if isinstance(root.body, tirx.SeqStmt) else [root.body]
    block = changed_block(root, body=tirx.SeqStmt([*first, *own, *last]))
    realize = SBlockRealize(body.iter_values, body.predicate, block)
    made = tirx.PrimFunc(list(kernel.params), realize, kernel.ret_type, kernel.attrs)
    return s_tir.renew_defs(with_regions(made))
