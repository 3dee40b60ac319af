# ruff: noqa: N812 - TVMScript
"""A recurrent layer whose state TVM's runtime keeps, as that of a state-space model."""

from __future__ import annotations

import numpy as np
import tvm
import tvm_ffi
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.frontend.model import Model, Sample

WIDTH = 8
HISTORY = 3  # States of a sequence that are kept, to go back to.


@I.ir_module
class Recurrent:
    @T.prim_func(private=True, s_tir=True)
    def state_get(storage_: T.handle, seqs: T.handle, slots: T.handle, out: T.handle):
        T.func_attr({"tirx.noalias": True})
        batch, most = T.int32(), T.int32()
        storage = T.match_buffer(storage_, (most, 3, 8), "float32")
        seq = T.match_buffer(seqs, (batch,), "int32")
        slot = T.match_buffer(slots, (batch,), "int32")
        output = T.match_buffer(out, (batch, 8), "float32")
        for i, j in T.grid(batch, 8):
            with T.sblock("copy"):
                v_i, v_j = T.axis.remap("SS", [i, j])
                output[v_i, v_j] = storage[seq[v_i], slot[v_i], v_j]

    @T.prim_func(private=True, s_tir=True)
    def state_set(storage_: T.handle, seqs: T.handle, slots: T.handle, data_: T.handle):
        T.func_attr({"tirx.noalias": True})
        batch, most = T.int32(), T.int32()
        storage = T.match_buffer(storage_, (most, 3, 8), "float32")
        seq = T.match_buffer(seqs, (batch,), "int32")
        slot = T.match_buffer(slots, (batch,), "int32")
        data = T.match_buffer(data_, (batch, 8), "float32")
        for i, j in T.grid(batch, 8):
            with T.sblock("copy"):
                v_i, v_j = T.axis.remap("SS", [i, j])
                storage[seq[v_i], (slot[v_i] + 1) % 3, v_j] = data[v_i, v_j]

    @R.function
    def create_state():
        cls = Recurrent
        with R.dataflow():
            state = R.call_pure_packed(
                "vm.builtin.rnn_state_create",
                R.prim_value(1),
                R.prim_value(2),
                R.prim_value(3),
                (cls.state_get,),
                (cls.state_set,),
                (R.const(np.full((8,), 0.25, "float32")),),
                ty_args=R.Any,
            )
            R.output(state)
        return state

    @R.function
    def step(x: R.Tensor((2, 8), "float32"), state: R.Any, w: R.Tensor((8, 8), "float32")):
        R.func_attr({"num_input": 2})
        with R.dataflow():
            h = R.call_dps_packed(
                "vm.builtin.rnn_state_get",
                (state, R.prim_value(0), R.prim_value(0)),
                out_ty=R.Tensor((2, 8), "float32"),
            )
            new = R.tanh(R.add(R.matmul(h, w), x))
            after = R.call_pure_packed(
                "vm.builtin.rnn_state_set",
                state,
                R.prim_value(0),
                R.prim_value(0),
                new,
                ty_args=R.Any,
            )
            R.output(new, after)
        return (new, after)


def drive(functions, sample):
    """Run two sequences, step by step."""
    (state,) = functions["create_state"]()
    for sequence in (0, 1):
        _builtin("add_sequence")(state, sequence)
    outputs = []
    for x in sample.arrays[0]:
        _builtin("begin_forward")(state, tvm_ffi.Shape([0, 1]), tvm_ffi.Shape([1, 1]))
        outputs.append(functions["step"](x, state)[0])
        _builtin("end_forward")(state)
    return [np.stack(outputs)]


def _builtin(name):
    return tvm.get_global_func(f"vm.builtin.kv_state_{name}")


def model() -> Model:
    """Return it with drawn weights, and inputs of five steps."""
    rng = np.random.default_rng(0)
    return Model(
        name="recurrent",
        module=Recurrent,
        params={"w": rng.standard_normal((WIDTH, WIDTH)).astype("float32")},
        samples=(Sample(name="5 steps", arrays=(rng.standard_normal((5, 2, 8), "float32"),)),),
        entry="step",
        drive=drive,
    )
