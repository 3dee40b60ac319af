"""How often the innermost loops of a kernel run, by the shapes of its tensors alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tvm import tirx

from relax_tapml._compat import SBlockRealize
from relax_tapml.kernel_flow.interval import Interval, bounds
from relax_tapml.kernel_flow.kernel_call import KernelCall, dims_of

Shape = tuple[int, ...]


def iterations(call: KernelCall, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    """Return how often the innermost loops of a call run.

    It is an estimate for any kernel and costs nothing; ``loop_counts`` counts what the values of
    tensors decide, of the kernels that it can follow.

    Parameters
    ----------
    call
        The call.
    inputs, outputs
        Shapes of the tensors of its case, in order.
    """
    shapes = {number: inputs[index] for number, index in call.inputs.items()}
    shapes.update(zip(call.results, outputs, strict=False))
    return iterations_of(call.kernel, shapes, call.scalars)


def iterations_of(
    function: tirx.PrimFunc,
    shapes: Mapping[int, Shape],
    scalars: Mapping[int, float],
    dims: Mapping[tirx.Var, int] | None = None,
) -> float:
    """Return how often the innermost loops of a PrimFunc run.

    Parameters
    ----------
    function
        With blocks or without.
    shapes, scalars
        Of parameters, by number.
    dims
        Values of further variables.
    """
    known = {**dims_of(function, shapes, scalars), **(dims or {})}
    return _inside(function.body, {v: Interval(size, size) for v, size in known.items()})


def _inside(statement: Any, sizes: Mapping[tirx.Var, Interval]) -> float:
    """Return how many times the statements inside a statement run."""
    match statement:
        case tirx.For():
            extent = bounds(statement.extent, sizes)
            # An extent that depends on an outer loop is at least one.
            count = 1 if extent is None else max(extent.high, 0)
            return count * max(1.0, _inside(statement.body, sizes))
        case tirx.SeqStmt():
            return math.fsum(_inside(part, sizes) for part in statement.seq)
        case SBlockRealize():
            return _inside(statement.block.body, sizes)
        case tirx.IfThenElse():
            cases = [statement.then_case, statement.else_case]
            return math.fsum(_inside(part, sizes) for part in cases if part is not None)
        case tirx.AttrStmt() | tirx.While():
            return _inside(statement.body, sizes)
    return 1.0
