# ruff: noqa: N812 - TVMScript
"""What fills the memory that a kernel allocates for itself: its code, and whom it reaches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tvm
from tvm import tirx
from tvm.script import tirx as T

from relax_tapml.cpu_schedule.native_cpu import native_cpu_target
from relax_tapml.cpu_schedule.schedule_for_cpu import schedule_for_cpu
from relax_tapml.replays.unit._workspace import PAGE_WORDS, filler, with_all

ROWS, COLUMNS, WRITTEN = 512, 1024, 1000


def llvm_lines(pages):
    """Return how long the code of a filler is, as LLVM has optimised it."""
    module = tvm.IRModule({"fill": filler(pages).with_attr("global_symbol", "fill")})
    return len(tvm.tirx.build(module, target="llvm").inspect_source("ll").splitlines())


@pytest.mark.parametrize("pages", [16, 32, 4096])
def test_code_that_fills_memory_does_not_grow_with_it(pages):
    """LLVM unrolls loops whose length it knows, and may compile for ten seconds then."""
    assert llvm_lines([pages] * 8) < 1.2 * llvm_lines([1] * 8)


def padded(columns):
    """Return a kernel whose rows are 0 behind the first 1000 columns, if it writes all of them."""

    @T.prim_func(private=True, s_tir=True)
    def kernel(x: T.Buffer((512, 1024), "float32"), y: T.Buffer((512, 1024), "float32")):
        T.func_attr({"tirx.noalias": True})
        row = T.sblock_alloc_buffer((512, 1024), "float32")
        for i, j in T.grid(512, columns):
            with T.sblock("row"):
                vi, vj = T.axis.remap("SS", [i, j])
                row[vi, vj] = T.Select(vj < 1000, x[vi, vj], T.float32(0))
        for i, j in T.grid(512, 1024):
            with T.sblock("y"):
                vi, vj = T.axis.remap("SS", [i, j])
                y[vi, vj] = row[vi, vj] + T.float32(1)

    return kernel


def test_rows_of_a_schedule_are_filled_too():
    """A schedule has a buffer of one row for each thread, which takes what was filled for all rows.

    Zeros that a kernel does not write, but finds in new memory or in that of a right one, are seen
    in the rows of the thread that calls it.
    """
    target = native_cpu_target()

    def built(function: tirx.PrimFunc):
        module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
        return tvm.tirx.build(module, target=target)["main"]

    kernels = [schedule_for_cpu(padded(columns), target) for columns in (COLUMNS, WRITTEN)]
    assert all(kernel.attrs["tirx.is_scheduled"] for kernel in kernels)
    right, wrong = map(built, kernels)
    x, y = (tvm.runtime.tensor(np.ones((ROWS, COLUMNS), "float32")) for _ in range(2))

    def run():
        right(x, y)
        assert set(y.numpy()[:, WRITTEN:].reshape(-1)) == {1}
        wrong(x, y)
        pages = [ROWS * COLUMNS // PAGE_WORDS]
        pattern = tvm.runtime.tensor(np.full(PAGE_WORDS, 0x42424242, "uint32"))
        built(filler(with_all(pages, [pages])))(pattern, tvm.runtime.tensor(np.zeros(1, "uint32")))
        wrong(x, y)

    # A thread has memory of its own: a smaller piece that others left would be taken for a row.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(run).result()
    seen = (y.numpy()[:, WRITTEN:] != 1).all(axis=1)
    assert seen[0]
    assert seen.sum() >= ROWS // 64
