"""Kernels that a GPU would refuse, or worse run, are refused when they are built."""
# ruff: noqa: N812 - TVMScript

from __future__ import annotations

import pytest
from tvm.script import ir as I
from tvm.script import tirx as T

from relax_tapml.errors import LoweringError
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.targets.gpu_limits import check_limits
from relax_tapml.targets.rocm_compiler import requirements
from relax_tapml.targets.target import parse_target

LACKING = [f"{item.name} ({item.install})" for item in requirements() if not item.found]
with_rocm = pytest.mark.skipif(bool(LACKING), reason=f"needs {'; '.join(LACKING)}")
METAL = parse_target('{"kind": "metal", "max_threads_per_block": 256}')


def kernels(threads_x: int, threads_y: int):
    """A module of one PrimFunc with two launches; the second has the most threads."""

    @I.ir_module
    class Module:
        @T.prim_func(private=True, s_tir=True)
        def twice(x: T.Buffer((4096,), "float32"), y: T.Buffer((4096,), "float32")):
            z = T.alloc_buffer((4096,), "float32")
            for i in T.thread_binding(4096, thread="blockIdx.x"):
                with T.sblock("z"):
                    v_i = T.axis.spatial(4096, i)
                    z[v_i] = x[v_i] + x[v_i]
            for b in T.thread_binding(4096 // (threads_x * threads_y), thread="blockIdx.x"):
                for i in T.thread_binding(threads_x, thread="threadIdx.x"):
                    for j in T.thread_binding(threads_y, thread="threadIdx.y"):
                        with T.sblock("y"):
                            v_i = T.axis.spatial(
                                4096, b * threads_x * threads_y + i * threads_y + j
                            )
                            y[v_i] = z[v_i] + z[v_i]

    return Module


def test_as_many_threads_as_the_target_has_are_allowed():
    """Each launch counts alone."""
    check_limits(kernels(16, 16), METAL)


def test_more_threads_are_refused():
    """With what binds them."""
    told = r"twice binds 512 threads to a block \(threadIdx.x 16 x threadIdx.y 32\); metal allows"
    with pytest.raises(LoweringError, match=told):
        check_limits(kernels(16, 32), METAL)


@I.ir_module
class OnACPU:
    @T.prim_func(private=True, s_tir=True)
    def double(x: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")):
        T.func_attr({"tirx.is_scheduled": True})
        for i in range(4):
            with T.sblock("y"):
                v_i = T.axis.spatial(4, i)
                y[v_i] = x[v_i] + x[v_i]


def test_a_loop_beside_the_threads_is_refused():
    """It would run on the CPU, before or after the launch."""

    @I.ir_module
    class Module:
        @T.prim_func(private=True, s_tir=True)
        def partly(x: T.Buffer((8,), "float32"), y: T.Buffer((8,), "float32")):
            for i in T.thread_binding(4, thread="threadIdx.x"):
                with T.sblock("y"):
                    v_i = T.axis.spatial(8, i)
                    y[v_i] = x[v_i] + x[v_i]
            for i in range(4):
                with T.sblock("z"):
                    v_i = T.axis.spatial(8, i + 4)
                    y[v_i] = x[v_i]

    with pytest.raises(LoweringError, match="partly stores without binding threads"):
        check_limits(Module, METAL)


def test_a_kernel_for_a_cpu_is_refused():
    """It would take the GPU's addresses for its own."""
    with pytest.raises(LoweringError, match="double stores without binding threads"):
        check_limits(OnACPU, METAL)


@pytest.mark.parametrize(
    "target",
    [
        "metal",
        "opencl",
        pytest.param("rocm", marks=with_rocm),
        pytest.param('{"kind": "rocm", "mcpu": "gfx1100"}', marks=with_rocm),
    ],
)
def test_kernels_for_untried_gpus_are_made_and_checked(target, tmp_path):
    """As far as a machine without the hardware can."""
    parsed = parse_target(target)
    library = KernelLibrary(tmp_path)
    right = library.build(kernels(16, 8), parsed)
    assert list(right.paths) == ["twice"], right.failed
    assert parsed.kind.name in right.paths["twice"][0].name
    wrong = library.build(kernels(64, 64), parsed)
    assert "threads to a block" in wrong.failed["twice"]
