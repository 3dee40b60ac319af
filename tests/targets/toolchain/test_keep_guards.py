"""Sums across threads keep their guards in trusted kernels."""

from __future__ import annotations

import pytest
import tvm
from tvm.s_tir.transform import LowerCrossThreadReduction
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.targets.toolchain.default_schedule import schedule
from relax_tapml.targets.toolchain.keep_guards import keep_guards
from relax_tapml.targets.toolchain.trusted_target import trusted

CUDA = tvm.target.Target({"kind": "cuda", "arch": "sm_80", "max_shared_memory_per_block": 49152})


def row_sums(rows, threads, length, bound):
    """Sums of rows, a row for each ``threadIdx.y``; the guards stand for what is out of range."""
    guards = [("y", rows, threads), ("x", length, bound)]
    clauses = [f"{name} < {size}" for name, size, extent in guards if extent > size]
    source = f"""
@T.prim_func(private=True, s_tir=True)
def sums(a: T.Buffer(({rows}, {length}), "float32"), c: T.Buffer(({rows},), "float32")):
    for y in T.thread_binding({threads}, thread="threadIdx.y"):
        for x in T.thread_binding({bound}, thread="threadIdx.x"):
            with T.sblock("sum"):
                i = T.axis.spatial({rows}, y)
                k = T.axis.reduce({length}, x)
                {f"T.where({' and '.join(clauses)})" if clauses else ""}
                with T.init():
                    c[i] = T.float32(0)
                c[i] = c[i] + a[i, k]
"""
    return tvm.script.from_source(source, {"T": T})


def write_guard(function):
    """The text of the guard of the write-back."""
    lowered = LowerCrossThreadReduction()(tvm.IRModule({"main": function}))["main"].script()
    return lowered.partition("_write_back")[2].partition("T.where(")[2].partition("\n")[0]


@pytest.mark.parametrize("rows", [1, 6, 7])
def test_the_guard_of_rows_is_kept(rows):
    function = row_sums(rows, 8, 32, 32)
    assert "<" not in write_guard(function), "TVM keeps it: delete keep_guards"
    assert f"y < {rows}" in write_guard(keep_guards(function)).replace("T.int32", "")


@pytest.mark.parametrize("shape", [(8, 8, 32, 32), (6, 8, 30, 32)])
def test_a_sum_without_a_lone_guard_stays(shape):
    function = row_sums(*shape)
    assert keep_guards(function).same_as(function)


def test_the_guard_of_what_is_summed_is_none_of_the_result():
    function = keep_guards(row_sums(8, 8, 30, 32))
    assert "<" not in write_guard(function)


def test_schedules_of_trusted_kernels_keep_it():
    """A product with six columns, as the gate of a mixture of experts has; and no other kernel."""

    @T.prim_func(private=True, s_tir=True)
    def gate(
        x: T.Buffer((1, 128), "float16"),
        w: T.Buffer((6, 128), "float16"),
        y: T.Buffer((1, 6), "float16"),
    ):
        for i, j, k in T.grid(1, 6, 128):
            with T.sblock("product"):
                vi, vj, vk = T.axis.remap("SSR", [i, j, k])
                with T.init():
                    y[vi, vj] = T.float16(0)
                y[vi, vj] += x[vi, vk] * w[vj, vk]

    module = tvm.IRModule({"main": gate})
    plain, kept = (write_guard(schedule(module, one)["main"]) for one in (CUDA, trusted(CUDA)))
    assert ("<" in plain, "<" in kept) == (False, True)
