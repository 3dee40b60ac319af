"""Kernels whose elements depend on others, or do not, in ways that operators seldom have."""

from __future__ import annotations

from tvm.script import tirx as T  # noqa: N812

F = "float32"


@T.prim_func(private=True, s_tir=True)
def grouped_heads(q: T.handle, k: T.handle, s: T.handle):
    n = T.int64()
    Q = T.match_buffer(q, (8, n, 16), F)
    K = T.match_buffer(k, (2, n, 16), F)
    S = T.match_buffer(s, (8, n, n), F)
    for h, i, j, d in T.grid(8, n, n, 16):
        with T.sblock("S"):
            vh, vi, vj, vd = T.axis.remap("SSSR", [h, i, j, d])
            with T.init():
                S[vh, vi, vj] = T.float32(0)
            S[vh, vi, vj] = S[vh, vi, vj] + Q[vh, vi, vd] * K[vh // 4, vj, vd]


@T.prim_func(private=True, s_tir=True)
def reads_neighbours(a: T.Buffer((8, 8), F), b: T.Buffer((8, 8), F)):
    t = T.sblock_alloc_buffer((8, 8), F)
    for i, j in T.grid(8, 8):
        with T.sblock("T"):
            vi, vj = T.axis.remap("SS", [i, j])
            t[vi, vj] = a[vi, vj] * T.float32(2)
    for i, j in T.grid(8, 8):
        with T.sblock("B"):
            vi, vj = T.axis.remap("SS", [i, j])
            b[vi, vj] = t[vi, (vj + 1) % 8]


@T.prim_func(private=True, s_tir=True)
def half_of_the_rows(a: T.Buffer((8, 8), F), b: T.Buffer((8, 8), F)):
    for i, j in T.grid(4, 8):
        with T.sblock("B"):
            vi, vj = T.axis.remap("SS", [i, j])
            b[vi, vj] = a[vi, vj]


@T.prim_func(private=True, s_tir=True)
def adds_its_transpose(a: T.Buffer((8, 8), F), b: T.Buffer((8, 8), F)):
    t = T.sblock_alloc_buffer((8, 8), F)
    for i, j in T.grid(8, 8):
        with T.sblock("T"):
            vi, vj = T.axis.remap("SS", [i, j])
            t[vi, vj] = a[vi, vj] * T.float32(2)
    for i, j in T.grid(8, 8):
        with T.sblock("B"):
            vi, vj = T.axis.remap("SS", [i, j])
            b[vi, vj] = t[vi, vj] + t[vj, vi]


@T.prim_func(private=True, s_tir=True)
def keeps_the_last(a: T.Buffer((8, 8), F), b: T.Buffer((8,), F)):
    for i, j in T.grid(8, 8):
        with T.sblock("B"):
            vi, vj = T.axis.remap("SS", [i, j])
            b[vi] = a[vi, vj]
