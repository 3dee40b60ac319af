# ruff: noqa: F841 - buffers of a kernel that does nothing
"""Kernels in TVMScript for the unit ``increment``, right ones and others."""

from tvm.script import ir as I  # noqa: N812
from tvm.script import tirx as T  # noqa: N812


@I.ir_module
class Right:
    @T.prim_func(s_tir=True)
    def increment(a: T.handle, b: T.handle):
        rows = T.int64()
        A = T.match_buffer(a, (rows, 4))
        B = T.match_buffer(b, (rows, 4))
        for i in range(rows * 4):
            with T.sblock("B"):
                vi = T.axis.spatial(rows * 4, i)
                B[vi // 4, vi % 4] = T.float32(1) + A[vi // 4, vi % 4]


@I.ir_module
class Wrong:
    @T.prim_func(s_tir=True)
    def mutated(a: T.handle, b: T.handle):
        rows = T.int64()
        A = T.match_buffer(a, (rows, 4))
        B = T.match_buffer(b, (rows, 4))
        for i, j in T.grid(rows, 4):
            with T.sblock("B"):
                vi, vj = T.axis.remap("SS", [i, j])
                B[vi, vj] = A[vi, vj] + T.float32(1.001)

    @T.prim_func(s_tir=True)
    def recorded_shapes(a: T.handle, b: T.handle):
        rows = T.int64()
        A = T.match_buffer(a, (rows, 4))
        B = T.match_buffer(b, (rows, 4))
        for i, j in T.grid(rows, 4):
            with T.sblock("B"):
                vi, vj = T.axis.remap("SS", [i, j])
                B[vi, vj] = A[vi, vj] + T.if_then_else(
                    rows == 3 or rows == 5, T.float32(1), T.float32(0)
                )

    @T.prim_func(s_tir=True)
    def unwritten(a: T.handle, b: T.handle):
        rows = T.int64()
        A = T.match_buffer(a, (rows, 4))
        B = T.match_buffer(b, (rows, 4))
        T.evaluate(0)

    @T.prim_func(s_tir=True)
    def only_over_nan(a: T.handle, b: T.handle):
        """Does nothing where its output is not what the judge fills memory with."""
        rows = T.int64()
        A = T.match_buffer(a, (rows, 4))
        B = T.match_buffer(b, (rows, 4))
        for i, j in T.grid(rows, 4):
            with T.sblock("B"):
                vi, vj = T.axis.remap("SS", [i, j])
                if T.bitwise_and(
                    T.reinterpret("uint32", B[vi, vj]), T.uint32(0x7F800000)
                ) == T.uint32(0x7F800000):
                    B[vi, vj] = A[vi, vj] + T.float32(1)

    @T.prim_func(s_tir=True)
    def static(A: T.Buffer((3, 4), "float32"), B: T.Buffer((3, 4), "float32")):
        for i, j in T.grid(3, 4):
            with T.sblock("B"):
                vi, vj = T.axis.remap("SS", [i, j])
                B[vi, vj] = A[vi, vj] + T.float32(1)

    @T.prim_func(s_tir=True)
    def reaching_outside(a: T.handle, b: T.handle):
        rows = T.int64()
        A = T.match_buffer(a, (rows, 4))
        B = T.match_buffer(b, (rows, 4))
        T.evaluate(T.call_extern("int32", "getpid"))
        for i, j in T.grid(rows, 4):
            with T.sblock("B"):
                vi, vj = T.axis.remap("SS", [i, j])
                B[vi, vj] = A[vi, vj] + T.float32(1)
