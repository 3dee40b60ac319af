"""Kernels that a GPU would refuse, or worse run, are refused when they are built."""
# ruff: noqa: N812 - TVMScript

from __future__ import annotations

import shutil

import pytest
from tvm.script import ir as I
from tvm.script import tirx as T

from relax_tapml.errors import LoweringError
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.toolchain.gpu_limits import check_limits
from relax_tapml.targets.toolchain.rocm_compiler import requirements

LACKING = [f"{item.name} ({item.install})" for item in requirements() if not item.found]
with_rocm = pytest.mark.skipif(bool(LACKING), reason=f"needs {'; '.join(LACKING)}")
with_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
CUDA = parse_target("cuda")
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


@pytest.mark.parametrize("name", ["max_num_threads", "max_threads_per_block"])
def test_either_number_of_threads_may_be_stated(name):
    """The other one stays what the kind has, which is 256 for OpenCL."""
    module = kernels(16, 32)
    check_limits(module, parse_target(f'{{"kind": "opencl", "{name}": 512}}'))
    with pytest.raises(LoweringError, match="opencl allows 128"):
        check_limits(module, parse_target(f'{{"kind": "opencl", "{name}": 128}}'))
    with pytest.raises(LoweringError, match="opencl allows 256"):
        check_limits(module, parse_target("opencl"))


def test_more_threads_are_refused():
    """With what binds them."""
    message = (
        r"twice binds 512 threads to a block \(threadIdx.x 16 x threadIdx.y 32\); metal allows"
    )
    with pytest.raises(LoweringError, match=message):
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


def grid(axis: str, extent: int):
    """A PrimFunc that its author has scheduled, with one axis of a given extent."""

    @I.ir_module
    class Module:
        @T.prim_func(private=True, s_tir=True)
        def negate(x: T.Buffer((extent,), "float32"), y: T.Buffer((extent,), "float32")):
            T.func_attr({"tirx.is_scheduled": True})
            for i in T.thread_binding(extent, thread=axis):
                with T.sblock("y"):
                    v_i = T.axis.spatial(extent, i)
                    y[v_i] = -x[v_i]

    return Module


@pytest.mark.parametrize(
    ("axis", "most"), [("threadIdx.z", 64), ("blockIdx.y", 65535), ("blockIdx.z", 65535)]
)
def test_an_axis_of_a_grid_has_a_limit_of_its_own(axis, most):
    """Of NVIDIA GPUs; a launch beyond it fails."""
    check_limits(grid(axis, most), CUDA)
    with pytest.raises(LoweringError, match=f"binds {most + 1} to {axis}; cuda allows {most}"):
        check_limits(grid(axis, most + 1), CUDA)


def staged(size: int, scope: str, *, parts: int = 1):
    """A kernel that reverses ``size`` values, through memory that the threads of a block share."""

    @I.ir_module
    class Module:
        @T.prim_func(private=True, s_tir=True)
        def reverse(x: T.Buffer((2, size), "float32"), y: T.Buffer((2, size), "float32")):
            T.func_attr({"tirx.is_scheduled": True})
            held = T.sblock_alloc_buffer((2, parts, size // parts), "float32", scope=scope)
            for b in T.thread_binding(2, thread="blockIdx.x"):
                for part in range(parts):
                    for i in T.thread_binding(64, thread="threadIdx.x"):
                        for k in range(size // parts // 64):
                            with T.sblock("held"):
                                v_b, v_p = T.axis.remap("SS", [b, part])
                                v_i = T.axis.spatial(size // parts, k * 64 + i)
                                held[v_b, v_p, v_i] = x[v_b, v_p * (size // parts) + v_i]
                    for i in T.thread_binding(64, thread="threadIdx.x"):
                        for k in range(size // parts // 64):
                            with T.sblock("y"):
                                v_b, v_p = T.axis.remap("SS", [b, part])
                                v_i = T.axis.spatial(size // parts, k * 64 + i)
                                y[v_b, v_p * (size // parts) + v_i] = held[
                                    v_b, v_p, size // parts - 1 - v_i
                                ]

    return Module


@pytest.mark.parametrize(
    ("target", "scope", "size"),
    [
        ("cuda", "shared", 12288),
        ("metal", "shared", 8192),
        ("webgpu", "shared", 8192),
        ("webgpu", "shared.dyn", 8192),
    ],
)
def test_as_much_shared_memory_as_the_target_has_is_allowed(target, scope, size):
    """And no more; loops that use it one after another need it once."""
    parsed = parse_target(target)
    check_limits(staged(size, scope), parsed)
    check_limits(staged(4 * size, scope, parts=4), parsed)
    message = f"needs {8 * size} bytes of shared memory in a block; {target} allows {4 * size}"
    with pytest.raises(LoweringError, match=message):
        check_limits(staged(2 * size, scope), parsed)


def test_more_shared_memory_may_be_requested_at_a_launch_on_cuda():
    """As much as the GPU has, which the driver knows."""
    check_limits(staged(32768, "shared.dyn"), CUDA)


def test_what_is_local_to_the_host_may_be_stored_there():
    """A kernel may compute on the CPU how it is to be launched."""

    @I.ir_module
    class Module:
        @T.prim_func(private=True, s_tir=True)
        def counted(x: T.Buffer((64,), "float32"), y: T.Buffer((64,), "float32")):
            T.func_attr({"tirx.is_scheduled": True})
            count = T.alloc_buffer((1,), "int32", scope="local")
            count[0] = 64
            for i in T.thread_binding(count[0], thread="threadIdx.x"):
                y[i] = x[i]

    check_limits(Module, CUDA)


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("cuda", marks=with_nvcc),
        "metal",
        "opencl",
        pytest.param("rocm", marks=with_rocm),
        pytest.param('{"kind": "rocm", "mcpu": "gfx1100"}', marks=with_rocm),
    ],
)
def test_kernels_for_gpus_are_made_and_checked(target, tmp_path):
    """As far as a machine without the hardware can."""
    parsed = parse_target(target)
    library = KernelLibrary(tmp_path)
    right = library.build(kernels(16, 8), parsed)
    assert list(right.paths) == ["twice"], right.failed
    assert parsed.kind.name in right.paths["twice"][0].name
    wrong = library.build(kernels(64, 64), parsed)
    assert "threads to a block" in wrong.failed["twice"]
    for_a_cpu = library.build(OnACPU, parsed)
    assert "stores without binding threads" in for_a_cpu.failed["double"]
