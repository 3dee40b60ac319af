# ruff: noqa: N812 - TVMScript
"""Kernels that the runtime calls back become operators, and compute what they did."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
import tvm_ffi
from broken_pipelines import abort, breaks
from same_kernels import LLVM, partitioned
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.errors import DeviceCrash
from relax_tapml.partition.hybrid import Host, HybridModule
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.passes import native
from relax_tapml.passes.annotate_sites import AnnotateSites, annotated_calls
from relax_tapml.passes.assign_sides import host_only_sites
from relax_tapml.passes.outline_runtime_callbacks import (
    OutlineRuntimeCallbacks,
    inline_runtime_callbacks,
    written_params,
)
from relax_tapml.targets.open_session import open_session


@tvm.register_global_func("test_callbacks.apply")
def apply(kernel, x, times, named):
    """Call a kernel that was passed as an argument, and one in a tuple, as a runtime does."""
    out = tvm.runtime.tensor(np.zeros(x.shape, "float32"))
    for _ in range(times):
        kernel(x, out, 2.5, 3)
        named[1](out)
    return out


@I.ir_module
class Callbacks:
    @T.prim_func(private=True, s_tir=True)
    def add_scaled(x: T.handle, out: T.handle, factor: T.float32, offset: T.int32):
        n = T.int32()
        a = T.match_buffer(x, (n, 4), "float32")
        b = T.match_buffer(out, (n, 4), "float32")
        for i, j in T.grid(n, 4):
            with T.sblock("b"):
                v_i, v_j = T.axis.remap("SS", [i, j])
                b[v_i, v_j] = b[v_i, v_j] + a[v_i, v_j] * factor + T.Cast("float32", offset)

    @T.prim_func(private=True, s_tir=True)
    def halve(x: T.Buffer((3, 4), "float32")):
        for i, j in T.grid(3, 4):
            with T.sblock("x"):
                v_i, v_j = T.axis.remap("SS", [i, j])
                x[v_i, v_j] = x[v_i, v_j] * T.float32(0.5)

    @R.function(pure=False)
    def main(x: R.Tensor((3, 4), "float32")):
        cls = Callbacks
        return R.call_packed(
            "test_callbacks.apply",
            cls.add_scaled,
            x,
            R.prim_value(2),
            (R.str("tirx"), cls.halve),
            ty_args=R.Tensor((3, 4), "float32"),
        )


@pytest.fixture(scope="module")
def lowered() -> tvm.IRModule:
    native.load()
    return AnnotateSites()(OutlineRuntimeCallbacks()(Callbacks))


def expected(x):
    out = np.zeros_like(x)
    for _ in range(2):
        out = (out + x * np.float32(2.5) + np.float32(3)) * np.float32(0.5)
    return out


def test_each_kernel_is_a_site_of_its_own(lowered):
    """In a function of its own; only what the runtime does stays with the runtime."""
    assert [site.id for site, _ in annotated_calls(lowered)] == [
        "callback_add_scaled/000/add_scaled",
        "callback_halve/000/halve",
        "main/000/test_callbacks.apply",
    ]
    assert list(host_only_sites(lowered)) == ["main/000/test_callbacks.apply"]


@pytest.mark.parametrize("spec", ["inline", "process"])
@pytest.mark.parametrize("units", [(), ("add_scaled",), ("halve",), ("add_scaled", "halve")])
def test_on_either_side_the_runtime_gets_the_same(lowered, units, spec, tmp_path):
    """What a kernel writes on the device is written to the runtime's own tensors."""
    side = lower_for_target(lowered, LLVM)
    library = KernelLibrary(tmp_path)
    kernels = library.build(side, LLVM)
    assert not kernels.failed
    program = partitioned(lowered, side, library, *units)
    assert len(program.calls) == len(units)
    host = Host(LLVM, kernels.files(), {})
    session = open_session(spec, LLVM)
    hybrid = HybridModule(host, program, session, kernels.files())
    x = np.linspace(-1, 1, 12, dtype="float32").reshape(3, 4)
    (actual,) = hybrid["main"](x)
    np.testing.assert_array_equal(actual, expected(x))
    assert hybrid.last_sites == (("callback_" + units[-1] + "/000/" + units[-1],) if units else ())
    session.close()


_kept: list[object] = []


@tvm.register_global_func("test_callbacks.keep")
def keep(kernel, x):
    """Keep a kernel for later, as a cache does."""
    _kept[:] = [kernel]
    return x


@tvm.register_global_func("test_callbacks.call_kept")
def call_kept():
    """Call it where no function of the module runs."""
    _kept[0](tvm.runtime.tensor(np.ones((3, 4), "float32")))


@I.ir_module
class Keeps:
    @T.prim_func(private=True, s_tir=True)
    def halve(x: T.Buffer((3, 4), "float32")):
        for i, j in T.grid(3, 4):
            with T.sblock("x"):
                v_i, v_j = T.axis.remap("SS", [i, j])
                x[v_i, v_j] = x[v_i, v_j] * T.float32(0.5)

    @R.function(pure=False)
    def main(x: R.Tensor((3, 4), "float32")):
        cls = Keeps
        return R.call_packed(
            "test_callbacks.keep", cls.halve, x, ty_args=R.Tensor((3, 4), "float32")
        )


