"""The smaller call that computes the held places of a call with copies."""

from __future__ import annotations

from dataclasses import replace

import tvm
from tvm import tirx

from relax_tapml.carve.unit.copied_axes import CopiedAxes, CopiedAxis
from relax_tapml.kernel_flow.free_axes import FreeAxis, free_axes
from relax_tapml.kernel_flow.kernel_call import KernelCall
from relax_tapml.kernel_flow.plain_kernel import plain_kernel
from relax_tapml.kernel_flow.restricted_kernel import restricted_kernel


def held_call(call: KernelCall, copies: CopiedAxes) -> KernelCall:
    """Return the call of a kernel that does the turns of the held places only.

    Its results at these are, to the bit, those of the whole call, because what is a copy has no
    part in them. So float64 evaluation, bounds and probes of the smaller call are those of the
    whole one.

    Parameters
    ----------
    call
        Whose tensors are whole.
    copies
        Of this call.

    Returns
    -------
    KernelCall
        Takes the held places of tensors; ``call`` itself where there are no copies.
    """
    if not copies.axes:
        return call
    kernel, axes = kernel_axes(call)
    chosen = [_axis_of(axis, call, axes) for axis in copies.axes]
    first = len(kernel.params)
    values = {first + number: axis.places for number, axis in enumerate(copies.axes)}
    return replace(
        call,
        kernel=restricted_kernel(kernel, chosen),
        constants={**call.constants, **values},
    )


def kernel_axes(call: KernelCall) -> tuple[tirx.PrimFunc, tuple[FreeAxis, ...]]:
    """Return the kernel of a call as loops and stores, and its free axes.

    Raises
    ------
    Exception
        Whatever TVM raises about a kernel that it cannot lower.
    """
    kernel = _simplified(plain_kernel(call.kernel))
    return kernel, free_axes(kernel)


def _simplified(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Return a PrimFunc whose indices are as short as the ranges of its loops allow.

    A reshape that only adds an axis reads at ``(j // n + i) % m`` and ``j % n`` otherwise.
    """
    simplify = tirx.transform.StmtSimplify()
    return simplify(tvm.IRModule({"plain": function}))["plain"]


def _axis_of(copied: CopiedAxis, call: KernelCall, axes: tuple[FreeAxis, ...]) -> FreeAxis:
    """Return the axis of a kernel that a dimension of a result is one of."""
    number, dim = next(iter(copied.outputs.items()))
    return next(
        axis
        for axis in axes
        for at in axis.results
        if at.param == call.results[number] and at.dim == dim
    )
