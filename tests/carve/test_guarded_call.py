# ruff: noqa: N812 - TVMScript
"""A kernel that writes behind its output is seen, whatever it returns."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.carve.guarded_call import GUARD_BYTES, guard_pattern, guarded_call, overruns
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.targets.open import open_session

LLVM = tvm.target.Target("llvm")


@I.ir_module
class Two:
    """A kernel of two outputs, of sizes that are no multiple of an alignment."""

    @T.prim_func(private=True, s_tir=True)
    def both(x: T.Buffer((3,), "float32"), y: T.Buffer((3,), "int8"), z: T.Buffer((5,), "float32")):
        for i in range(3):
            with T.sblock("y"):
                v = T.axis.spatial(3, i)
                y[v] = T.Cast("int8", x[v])
        for i in range(5):
            with T.sblock("z"):
                v = T.axis.spatial(5, i)
                z[v] = x[0]

    @R.function
    def replay(x: R.Tensor((3,), "float32")):
        cls = Two
        out = R.call_tir(cls.both, (x,), out_ty=[R.Tensor((3,), "int8"), R.Tensor((5,), "float32")])
        a = out[0]
        b = out[1]
        return (a, b)


def with_guards(module):
    guarded = guarded_call(module["replay"])
    assert guarded is not None
    out = module.clone()
    del out["replay"]
    out["replay"] = guarded
    return out


@pytest.mark.parametrize("session", ["inline", "process"])
def test_a_right_kernel_returns_what_it_did_and_the_pattern(session, tmp_path):
    """Behind each output, in this process and over RPC."""
    module = with_guards(Two)
    library = KernelLibrary(tmp_path)
    kernels = library.build(module, LLVM)
    functions = compile_functions(module, LLVM, library)
    device = open_session(session, LLVM)
    try:
        program = device.load(functions.bytecode, kernels.files())
        arguments = [device.upload(np.float32([1, 2, 3])), device.upload(guard_pattern())]
        results = device.call(program, "replay", arguments)
        y, z, *guards = (device.download(result) for result in results)
    finally:
        device.close()
    assert (y.tolist(), z.tolist()) == ([1, 2, 3], [1.0] * 5)
    assert [guard.tobytes() for guard in guards] == [guard_pattern().tobytes()] * 2
    assert overruns(guards) == []


def test_what_was_written_is_told_by_output():
    """How much, and how far."""
    touched = guard_pattern()
    touched[[0, 9]] ^= 1
    assert overruns([guard_pattern(), touched]) == [
        "it writes behind the end of its output 1: 2 bytes differ there, the last one 10 bytes "
        "behind it"
    ]
    assert touched.size == GUARD_BYTES


@I.ir_module
class Others:
    """Calls whose outputs are not allocated for them alone."""

    @T.prim_func(private=True, s_tir=True)
    def double(x: T.Buffer((3,), "float32")):
        for i in range(3):
            with T.sblock("x"):
                v = T.axis.spatial(3, i)
                x[v] = x[v] * T.float32(2)

    @R.function
    def inplace(x: R.Tensor((3,), "float32")):
        cls = Others
        return R.call_tir_inplace(
            cls.double, (x,), inplace_indices=[0], out_ty=R.Tensor((3,), "float32")
        )

    @R.function
    def packed(x: R.Tensor((3,), "float32")):
        return R.call_dps_packed("some.function", (x,), out_ty=R.Tensor((3,), "float32"))

    @R.function
    def several(x: R.Tensor((3,), "float32")):
        y = R.exp(x)
        return R.exp(y)


@pytest.mark.parametrize("name", ["inplace", "packed", "several"])
def test_other_calls_have_no_guards(name):
    """They are replayed as they are."""
    assert guarded_call(Others[name]) is None
