"""Target strings, devices and default schedules."""
# ruff: noqa: N812 - TVMScript

from __future__ import annotations

import pytest
import tvm
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.cpu_schedule.native_cpu import native_cpu_target
from relax_tapml.errors import DeviceUnavailable, LoweringError, UsageError
from relax_tapml.targets.platforms.parse_target import parse_target, portable_text
from relax_tapml.targets.session.tvm_device import device_of
from relax_tapml.targets.toolchain.default_schedule import schedule

CUDA = parse_target('{"kind": "cuda", "arch": "sm_80", "max_threads_per_block": 1024}')


@I.ir_module
class Before:
    @T.prim_func(private=True, s_tir=True)
    def double(x: T.Buffer((4, 8), "float32"), y: T.Buffer((4, 8), "float32")):
        for i, j in T.grid(4, 8):
            with T.sblock("y"):
                v_i, v_j = T.axis.remap("SS", [i, j])
                y[v_i, v_j] = x[v_i, v_j] + x[v_i, v_j]

    @T.prim_func(private=True, s_tir=True)
    def bound(x: T.Buffer((8,), "float32"), y: T.Buffer((8,), "float32")):
        for i in T.thread_binding(8, thread="threadIdx.x"):
            with T.sblock("y"):
                v_i = T.axis.spatial(8, i)
                y[v_i] = x[v_i] + x[v_i]

    @R.function
    def main(x: R.Tensor((4, 8), "float32")) -> R.Tensor((4, 8), "float32"):
        cls = Before
        return R.call_tir(cls.double, (x,), out_ty=R.Tensor((4, 8), "float32"))


def _binds_threads(function) -> bool:
    return "thread_binding" in function.script()


def test_gpu_kernels_are_bound_to_threads():
    """What is not scheduled gets dlight's schedule and keeps its name; the input is unmodified."""
    text = Before.script()
    after = schedule(Before, CUDA)
    assert _binds_threads(after["double"])
    assert after["double"].attrs["tirx.is_scheduled"]
    assert not _binds_threads(Before["double"])
    assert Before.script() == text
    tvm.ir.assert_structural_equal(after["main"], Before["main"])
    assert {name.name_hint for name in after.functions} == {"double", "bound", "main"}


def test_scheduled_kernels_are_left_alone():
    """A PrimFunc that binds threads, or is marked as scheduled, stays as it is."""
    after = schedule(Before, CUDA)
    tvm.ir.assert_structural_equal(after["bound"], Before["bound"])
    marked = Before.clone()
    name = marked.get_global_var("double")
    marked.update_func(name, marked["double"].with_attr("tirx.is_scheduled", True))
    assert schedule(marked, CUDA) is marked


def test_schedule_is_idempotent():
    """A module that was scheduled is returned as it is."""
    after = schedule(Before, CUDA)
    assert schedule(after, CUDA) is after


def test_short_cpu_kernels_need_no_schedule():
    """The same module is returned."""
    assert schedule(Before, parse_target("llvm")) is Before


def test_long_cpu_kernels_are_scheduled_where_there_are_threads():
    """Those of a CPU are, those that run beside WebGPU are not."""

    @I.ir_module
    class Long:
        @T.prim_func(private=True, s_tir=True)
        def double(x: T.Buffer((1024, 1024), "float32"), y: T.Buffer((1024, 1024), "float32")):
            for i, j in T.grid(1024, 1024):
                with T.sblock("y"):
                    v_i, v_j = T.axis.remap("SS", [i, j])
                    y[v_i, v_j] = x[v_i, v_j] + x[v_i, v_j]

    assert "T.parallel" in schedule(Long, parse_target("llvm"))["double"].script()
    assert schedule(Long, parse_target("webgpu").host) is Long


@pytest.mark.parametrize("session", ["inline", "process"])
def test_code_of_this_machine_is_for_its_cpu(session):
    """Unless the target names one, or a triple; suites have the target for any machine."""
    target = parse_target("llvm", session)
    assert str(target) == str(native_cpu_target())
    assert portable_text(target) == str(parse_target("llvm"))
    for text in ('{"kind": "llvm", "mcpu": "x86-64"}', '{"kind": "llvm", "mattr": ["+avx2"]}'):
        assert str(parse_target(text, session)) == str(parse_target(text))
        assert portable_text(parse_target(text, session)) == str(parse_target(text))


@pytest.mark.parametrize("session", [None, "rpc:host:9090", "tracker:host:9190:key"])
def test_code_of_other_machines_is_for_any_cpu(session):
    """What runs elsewhere, or where is not known."""
    assert "mcpu" not in parse_target("llvm", session).attrs
    assert str(parse_target("arm64", "process")) == str(parse_target("arm64"))


def test_schedule_names_the_function_it_fails_on(monkeypatch):
    """dlight's failure is about one PrimFunc."""

    def fail(*_):
        raise ValueError("planted")

    monkeypatch.setattr(tvm.s_tir.dlight.gpu.Fallback, "apply", fail)
    with pytest.raises(LoweringError, match=r"no cuda schedule for PrimFunc double: .*planted"):
        schedule(Before, CUDA)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("llvm", "llvm"), ('{"kind": "cuda", "arch": "sm_90"}', "cuda"), ("webgpu", "webgpu")],
)
def test_targets_are_parsed(text, kind):
    """A kind by itself, or JSON with attributes."""
    assert parse_target(text).kind.name == kind


@pytest.mark.parametrize("text", ["", "abacus", "llvm -mcpu=native", '{"kind": "llvm"', "{}"])
def test_unknown_target_names_the_known_ones(text):
    """What TVM cannot parse is a usage error that lists the kinds this build has."""
    with pytest.raises(UsageError, match=r"is not known to TVM: .*c, cuda, .*llvm.*webgpu"):
        parse_target(text)


def test_kind_without_code_generator_is_refused():
    """A kind that TVM knows but this build cannot compile for is a usage error."""
    assert tvm.get_global_func("target.build.vulkan", allow_missing=True) is None
    with pytest.raises(UsageError, match="cannot generate code for vulkan; it can for c, cuda"):
        parse_target("vulkan")


def test_device_of_a_cpu_target():
    """A CPU target runs on the CPU."""
    assert device_of(parse_target("llvm")) == tvm.cpu(0)


def test_absent_device_is_unavailable():
    """A device this machine lacks is named, with where else to look."""
    with pytest.raises(DeviceUnavailable, match="there is no webgpu device here; use a session"):
        device_of(parse_target("webgpu"))
