# ruff: noqa: N812 - TVMScript
"""A program runs on two sides as on one, and reports where it cannot."""

from __future__ import annotations

import gc
import weakref

import broken_pipelines
import numpy as np
import pytest
import tvm
from same_kernels import LLVM, partitioned
from tiny_model import UNITS
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.errors import DeviceCrash, DeviceError, DeviceFault, DeviceTimeout
from relax_tapml.partition.built_functions import flat_values
from relax_tapml.partition.hybrid import Host, HybridModule
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.passes.annotate_sites import AnnotateSites
from relax_tapml.targets.open_session import open_session
from relax_tapml.targets.session.inline import InlineSession


def same(got: list[np.ndarray], wanted: list[np.ndarray]) -> bool:
    return [(a.dtype, a.shape, a.tobytes()) for a in got] == [
        (a.dtype, a.shape, a.tobytes()) for a in wanted
    ]


@pytest.fixture(scope="module")
def process():
    """One device process for the tests that do not kill it."""
    session = open_session("process", LLVM)
    yield session
    session.close()


@pytest.mark.parametrize("boundary", [["softmax", "concatenate"], UNITS], ids=len)
def test_a_device_process_gives_the_same_bits(
    part, host, kernels, expected, tiny, process, boundary
):
    """In every run; the inputs are left alone."""
    hybrid = HybridModule(host, part(*boundary), process, kernels.files())
    for sample, wanted in zip(tiny.samples, expected, strict=True):
        before = [array.copy() for array in sample.arrays]
        assert same(hybrid["main"](*sample.arrays), wanted)
        assert same(list(sample.arrays), before)


def test_a_device_program_needs_a_session(part, host):
    """That is a mistake of the caller."""
    with pytest.raises(ValueError, match=r"^a program with units on the device needs a session$"):
        HybridModule(host, part("softmax"))


def test_weights_are_sent_once_and_values_only_as_needed(part, host, kernels, tiny):
    """The second run moves the input of the region and its result, and no weight."""
    session = InlineSession(LLVM)
    hybrid = HybridModule(host, part("matmul"), session, kernels.files())
    (x,) = tiny.samples[0].arrays
    crossing = 4 * x.nbytes  # Both products: what goes in and what comes out.
    hybrid["main"](x)
    assert session.traffic.total == crossing + tiny.params["w"].nbytes
    hybrid["main"](x)
    assert session.traffic.total == 2 * crossing + tiny.params["w"].nbytes


