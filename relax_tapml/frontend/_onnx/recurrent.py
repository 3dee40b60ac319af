"""LSTM, GRU and RNN, which TVM's importer lacks, unrolled over time.

The products with the inputs are one for all steps; each step is a product with the state and what
is element-wise after it, so its kernels are the units that a target needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax, tirx

from relax_tapml.frontend._onnx.onnx_call import OnnxCall

MOST_STEPS = 512
"""Of all directions; a longer sequence would make a module of too many calls."""
_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": relax.op.nn.relu,
    "sigmoid": relax.op.sigmoid,
    "tanh": relax.op.tanh,
}

Step = Callable[["_Direction", Any, "_State"], "_State"]


@dataclass(frozen=True)
class _State:
    """The state of a cell after a step, each of shape (batch, hidden); an LSTM has both."""

    hidden: Any
    cell: Any = None


@dataclass(frozen=True, kw_only=True)
class _Direction:
    """One direction of a recurrent layer.

    Parameters
    ----------
    call
        The node.
    projected
        Products of the inputs with their weights and biases, (steps, batch, gates x hidden).
    recurrent
        Weights of the state, (hidden, gates x hidden).
    bias
        That of the state where it is not in ``projected``, (gates x hidden); None without.
    peepholes
        (3 x hidden); None without.
    activations
        In the order of the operator.
    """

    call: OnnxCall
    projected: Any
    recurrent: Any
    bias: Any
    peepholes: Any
    activations: list[Callable[[Any], Any]]
    hidden_size: int

    def gates(self, value: Any, count: int) -> list[Any]:
        """Split (batch, count x hidden) into its gates."""
        if count == 1:
            return [value]
        parts = self.call.emit(relax.op.split(value, count, axis=-1))
        return [self.call.emit(relax.TupleGetItem(parts, at)) for at in range(count)]


def lstm(call: OnnxCall) -> list[Any]:
    """Return Y, Y_h and Y_c of an ``LSTM``."""
    return _layer(call, gates=4, activations=["sigmoid", "tanh", "tanh"], step=_lstm_step)


def gru(call: OnnxCall) -> list[Any]:
    """Return Y and Y_h of a ``GRU``."""
    return _layer(call, gates=3, activations=["sigmoid", "tanh"], step=_gru_step)


def rnn(call: OnnxCall) -> list[Any]:
    """Return Y and Y_h of an ``RNN``."""
    return _layer(call, gates=1, activations=["tanh"], step=_rnn_step)


def _lstm_step(one: _Direction, x: Any, state: _State) -> _State:
    op, emit = relax.op, one.call.emit
    total = emit(op.add(x, emit(op.matmul(state.hidden, one.recurrent))))
    i, o, f, c = one.gates(total, 4)
    act, squash, out = one.activations
    p_i = p_o = p_f = None
    if one.peepholes is not None:
        p_i, p_o, p_f = one.gates(one.peepholes, 3)
        i = emit(op.add(i, emit(op.multiply(p_i, state.cell))))
        f = emit(op.add(f, emit(op.multiply(p_f, state.cell))))
    i = emit(act(i))
    f = emit(op.subtract(relax.const(1, i.ty.dtype), i)) if _is_coupled(one) else emit(act(f))
    new = emit(op.multiply(i, emit(squash(c))))
    cell = emit(op.add(emit(op.multiply(f, state.cell)), new))
    if p_o is not None:
        o = emit(op.add(o, emit(op.multiply(p_o, cell))))
    hidden = emit(op.multiply(emit(act(o)), emit(out(cell))))
    return _State(hidden, cell)


def _is_coupled(one: _Direction) -> bool:
    return bool(one.call.attributes.get("input_forget", 0))


def _gru_step(one: _Direction, x: Any, state: _State) -> _State:
    op, emit, size = relax.op, one.call.emit, one.hidden_size
    act, squash = one.activations
    x_z, x_r, x_h = one.gates(x, 3)
    if one.call.attributes.get("linear_before_reset", 0):
        product = emit(op.matmul(state.hidden, one.recurrent))
        if one.bias is not None:
            product = emit(op.add(product, one.bias))
        r_z, r_r, r_h = one.gates(product, 3)
        r = emit(act(emit(op.add(x_r, r_r))))
        inner = emit(op.multiply(r, r_h))
    else:
        both = emit(op.strided_slice(one.recurrent, [1], [0], [2 * size]))
        last = emit(op.strided_slice(one.recurrent, [1], [2 * size], [3 * size]))
        r_z, r_r = one.gates(emit(op.matmul(state.hidden, both)), 2)
        r = emit(act(emit(op.add(x_r, r_r))))
        inner = emit(op.matmul(emit(op.multiply(r, state.hidden)), last))
    z = emit(act(emit(op.add(x_z, r_z))))
    new = emit(squash(emit(op.add(x_h, inner))))
    kept = emit(op.multiply(z, state.hidden))
    left = emit(op.subtract(relax.const(1, z.ty.dtype), z))
    return _State(emit(op.add(emit(op.multiply(left, new)), kept)))


def _rnn_step(one: _Direction, x: Any, state: _State) -> _State:
    emit = one.call.emit
    total = emit(relax.op.add(x, emit(relax.op.matmul(state.hidden, one.recurrent))))
    return _State(emit(one.activations[0](total)))


def _layer(call: OnnxCall, *, gates: int, activations: list[str], step: Step) -> list[Any]:
    """Unroll all directions.

    Raises
    ------
    ValueError
        The number of steps is not known or too large, or an option is not supported.
    """
    op, emit = relax.op, call.emit
    x, layout = call.inputs[0], call.attributes.get("layout", 0)
    if layout:
        x = emit(op.permute_dims(x, [1, 0, 2]))
    steps, batch = _number(x, 0, "the number of steps"), x.ty.shape[1]
    size = _number(call.inputs[2], 2, "the hidden size")
    directions = _directions(call)
    if steps * len(directions) > MOST_STEPS:
        raise ValueError(
            f"{steps} steps in {len(directions)} directions are unrolled, at most {MOST_STEPS}"
        )
    if call.attributes.get("clip"):
        raise ValueError("the attribute clip is not supported")
    lengths = call.inputs[4]
    if lengths is not None:
        lengths = emit(op.reshape(lengths, (batch, 1)))
    rows, last = [], []
    for at, is_reverse in enumerate(directions):
        one = _direction(call, x, at, gates, _activations(call, activations, at))
        state = _first(call, at, layout, batch, size, gates == 4)
        row: list[Any] = [None] * steps
        for t in reversed(range(steps)) if is_reverse else range(steps):
            now = emit(op.squeeze(emit(op.strided_slice(one.projected, [0], [t], [t + 1])), [0]))
            new = step(one, now, state)
            row[t], state = _masked(call, new, state, lengths, t)
        rows.append(emit(op.stack(row, 0)))
        last.append(state)
    # Stacked (steps, directions, batch, hidden), or with the batch first (layout 1).
    y = emit(op.stack(rows, 1))
    if layout:
        y = emit(op.permute_dims(y, [2, 0, 1, 3]))
    results = [y, emit(op.stack([state.hidden for state in last], layout))]
    if gates == 4:
        results.append(emit(op.stack([state.cell for state in last], layout)))
    return results


def _masked(call: OnnxCall, new: _State, before: _State, lengths: Any, t: int) -> Any:
    """Return the output and the state of a step: zero, and as before, after a sequence's end."""
    if lengths is None:
        return new.hidden, new
    emit, where = call.emit, relax.op.where
    is_inside = emit(relax.op.less(relax.const(t, lengths.ty.dtype), lengths))
    zero = relax.const(0, new.hidden.ty.dtype)
    state = _State(
        emit(where(is_inside, new.hidden, before.hidden)),
        None if new.cell is None else emit(where(is_inside, new.cell, before.cell)),
    )
    return emit(where(is_inside, new.hidden, zero)), state


