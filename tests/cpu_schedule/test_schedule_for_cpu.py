# ruff: noqa: N812 - TVMScript
"""Which kernels get a schedule, and what it looks like."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tvm
from scheduled_kernels import CPU, Tensor, arguments, differences, relax_kernels, run, scheduled
from tvm import relax, tirx
from tvm.script import tirx as T

from relax_tapml.cpu_schedule import _tile
from relax_tapml.cpu_schedule.schedule_for_cpu import LEAST_ITERATIONS, schedule_for_cpu

op = relax.op


def _product(m, n, k, dtype="float32"):
    tensors = [Tensor(shape=shape, dtype=dtype) for shape in ([m, k], [k, n])]
    (function,) = relax_kernels(tensors, lambda _, x, w: op.matmul(x, w))
    return function


def test_short_kernels_stay_as_they_are():
    """The same object: below the limit of iterations, symbolic dimensions counted as 64."""
    assert LEAST_ITERATIONS == 64 * 64 * 64
    for rows, is_scheduled in ((63, False), (64, True), (None, True)):
        function = _product(rows, 64, 64)
        assert schedule_for_cpu(function, CPU).same_as(function) is not is_scheduled


def test_a_schedule_is_marked_and_final():
    """The input is unmodified, attributes and parameters stay, and a second time does nothing."""
    function = _product(64, 128, 128)
    text = function.script()
    made = schedule_for_cpu(function, CPU)
    assert function.script() == text
    assert made.attrs["tirx.is_scheduled"]
    assert made.attrs["op_pattern"] == function.attrs["op_pattern"]
    assert "T.parallel" in made.script()
    assert "T.vectorized(T.int64(64))" in made.script() or "avx512f" not in str(CPU)
    assert schedule_for_cpu(made, CPU, least_iterations=0).same_as(made)


@pytest.mark.parametrize("axis", [0, 1])
def test_symbolic_dimensions_may_be_empty(axis):
    """Nothing is written, or a sum of no terms, which TVM leaves unwritten without a schedule."""
    tensor = Tensor(shape=[None, 70], dtype="float32")
    (function,) = relax_kernels([tensor], lambda _, x: op.sum(x, axis=axis))
    arrays = arguments(function, 0, np.random.default_rng(0), "real")
    result = run(scheduled(function), arrays)[-1]
    assert not result.any()
    assert result.shape == ((70,) if axis == 0 else (0,))


@T.prim_func(private=True, s_tir=True)
def annotated(x: T.Buffer((4, 8), "float32"), y: T.Buffer((4, 8), "float32")):
    for i, j in T.grid(4, 8):
        with T.sblock("y"):
            T.sblock_attr({"pragma": 1})
            v_i, v_j = T.axis.remap("SS", [i, j])
            y[v_i, v_j] = x[v_i, v_j]


@T.prim_func(private=True, s_tir=True)
def unrolled(x: T.Buffer((4, 8), "float32"), y: T.Buffer((4, 8), "float32")):
    for i in T.unroll(4):
        for j in T.serial(8):
            with T.sblock("y"):
                v_i, v_j = T.axis.remap("SS", [i, j])
                y[v_i, v_j] = x[v_i, v_j]


@T.prim_func(private=True, s_tir=True)
def guarded(x: T.Buffer((4, 8), "float32"), y: T.Buffer((4, 8), "float32")):
    for i, j in T.grid(4, 8):
        with T.sblock("y"):
            T.where(i * 8 + j < 30)
            v_i, v_j = T.axis.remap("SS", [i, j])
            y[v_i, v_j] = x[v_i, v_j]


@T.prim_func(private=True, s_tir=True)
def overlapping(x: T.Buffer((4, 8), "float32"), y: T.Buffer((4, 4), "float32")):
    for i, j in T.grid(4, 8):
        with T.sblock("y"):
            v_i, v_j = T.axis.remap("SS", [i, j])
            y[v_i, v_j // 2] = x[v_i, v_j]


@T.prim_func(private=True, s_tir=True)
def scattering(x: T.Buffer((8,), "float32"), at: T.Buffer((8,), "int32"), y: T.Buffer((8,))):
    for i in range(8):
        with T.sblock("y"):
            v_i = T.axis.spatial(8, i)
            y[at[v_i]] = x[v_i]


@T.prim_func(private=True, s_tir=True)
def shifting(x: T.Buffer((9,), "float32")):
    for i in range(8):
        with T.sblock("x"):
            v_i = T.axis.spatial(8, i)
            x[v_i] = x[v_i + 1]


@T.prim_func(private=True, s_tir=True)
def scanning(x: T.Buffer((8,), "float32"), y: T.Buffer((8,), "float32")):
    for i in range(8):
        with T.sblock("y"):
            v_i = T.axis.opaque(8, i)
            y[v_i] = T.if_then_else(v_i > 0, y[T.max(v_i - 1, 0)], T.float32(0)) + x[v_i]


@T.prim_func(private=True, s_tir=True)
def calling(x: T.Buffer((8,), "float32"), y: T.Buffer((8,), "float32")):
    for i in range(8):
        with T.sblock("y"):
            v_i = T.axis.spatial(8, i)
            y[v_i] = T.call_pure_extern("float32", "sinf", x[v_i])


@pytest.mark.parametrize(
    "function",
    [annotated, unrolled, guarded, overlapping, scattering, shifting, scanning, calling],
    ids=lambda function: function.__name__,
)
def test_what_the_rules_do_not_understand_is_left_alone(function):
    """Annotations, schedules, predicates, writes to one place, order, scans, outside calls."""
    assert scheduled(function).same_as(function)


@T.prim_func(private=True, s_tir=True)
def in_place(x: T.Buffer((40, 70), "float32"), y: T.Buffer((40,), "float32")):
    total = T.sblock_alloc_buffer((40,), "float32")
    for i, k in T.grid(40, 70):
        with T.sblock("total"):
            v_i, v_k = T.axis.remap("SR", [i, k])
            with T.init():
                total[v_i] = T.float32(0)
            total[v_i] = total[v_i] + x[v_i, v_k]
    for i, j in T.grid(40, 70):
        with T.sblock("x"):
            v_i, v_j = T.axis.remap("SS", [i, j])
            x[v_i, v_j] = x[v_i, v_j] - total[v_i]
    for i in range(40):
        with T.sblock("y"):
            v_i = T.axis.spatial(40, i)
            y[v_i] = x[39 - v_i, 0]


def test_kernels_that_write_to_their_inputs_are_right():
    """Each element is read where it was, and read elsewhere only after all were written."""
    arrays = arguments(in_place, 0, np.random.default_rng(0), "real")
    made = scheduled(in_place)
    assert not made.same_as(in_place)
    assert differences(run(in_place, arrays), run(made, arrays)) == 0


@T.prim_func(private=True, s_tir=True)
def of_one_element(
    s: T.Buffer((), "float32"), x: T.Buffer((40, 70), "float32"), y: T.Buffer((40, 70), "float32")
):
    e = T.sblock_alloc_buffer((), "float32")
    with T.sblock("e"):
        e[()] = s[()] * T.float32(2)
    for i, j in T.grid(40, 70):
        with T.sblock("y"):
            v_i, v_j = T.axis.remap("SS", [i, j])
            y[v_i, v_j] = x[v_i, v_j] + e[()]


def test_a_nest_of_one_element_shares_no_rows():
    arrays = arguments(of_one_element, 0, np.random.default_rng(0), "real")
    made = scheduled(of_one_element)
    assert differences(run(of_one_element, arrays), run(made, arrays)) == 0


def test_results_do_not_depend_on_the_number_of_threads():
    """No sum is divided among threads."""
    function = _product(33, 70, 1000)
    arrays = arguments(function, 0, np.random.default_rng(1), "real")
    configure, made = tvm.get_global_func("runtime.config_threadpool"), scheduled(function)
    outputs = []
    for threads in (1, 2):
        with ThreadPoolExecutor(1) as pool:  # Every thread has a pool of its own.
            pool.submit(configure, 1, threads).result()
            outputs.append(pool.submit(run, made, arrays).result()[-1].tobytes())
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_other_registers_give_the_same_bits(dtype):
    """The tiles of CPUs without AVX-512, or without AVX, are others; the sums are the same."""
    function = _product(17, 100, 70, dtype)
    arrays = arguments(function, 0, np.random.default_rng(0), "real")
    expected = run(function, arrays)
    for name in ("x86-64", "haswell"):
        target = tvm.target.Target({"kind": "llvm", "mcpu": name})
        made = schedule_for_cpu(function, target, least_iterations=0)
        assert differences(expected, run(made, arrays)) == 0


def _full_tiles_only(tile, body):
    every = _tile.vector(tile.plan.lanes, body)
    return tirx.IfThenElse(tile._is_full, every, tirx.Evaluate(0))


@pytest.mark.parametrize("broken", ["first term", "tail", "row"])
def test_a_broken_rule_is_seen(broken, monkeypatch):
    """The comparison of the law finds a sum that begins late, lost lanes, and a wrong row."""
    if broken == "first term":
        real = _tile.Tile._begin
        monkeypatch.setattr(_tile.Tile, "_begin", lambda self, *a: real(self, *a[:2], None))
    elif broken == "tail":
        monkeypatch.setattr(_tile.Tile, "_valid_lanes", _full_tiles_only)
    else:
        real = _tile.Tile._values
        monkeypatch.setattr(_tile.Tile, "_values", lambda self, offset, lane: real(self, 0, lane))
    function = _product(17, 70, 1000)
    arrays = arguments(function, 0, np.random.default_rng(0), "whole")
    assert differences(run(function, arrays), run(scheduled(function), arrays)) > 0
