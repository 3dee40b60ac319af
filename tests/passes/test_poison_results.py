# ruff: noqa: N812, RET504 - TVMScript
"""What a region returns is computed in memory that holds a pattern."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.passes.poison_results import PATTERN_BYTES, poison_results
from relax_tapml.targets.open_session import open_session
from relax_tapml.targets.session.poison import Poison

LLVM = tvm.target.Target("llvm")


@I.ir_module
class Regions:
    """A region of a kernel that leaves the second half, with values that stay inside it."""

    @T.prim_func(private=True, s_tir=True)
    def half(x: T.handle, y: T.handle):
        n = T.int64()
        X = T.match_buffer(x, (n, 4))
        Y = T.match_buffer(y, (n, 4))
        for i, j in T.grid(n, 2):
            with T.sblock("Y"):
                vi, vj = T.axis.remap("SS", [i, j])
                Y[vi, vj] = X[vi, vj] + T.float32(1)

    @T.prim_func(private=True, s_tir=True)
    def both(x: T.handle, y: T.handle, z: T.handle):
        n = T.int64()
        X = T.match_buffer(x, (n, 4))
        Y = T.match_buffer(y, (n, 4))
        Z = T.match_buffer(z, (n, 4), "int32")
        for i, j in T.grid(n, 4):
            with T.sblock("Y"):
                vi, vj = T.axis.remap("SS", [i, j])
                Y[vi, vj] = X[vi, vj]
        for i, j in T.grid(1, 4):
            with T.sblock("Z"):
                vi, vj = T.axis.remap("SS", [i, j])
                Z[vi, vj] = 7

    @R.function(pure=False)
    def region(x: R.Tensor(("n", 4), "float32")):
        n = T.int64()
        R.func_attr({"relax_tapml.region": "main"})
        cls = Regions
        inside = R.call_tir(cls.half, (x,), out_ty=R.Tensor((n, 4), "float32"))
        y = R.call_tir(cls.half, (inside,), out_ty=R.Tensor((n, 4), "float32"))
        pair = R.call_tir(
            cls.both, (x,), out_ty=[R.Tensor((n, 4), "float32"), R.Tensor((n, 4), "int32")]
        )
        z = pair[1]
        outputs = (y, z)
        return outputs

    @R.function(pure=False)
    def other(x: R.Tensor((2, 4), "float32")):
        R.func_attr({"relax_tapml.region": "main"})
        outputs = (x,)
        return outputs


@pytest.mark.parametrize("session", ["inline", "process"])
def test_what_no_kernel_writes_is_the_pattern(session, tmp_path):
    """Of whatever shape; a value that no region returns is left to chance."""
    found = poison_results(Regions, {"half", "both"})
    assert list(found.regions) == ["region"]
    assert found.regions["region"].size_bytes([(5, 4)]) == 80
    library = KernelLibrary(tmp_path)
    kernels = library.build(found.module, LLVM)
    functions = compile_functions(found.module, LLVM, library)
    device = open_session(session, LLVM)
    program = device.load(functions.bytecode, (*functions.shape_functions, *kernels.files()))
    poison = Poison(seed=1)
    for rows in (3, 5):
        pattern = device.upload(poison.pattern(256))
        x = device.upload(np.ones((rows, 4), "float32"))
        y, z = (device.download(t) for t in device.call(program, "region", [x, pattern]))
        assert (y[:, :2] == 3).all()
        assert np.isnan(y[:, 2:]).all()
        assert (z[0] == 7).all()
        held = poison.pattern(256)[: 16 * rows].view("int32").reshape(rows, 4)
        assert np.array_equal(z[1:], held[1:])
    device.close()


@I.ir_module
class Large:
    """A region of a kernel that writes one row of many, more than a pattern is long."""

    @T.prim_func(private=True, s_tir=True)
    def one_row(X: T.Buffer((4,), "float16"), Y: T.Buffer((999, 4001), "float16")):
        for j in range(4001):
            with T.sblock("Y"):
                vj = T.axis.spatial(4001, j)
                Y[500, vj] = X[0]

    @R.function(pure=False)
    def region(x: R.Tensor((4,), "float16")):
        R.func_attr({"relax_tapml.region": "main"})
        cls = Large
        y = R.call_tir(cls.one_row, (x,), out_ty=R.Tensor((999, 4001), "float16"))
        outputs = (y,)
        return outputs


@pytest.mark.parametrize("session", ["inline", "process"])
def test_a_large_result_is_filled_with_a_short_pattern(session, tmp_path):
    """To its last byte, again and again: as long as the result the pattern need not be."""
    found = poison_results(Large, {"one_row"})
    assert found.regions["region"].size_bytes([(4,)]) == PATTERN_BYTES
    library = KernelLibrary(tmp_path)
    kernels = library.build(found.module, LLVM)
    functions = compile_functions(found.module, LLVM, library)
    device = open_session(session, LLVM)
    program = device.load(functions.bytecode, kernels.files())
    pattern = Poison(seed=1).pattern(2 * PATTERN_BYTES)
    x = device.upload(np.ones(4, "float16"))
    for _ in range(2):
        (y,) = device.call(program, "region", [x, device.upload(pattern)])
        result = device.download(y)
        assert (result[500] == 1).all()
        filled = np.resize(pattern[:PATTERN_BYTES], result.nbytes).view("float16")
        result[500] = filled.reshape(result.shape)[500]
        assert result.tobytes() == filled.tobytes()
    device.close()


@pytest.mark.parametrize("units", [(), ("another",)])
def test_what_is_not_known_to_write_all_is_left_alone(units):
    """The module is the same one."""
    found = poison_results(Regions, units)
    assert found.module.same_as(Regions)
    assert not found.regions


def test_the_input_is_not_changed():
    """A pass never edits its input."""
    before = Regions.clone()
    poison_results(Regions, {"half"})
    assert tvm_ffi.structural_equal(Regions, before, map_free_vars=True)