def _direction(
    call: OnnxCall, x: Any, at: int, gates: int, activations: list[Callable[[Any], Any]]
) -> _Direction:
    op, emit = relax.op, call.emit
    weights, recurrent = (_part(call, call.inputs[number], at) for number in (1, 2))
    size = _number(call.inputs[2], 2, "the hidden size")
    projected = emit(op.matmul(x, emit(op.permute_dims(weights))))
    bias = None
    if call.inputs[3] is not None:
        parts = emit(op.split(_part(call, call.inputs[3], at), 2))
        of_input, bias = (emit(relax.TupleGetItem(parts, side)) for side in (0, 1))
        projected = emit(op.add(projected, of_input))
        if not call.attributes.get("linear_before_reset", 0):
            projected, bias = emit(op.add(projected, bias)), None
    peepholes = call.inputs[7] if gates == 4 else None
    return _Direction(
        call=call,
        projected=projected,
        recurrent=emit(op.permute_dims(recurrent)),
        bias=bias,
        peepholes=None if peepholes is None else _part(call, peepholes, at),
        activations=activations,
        hidden_size=size,
    )


def _first(call: OnnxCall, at: int, layout: int, batch: Any, size: int, has_cell: bool) -> _State:
    dtype = call.inputs[0].ty.dtype
    found = []
    for given in call.inputs[5 : 7 if has_cell else 6]:
        if given is None:
            found.append(call.emit(relax.op.zeros((batch, size), dtype)))
        else:
            found.append(_part(call, given, at, axis=layout))
    return _State(*found)


def _part(call: OnnxCall, value: Any, at: int, axis: int = 0) -> Any:
    """Return what belongs to one direction."""
    part = call.emit(relax.op.strided_slice(value, [axis], [at], [at + 1]))
    return call.emit(relax.op.squeeze(part, [axis]))


def _directions(call: OnnxCall) -> list[bool]:
    """Return for each direction whether it goes from the end."""
    name = call.attributes.get("direction", b"forward").decode()
    found = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    if name not in found:
        raise ValueError(f"the direction {name!r} is not known")
    return found[name]


def _activations(call: OnnxCall, default: list[str], at: int) -> list[Callable[[Any], Any]]:
    given = [name.decode().lower() for name in call.attributes.get("activations", ())]
    names = given[at * len(default) : (at + 1) * len(default)] or default
    unknown = [name for name in names if name not in _ACTIVATIONS]
    if unknown:
        raise ValueError(f"the activation {unknown[0]!r} is not supported")
    return [_ACTIVATIONS[name] for name in names]


def _number(value: Any, axis: int, what: str) -> int:
    size = value.ty.shape[axis] if isinstance(value.ty.shape, relax.ShapeExpr) else None
    if not isinstance(size, int | np.integer | tirx.IntImm):
        raise ValueError(f"{what} is not a number, and steps are unrolled")
    return int(size)
