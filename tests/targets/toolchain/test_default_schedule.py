"""Kernels that have no schedule get one, and those that have keep it."""

from __future__ import annotations

import pytest
import tvm
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.targets.toolchain.default_schedule import schedule

CUDA = tvm.target.Target({"kind": "cuda", "arch": "sm_80", "max_shared_memory_per_block": 49152})


def product(*tags):
    """A batch of products of a matrix and a vector, whose outer loops are bound as ``tags`` say."""
    if not tags:

        @T.prim_func(private=True, s_tir=True)
        def free(
            w: T.Buffer((2, 64, 64), "float32"),
            x: T.Buffer((2, 64), "float32"),
            y: T.Buffer((2, 64), "float32"),
        ):
            for e, i, j in T.grid(2, 64, 64):
                with T.sblock("product"):
                    ve, vi, vj = T.axis.remap("SSR", [e, i, j])
                    with T.init():
                        y[ve, vi] = T.float32(0)
                    y[ve, vi] += w[ve, vi, vj] * x[ve, vj]

        return free
    kernel = tvm.s_tir.Schedule(tvm.IRModule({"main": product()}))
    loops = kernel.get_loops(kernel.get_sblock("product"))
    for loop, tag in zip(loops, tags, strict=False):
        kernel.bind(loop, tag)
    return kernel.mod["main"]


def scheduled(function, target):
    module = tvm.IRModule({"main": function})
    return module, schedule(module, target)


@pytest.mark.parametrize("tags", [(), ("blockIdx.y",)])
def test_a_gpu_kernel_without_threads_gets_some(tags):
    """Also one that its author bound to blocks only, as mixtures of experts are."""
    _, made = scheduled(product(*tags), CUDA)
    assert "threadIdx.x" in str(made["main"].script())


@pytest.mark.parametrize("target", [CUDA, tvm.target.Target("llvm")])
def test_a_kernel_bound_to_threads_keeps_its_schedule(target):
    module, made = scheduled(product("blockIdx.x", "threadIdx.x"), target)
    assert made.same_as(module)


def test_a_kernel_bound_to_blocks_stays_where_dlight_has_no_schedule(monkeypatch):
    """It is no error: the kernel may be complete with one thread in a block."""

    def fail(*_):
        raise ValueError("no schedule")

    monkeypatch.setattr("tvm.s_tir.dlight.ApplyDefaultSchedule", lambda *_: fail)
    module, made = scheduled(product("blockIdx.y"), CUDA)
    assert made.same_as(module)
