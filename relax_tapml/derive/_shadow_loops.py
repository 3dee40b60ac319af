"""The loops of a shadow kernel: in which order sums run, and what runs in parallel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm_ffi
from tvm import tirx

from relax_tapml._compat import TensorLoad, buffer_of, prim
from relax_tapml.derive.bounded import dtype_of

_SHORT = 8  # Loops with fewer iterations stay in their order.


def serial(variable: Any, start: Any, extent: Any, body: Any) -> Any:
    """Return an ordinary loop."""
    return tirx.For(variable, start, extent, tirx.ForKind.SERIAL, body)


def in_lanes(lanes: Any, variable: Any, start: Any, extent: Any, body: Any) -> Any:
    """Return a loop that runs lane after lane; with one lane, in the original order.

    Parameters
    ----------
    lanes
        The number of lanes, an int64 expression.
    variable, start, extent, body
        Of the loop.
    """
    dtype = dtype_of(variable)
    lanes = prim.Cast(dtype, lanes)
    lane, turn = (
        tirx.Var(f"{variable.name}_lane", dtype),
        tirx.Var(f"{variable.name}_turn", dtype),
    )
    zero, one = tirx.const(0, dtype), tirx.const(1, dtype)
    turns = tirx.floordiv(extent - lane + lanes - one, lanes)
    here = tirx.SeqStmt([tirx.Bind(variable, start + turn * lanes + lane), body])
    return serial(lane, zero, prim.Min(lanes, extent), serial(turn, zero, turns, here))


def is_parallel(loop: tirx.For) -> bool:
    """Return whether no turn of a loop accesses what another turn stores.

    Each tensor that it stores to is accessed at its variable, always in the same dimension.
    """
    accesses: dict[Any, list[Sequence[Any]]] = {}
    stored: set[Any] = set()
    inside: set[Any] = set()

    def store(access: Any) -> None:
        stored.add(access.buffer)
        accesses.setdefault(access.buffer, []).append(access.indices)

    def load(access: Any) -> None:
        accesses.setdefault(buffer_of(access), []).append(access.indices)

    callbacks = [
        (tirx.BufferStore, store),
        (TensorLoad, load),
        (tirx.AllocBuffer, lambda allocation: inside.add(allocation.buffer)),
    ]
    tvm_ffi.structural_walk(loop.body, callbacks)

    def places(indices: Sequence[Any]) -> set[int]:
        return {n for n, index in enumerate(indices) if loop.loop_var.same_as(index)}

    return bool(stored) and all(
        set.intersection(*map(places, accesses[buffer])) for buffer in stored - inside
    )


def is_short(loop: tirx.For) -> bool:
    """Return whether a loop is so short that its order does not matter."""
    return isinstance(loop.extent, prim.IntImm) and int(loop.extent) < _SHORT


def runs_once(loop: tirx.For) -> bool:
    """Return whether a loop has one turn only, as over a batch of one."""
    return isinstance(loop.extent, prim.IntImm) and int(loop.extent) == 1