def test_a_kernel_that_ends_the_device_in_a_call_of_the_runtime_is_a_fault_of_the_device(tmp_path):
    """Not of the runtime, which only calls it."""
    native.load()
    lowered = AnnotateSites()(OutlineRuntimeCallbacks()(Keeps))
    own = lower_for_target(lowered, LLVM)
    broken = lower_for_target(lowered, LLVM, breaks("halve", abort))
    library = KernelLibrary(tmp_path)
    kernels, wrong = library.build(own, LLVM), library.build(broken, LLVM)
    program = partitioned(lowered, own, library, "halve", device_units=broken)
    session = open_session("process", LLVM)
    hybrid = HybridModule(Host(LLVM, kernels.files(), {}), program, session, wrong.files())
    hybrid["main"](np.ones((3, 4), "float32"))
    with pytest.raises(DeviceCrash, match="SIGABRT"):
        hybrid.runtime("test_callbacks.call_kept")()
    _kept.clear()
    session.close()


def test_without_callbacks_nothing_changes():
    """The same module."""

    @I.ir_module
    class Plain:
        @R.function
        def main(x: R.Tensor((3, 4), "float32")):
            return R.call_pure_packed("f", x, ty_args=R.Tensor((3, 4), "float32"))

    assert OutlineRuntimeCallbacks()(Plain).same_as(Plain)


def test_written_parameters_are_those_stored_to():
    """In place or not, also through a part of the buffer."""

    @T.prim_func(private=True, s_tir=True)
    def part(a: T.Buffer((8,), "float32"), b: T.Buffer((8,), "float32"), c: T.int32):
        for i in range(2):
            with T.sblock("outer"):
                v_i = T.axis.spatial(2, i)
                row = T.match_buffer(b[v_i * 4 : v_i * 4 + 4], (4,), offset_factor=1)
                for j in range(4):
                    with T.sblock("inner"):
                        v_j = T.axis.spatial(4, j)
                        row[v_j] = a[v_i * 4 + v_j] + T.Cast("float32", c)

    assert written_params(part) == [1]
    assert written_params(Callbacks["add_scaled"]) == [1]
    assert written_params(Callbacks["halve"]) == [0]

    @T.prim_func(private=True, s_tir=True)
    def passes_on(a: T.Buffer((8,), "float32"), b: T.Buffer((8,), "float32"), c: T.int32):
        T.evaluate(T.call_extern("int32", "something", a.data, b.data, c))

    assert written_params(passes_on) == [0, 1]


def test_kernels_are_passed_themselves_again(lowered):
    """The runtime then needs nothing of ours; other functions stay as they are."""
    again = inline_runtime_callbacks(lowered["main"], lowered)
    called = {gvar.name_hint for gvar in relax.analysis.all_global_vars(again)}
    assert called == {"add_scaled", "halve"}
    x = np.arange(12, dtype="float32").reshape(3, 4)
    kernels = {g: f for g, f in lowered.functions.items() if g.name_hint in called}
    module = tvm.IRModule({"main": again, **kernels})
    machine = relax.VirtualMachine(tvm.compile(module, LLVM), tvm.cpu())
    assert machine["main"](tvm.runtime.tensor(x)).numpy().tobytes() == expected(x).tobytes()
    assert inline_runtime_callbacks(again, lowered).same_as(again)


_streams = []


@tvm.register_global_func("test_callbacks.note_stream")
def note_stream(_x):
    _streams.append(tvm_ffi.get_raw_stream(tvm_ffi.device("cpu", 0)))


@tvm.register_global_func("test_callbacks.on_a_stream")
def on_a_stream(callback, x):
    """Call back as a KV cache that copies pages does, from a stream of its own."""
    with tvm_ffi.use_raw_stream(tvm_ffi.device("cpu", 0), 64):
        callback(x)
        note_stream(x)
    return x


def test_a_callback_runs_on_the_default_stream():
    """The VM's allocator and copies know no other; the stream of the caller is then as it was."""

    @I.ir_module
    class Noting:
        @R.function(private=True, pure=False)
        def noted(x: R.Tensor((2,), "float32")) -> R.Tensor((2,), "float32"):
            R.call_packed("test_callbacks.note_stream", x, ty_args=(R.Tuple,))
            return x

        @R.function(pure=False)
        def main(x: R.Tensor((2,), "float32")) -> R.Tensor((2,), "float32"):
            cls = Noting
            closure = R.make_closure(cls.noted, ())
            callback = R.call_builtin_with_ctx(
                "relax_tapml.runtime_callback.make", (closure,), ty_args=(R.Any,)
            )
            return R.call_packed(
                "test_callbacks.on_a_stream", callback, x, ty_args=R.Tensor((2,), "float32")
            )

    native.load()
    vm = relax.VirtualMachine(tvm.compile(Noting, LLVM), tvm.cpu())
    _streams.clear()
    vm["main"](tvm.runtime.tensor(np.zeros(2, "float32")))
    assert _streams == [0, 64]
