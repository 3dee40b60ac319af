# ruff: noqa: N812 - TVMScript
"""A kernel gets inputs that do not begin where their memory does, where it takes them so."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import tvm
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.replays.unit._offset_inputs import with_offset_inputs
from relax_tapml.targets.open_session import open_session

LLVM = tvm.target.Target("llvm")


@I.ir_module
class Table:
    """One kernel that takes its table at any offset, and one that does not."""

    @T.prim_func(private=True, s_tir=True)
    def free(x: T.handle, t: T.handle, y: T.handle):
        where = T.int32()
        a = T.match_buffer(x, (4,), "float32")
        table = T.match_buffer(t, (4,), "int32", elem_offset=where, offset_factor=1)
        b = T.match_buffer(y, (4,), "float32")
        for i in range(4):
            with T.sblock("y"):
                v = T.axis.spatial(4, i)
                b[v] = a[table[v]] + T.Cast("float32", where)

    @T.prim_func(private=True, s_tir=True)
    def bound(
        x: T.Buffer((4,), "float32"), t: T.Buffer((4,), "int32"), y: T.Buffer((4,), "float32")
    ):
        for i in range(4):
            with T.sblock("y"):
                v = T.axis.spatial(4, i)
                y[v] = x[t[v]]

    @R.function
    def takes(x: R.Tensor((4,), "float32"), t: R.Tensor((4,), "int32")):
        cls = Table
        out = R.call_tir(cls.free, (x, t), out_ty=R.Tensor((4,), "float32"))
        return (out,)

    @R.function
    def refuses(x: R.Tensor((4,), "float32"), t: R.Tensor((4,), "int32")):
        cls = Table
        out = R.call_tir(cls.bound, (x, t), out_ty=R.Tensor((4,), "float32"))
        return (out,)

    @R.function
    def both(x: R.Tensor((4,), "float32"), t: R.Tensor((4,), "int32")):
        cls = Table
        a = R.call_tir(cls.free, (x, t), out_ty=R.Tensor((4,), "float32"))
        b = R.call_tir(cls.bound, (x, t), out_ty=R.Tensor((4,), "float32"))
        return (a, b)

    @R.function
    def returns(x: R.Tensor((4,), "float32"), t: R.Tensor((4,), "int32")):
        cls = Table
        a = R.call_tir(cls.free, (x, t), out_ty=R.Tensor((4,), "float32"))
        return (a, t)


@pytest.mark.parametrize("session", ["inline", "process"])
@pytest.mark.parametrize("alignment", [1, 64])
def test_the_kernel_sees_the_offset_and_reads_the_right_values(session, alignment, tmp_path):
    """In elements, of the least offset that fits both the runtime and the device."""
    function = with_offset_inputs(Table, "takes", alignment=alignment)
    module = Table.clone()
    module.update_func(module.get_global_var("takes"), function)
    library = KernelLibrary(tmp_path)
    kernels = library.build(module, LLVM)
    functions = compile_functions(module, LLVM, library)
    x, table = np.float32([1, 2, 3, 4]), np.int32([3, 2, 1, 0])
    with closing(open_session(session, LLVM)) as device:
        program = device.load(functions.bytecode, kernels.files())
        (out,) = device.call(program, "takes", [device.upload(x), device.upload(table)])
        found = device.download(out)
    assert found.tolist() == (x[table] + max(16, alignment) / 4).tolist()


@pytest.mark.parametrize("name", ["refuses", "both", "returns"])
def test_only_inputs_that_all_of_their_kernels_take_so_are_given_so(name):
    assert with_offset_inputs(Table, name) is None