@I.ir_module
class InPlace:
    """A kernel that overwrites its argument, one whose result is not read, and a tuple."""

    @T.prim_func(private=True, s_tir=True)
    def negate(x: T.Buffer((4,), "float32")):
        for i in range(4):
            with T.sblock("x"):
                v = T.axis.spatial(4, i)
                x[v] = T.float32(0) - x[v]

    @T.prim_func(private=True, s_tir=True)
    def double(x: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")):
        for i in range(4):
            with T.sblock("y"):
                v = T.axis.spatial(4, i)
                y[v] = x[v] * T.float32(2)

    @R.function
    def main(x: R.Tensor((4,), "float32")):
        cls = InPlace
        a = R.call_tir(cls.double, (x,), out_ty=R.Tensor((4,), "float32"))
        _unread = R.call_tir(cls.double, (a,), out_ty=R.Tensor((4,), "float32"))
        b = R.call_tir_inplace(
            cls.negate, (a,), inplace_indices=[0], out_ty=R.Tensor((4,), "float32")
        )
        c = R.call_tir(cls.double, (b,), out_ty=R.Tensor((4,), "float32"))
        return (b, (c,))


@pytest.mark.parametrize("boundary", [["negate"], ["double"], ["double", "negate"]], ids="+".join)
def test_kernels_may_work_in_place(library, process, boundary):
    """A result that is the argument itself comes back whole from another process."""
    lowered = AnnotateSites()(InPlace)
    units = lower_for_target(lowered, LLVM)
    kernels = library.build(units, LLVM).files()
    program = partitioned(lowered, units, library, *boundary)
    x = np.arange(4, dtype="float32")
    for session in (InlineSession(LLVM), process):
        hybrid = HybridModule(Host(LLVM, kernels, {}), program, session, kernels)
        assert same(hybrid["main"](x), [0 - x * 2, (0 - x * 2) * 2])


def test_both_sides_on_one_device_share_its_memory(part, host, kernels, expected, tiny):
    """As on a GPU of this process: weights are not uploaded, values are copied on the device."""

    class Session(InlineSession):
        def shares(self, device):
            return device == self._device

        def upload(self, array):
            assert array.dtype == np.uint8, "only patterns are uploaded"
            return super().upload(array)

        def download(self, _tensor):
            raise AssertionError("a value went through memory of the CPU")

    session = Session(LLVM)
    hybrid = HybridModule(host, part("matmul", "softmax"), session, kernels.files())
    assert same(hybrid["main"](*tiny.samples[0].arrays), expected[0])
    assert hybrid.is_shared
    assert session.traffic.to_device > 0
    assert session.traffic.to_host > 0
    assert not InlineSession(LLVM).shares(host.device), "the CPU has the only copy of weights"


@pytest.mark.parametrize("kind", [DeviceError, DeviceCrash, DeviceTimeout])
@pytest.mark.parametrize("where", ["upload", "parameter", "call", "download"])
def test_a_fault_of_the_device_keeps_its_class(part, host, kernels, expected, tiny, kind, where):
    """The virtual machine would make a RuntimeError of it; a later run is not blamed for it."""
    faults = [kind("it is broken", text="output of the device")]

    class Session(InlineSession):
        def __getattribute__(self, name):
            if name == where and faults:
                raise faults.pop()
            return super().__getattribute__(name)

    hybrid = HybridModule(host, part("matmul"), Session(LLVM), kernels.files())
    with pytest.raises(kind, match=r"^it is broken$") as fault:
        hybrid["main"](*tiny.samples[0].arrays)
    assert fault.value.text == "output of the device"
    with pytest.raises(Exception, match="shape") as error:
        hybrid["main"](tiny.samples[0].arrays[0][:2])
    assert not isinstance(error.value, DeviceFault)
    assert same(hybrid["main"](*tiny.samples[0].arrays), expected[0])


def test_a_kernel_that_ends_its_process_is_a_crash(lowered, library, part, host, tiny):
    """The host goes on and reports what happened in which kernel."""
    pipeline = broken_pipelines.breaks("softmax", broken_pipelines.abort)
    device_units = lower_for_target(lowered, LLVM, pipeline)
    program = part("softmax", device_units=device_units)
    session = open_session("process", LLVM)
    try:
        hybrid = HybridModule(host, program, session, library.build(device_units, LLVM).files())
        message = r"^call of main_region0: device process \d+ was terminated by SIGABRT"
        with pytest.raises(DeviceCrash, match=message):
            hybrid["main"](*tiny.samples[0].arrays)
    finally:
        session.close()


def test_a_device_that_cannot_load_is_a_fault(part, host, tmp_path, process):
    """With the file that it could not load."""
    bad = tmp_path / "bad.so"
    bad.write_bytes(b"no library")
    with pytest.raises(DeviceFault, match=r"^load failed on device process"):
        HybridModule(host, part("softmax"), process, [bad])


def test_a_program_is_freed_with_its_module(part, host, kernels, tiny):
    """The callbacks do not keep what keeps them."""
    modules = []

    class Session(InlineSession):
        def load(self, bytecode, kernels):
            module = super().load(bytecode, kernels)
            modules.append(weakref.ref(module))
            return module

    session = Session(LLVM)
    hybrid = HybridModule(host, part("softmax"), session, kernels.files())
    hybrid["main"](*tiny.samples[0].arrays)
    assert modules[0]() is not None
    del hybrid
    gc.collect()
    assert modules[0]() is None


def test_results_are_flattened_in_order():
    """Left to right, through any nesting."""
    a, b, c = (tvm.runtime.tensor(np.full(2, i)) for i in range(3))
    assert [int(array[0]) for array in flat_values((a, ((b,), c)))] == [0, 1, 2]
    assert len(flat_values(a)) == 1
