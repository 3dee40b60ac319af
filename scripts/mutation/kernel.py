"""One PrimFunc, built for the CPU and called with arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes  # noqa: F401 - makes bfloat16 and float8 known to NumPy
import numpy as np
import tvm
import tvm_ffi
from tvm import tirx

from mutation.edit import changed_block
from mutation.guarded import GuardedTensor, untouched
from relax_tapml._compat import SBlock
from relax_tapml.arrays import Array


class Kernel:
    """A PrimFunc built for the CPU, which gives the same result for the same inputs every time.

    So that this is true of broken kernels too, the memory for its intermediate results is passed
    in, and every tensor that it only writes to holds the same bytes before each call.

    Parameters
    ----------
    call
        The built function: it takes its inputs, then its outputs, then integers for symbolic
        dimensions, then memory for intermediate results.
    workspace
        What that memory holds before a call.
    """

    def __init__(self, call: Callable[..., Any], workspace: Sequence[Array]) -> None:
        self._call = call
        self._workspace = [GuardedTensor(array) for array in workspace]

    def __call__(
        self,
        inputs: Sequence[GuardedTensor],
        outputs: Sequence[GuardedTensor],
        scalars: Sequence[int] = (),
    ) -> list[Array]:
        """Run the kernel and return copies of its outputs.

        Parameters
        ----------
        inputs
            The kernel must not change them; the caller may check it.
        outputs
            Overwritten; from ``output_tensors``.
        scalars
            Values of symbolic dimensions.
        """
        for tensor in (*outputs, *self._workspace):
            tensor.reset()
        tensors = [t.tensor for t in (*inputs, *outputs)]
        self._call(*tensors, *scalars, *(t.tensor for t in self._workspace))
        return [output.numpy() for output in outputs]


def build_kernels(functions: Sequence[tirx.PrimFunc], target: Any = "llvm") -> list[Kernel]:
    """Build PrimFuncs for the CPU, all together, which is several times faster than one by one.

    Parameters
    ----------
    functions
        Scheduled or not.
    target
        A TVM target for the CPU.

    Raises
    ------
    Exception
        Whatever TVM raises if one of them does not build.
    """
    exposed = [expose_workspace(function) for function in functions]
    names = [f"kernel_{number}" for number in range(len(exposed))]
    module = tvm.IRModule(
        {
            name: function.with_attr("global_symbol", name)
            for name, (function, _) in zip(names, exposed, strict=True)
        }
    )
    # Most of what LLVM would compile are checks of the arguments, which are right here.
    with tvm.transform.PassContext(config={"tirx.disable_assert": True}):
        built = tvm.tirx.build(module, target=target)
    return [Kernel(built[name], work) for name, (_, work) in zip(names, exposed, strict=True)]


def output_tensors(oracles: Sequence[Array]) -> list[GuardedTensor]:
    """Return memory for outputs of the shapes and dtypes of ``oracles``."""
    return [GuardedTensor(untouched(oracle.shape, oracle.dtype)) for oracle in oracles]


def expose_workspace(function: tirx.PrimFunc) -> tuple[tirx.PrimFunc, list[Array]]:
    """Make intermediate tensors of known shape parameters, behind the others.

    Returns
    -------
    tuple
        The function, and what its new parameters hold before a call.
    """
    exposed: list[Any] = []

    def visit(block: Any, mutator: Any) -> Any:
        if block.iter_vars:
            return mutator.default_mutate(block)
        mine = [b for b in block.alloc_buffers if _is_plain(b)]
        exposed.extend(mine)
        rest = [b for b in block.alloc_buffers if not _is_plain(b)]
        return changed_block(block, alloc_buffers=rest)

    changed = tvm_ffi.structural_mutate(function, [(SBlock, visit)])
    if not exposed:
        return function, []
    params = [*function.params, *exposed]
    widened = tirx.PrimFunc(params, changed.body, function.ret_type, function.attrs)
    return widened, [untouched(_shape(b), np.dtype(str(b.dtype))) for b in exposed]


def _is_plain(buffer: Any) -> bool:
    is_static = all(isinstance(extent, tirx.IntImm) for extent in buffer.shape)
    return is_static and not buffer.strides and buffer.scope() in ("", "global")


def _shape(buffer: Any) -> tuple[int, ...]:
    return tuple(int(extent) for extent in buffer.shape)
