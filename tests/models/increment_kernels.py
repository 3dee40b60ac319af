"""Wrong kernels for the unit ``increment`` of the small recorded model."""

from __future__ import annotations

from tvm.script import tirx as T  # noqa: N812


@T.prim_func(private=True, s_tir=True)
def off_by_half(x: T.handle, y: T.handle):
    n = T.int64()
    X = T.match_buffer(x, (n, 4))
    Y = T.match_buffer(y, (n, 4))
    for i, j in T.grid(n, 4):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = X[vi, vj] + T.float32(1.5)


@T.prim_func(private=True, s_tir=True)
def scribbling(x: T.handle, y: T.handle):
    n = T.int64()
    X = T.match_buffer(x, (n, 4))
    Y = T.match_buffer(y, (n, 4))
    for i, j in T.grid(n, 4):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = X[vi, vj] + T.float32(1)
            X[vi, vj] = T.float32(0)
