"""The capture intrinsics and their queue, through the global functions alone."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax, rpc
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812

from relax_tapml.passes import native
from relax_tapml.passes.annotate_sites import AnnotateSites
from relax_tapml.passes.insert_capture import InsertCapture

KIB = 1 << 10


@pytest.fixture
def capture() -> Iterator[SimpleNamespace]:
    native.load()
    names = ("begin_frame", "inputs", "outputs", "start", "stop", "drain", "mark", "stats")
    functions = {n: tvm_ffi.get_global_func(f"relax_tapml.capture.{n}") for n in names}
    yield SimpleNamespace(**functions)
    functions["stop"]()


def readable(events):
    """Events with tensors as arrays and everything else as it is."""
    return [
        [
            item.numpy() if isinstance(item, tvm.runtime.Tensor) else item
            for item in (list(v) if isinstance(v, tvm_ffi.Array) else v for v in event)
        ]
        for event in events
    ]


def tensor(array):
    return tvm.runtime.tensor(np.ascontiguousarray(array))


def test_inactive_intrinsics_record_nothing(capture):
    """With no recorder a run leaves no trace, even if a recorder starts in the middle of it."""
    frame = capture.begin_frame("main")
    capture.inputs(frame, "main/000/f", "+0", 1)
    capture.start(KIB)
    capture.inputs(frame, "main/000/f", "=0")
    assert not capture.drain(10, 0)


def test_events_follow_the_protocol(capture):
    """Each kind of value has its ref; a remembered value is copied once."""
    capture.start(1 << 20)
    x = tensor(np.arange(3.0))
    frame = capture.begin_frame("main")
    values = ["+0", x, "+1", tvm_ffi.Shape([4, 8]), "+2", tvm_ffi.Shape([]), "+3", 7, "+4", True]
    values += ["+5", 0.1, "+6", "text, ü", "+7", None, "+8", frame, "@n", -3]
    capture.inputs(frame, "main/000/f", *values)
    capture.outputs(frame, "main/000/f", "+9", x)
    capture.inputs(frame, "main/001/g", "=9", "=0", "=3")
    capture.mark("end")
    events = readable(capture.drain(100, 0))
    np.testing.assert_array_equal(events[0][2], x.numpy())
    refs = ["t:0", "s:4,8", "s:", "i:7", "b:1", "f:0x1.999999999999ap-4", "str:text, ü", "none"]
    assert events[0][:2] == ["tensor", 0]
    assert events[1] == [
        *["inputs", 0, "main", 0, "main/000/f"],
        [*refs, "object:relax_tapml.capture.Frame", "i:-3"],
    ]
    assert events[2][:2] == ["tensor", 1]
    assert events[3] == ["outputs", 0, 0, ["t:1"]]
    assert events[4] == ["inputs", 0, "main", 1, "main/001/g", ["t:1", "t:0", "i:7"]]
    assert events[5:] == [["mark", "end"]]


def test_parameter_is_captured_once_for_an_identity(capture):
    """The same memory is copied once over all frames; another tensor of that name again."""
    capture.start(1 << 20)
    w = tensor(np.ones(4, "float32"))
    for _ in range(3):
        frame = capture.begin_frame("main")
        capture.inputs(frame, "main/000/f", "@w", w)
    kinds = [event[0] for event in capture.drain(100, 0)]
    assert kinds == ["tensor", "param", "inputs", "inputs", "inputs"]
    capture.inputs(frame, "main/000/f", "@w", w._create_view([2, 2]))
    assert [event[0] for event in capture.drain(100, 0)] == ["tensor", "param", "inputs"]


def test_parameter_address_is_not_reused(capture):
    """A recorder holds the parameters that it identifies by address, until it stops."""
    capture.start(1 << 20)
    frame = capture.begin_frame("main")
    seen = []
    for value in range(5):
        w = tensor(np.full(1024, value, "float32"))
        capture.inputs(frame, "main/000/f", "@w", w)
        del w
        gc.collect()
        seen += [e[2][0] for e in readable(capture.drain(9, 0)) if e[0] == "tensor"]
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("token", ["=77", "?", "", "+1", "@w"])
def test_bad_tokens_are_refused(capture, token):
    """A malformed argument list names the site; the recording goes on."""
    capture.start(KIB)
    frame = capture.begin_frame("main")
    with pytest.raises(ValueError, match=r"main/000/f.*Run InsertCapture on the module again"):
        capture.inputs(frame, "main/000/f", token)
    with pytest.raises(ValueError, match=r"main/000/f.*expected its inputs"):
        capture.outputs(frame, "main/000/f")
    capture.inputs(frame, "main/000/f", "+0", 1)
    assert [event[0] for event in capture.drain(9, 0)] == ["inputs"]


def test_second_start_and_bad_budget_are_refused(capture):
    """At most one recorder, with a positive budget."""
    with pytest.raises(ValueError, match="positive byte budget, got 0"):
        capture.start(0)
    capture.start(KIB)
    with pytest.raises(RuntimeError, match="active in this process already"):
        capture.start(KIB)
    capture.stop()
    with pytest.raises(RuntimeError, match="no recorder is active"):
        capture.mark("late")
    capture.start(KIB)


def test_stopped_recording_can_be_drained(capture):
    """What was queued before the stop is not lost, and a drained tensor outlives everything."""
    capture.start(1 << 20)
    frame = capture.begin_frame("main")
    capture.inputs(frame, "main/000/f", "+0", tensor(np.arange(100)))
    capture.stop()
    capture.inputs(frame, "main/000/f", "+0", tensor(np.arange(100)))
    events = capture.drain(9, 0)
    assert [event[0] for event in events] == ["tensor", "inputs"]
    capture.start(1 << 20)
    np.testing.assert_array_equal(events[0][2].numpy(), np.arange(100))


def push_many(capture, count, nbytes):
    def run():
        frame = capture.begin_frame("main")
        for value in range(count):
            data = tensor(np.full(nbytes, value % 256, "uint8"))
            capture.inputs(frame, f"main/{value:03d}/f", "+0", data)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def wait_for(condition):
    """Wait until another thread has got somewhere."""
    pause = threading.Event()
    for _ in range(10_000):
        if condition():
            return
        pause.wait(0.005)
    pytest.fail("the other thread got nowhere")


@pytest.mark.parametrize("nbytes", [10, 5000, 64 * KIB])
def test_budget_bounds_memory_however_slow_the_drain(capture, nbytes):
    """A run waits instead of filling the memory, and nothing is lost."""
    budget = 256 * KIB
    capture.start(budget)
    count = 3000 if nbytes == 10 else 200
    thread = push_many(capture, count, nbytes)
    wait_for(lambda: capture.stats()["waiting"] == 1)
    seen = []
    while len(seen) < count:
        events = capture.drain(8, 100)
        stats = capture.stats()
        assert stats["in_flight_bytes"] <= budget
        assert stats["allocated_bytes"] <= budget
        seen += [event[2].numpy() for event in events if event[0] == "tensor"]
        del events
    thread.join()
    assert capture.stats()["peak_in_flight_bytes"] <= budget
    for value, data in enumerate(seen):
        assert data.nbytes == nbytes
        assert (data == value % 256).all()


def test_tensor_above_the_budget_passes_alone(capture):
    """One tensor may exceed the budget; it waits until nothing else is in flight."""
    capture.start(KIB)
    thread = push_many(capture, 4, 100 * KIB)
    peaks, seen = [], 0
    while seen < 4:
        events = capture.drain(1, 100)
        seen += sum(event[0] == "tensor" for event in events)
        peaks.append(capture.stats()["allocated_bytes"])
        del events
    thread.join()
    assert max(peaks) < 200 * KIB


def test_stop_wakes_a_waiting_run(capture):
    """A recorder that ends early never leaves a run hanging, nor the next recorder."""
    capture.start(16 * KIB)
    thread = push_many(capture, 50, 8 * KIB)
    wait_for(lambda: capture.stats()["waiting"] == 1)
    capture.stop()
    thread.join()
    capture.start(KIB)
    capture.inputs(capture.begin_frame("main"), "main/000/f", "+0", 1)
    assert len(capture.drain(9, 0)) == 1


def test_buffers_are_recycled(capture):
    """A released buffer serves the next tensor of its size."""
    capture.start(1 << 20)
    frame = capture.begin_frame("main")
    addresses = set()
    for _ in range(10):
        capture.inputs(frame, "main/000/f", "+0", tensor(np.zeros(10_000)))
        events = capture.drain(9, 0)
        addresses.add(events[0][2].data_ptr())
        del events
    assert len(addresses) == 1


def test_drain_waits_without_the_interpreter_lock(capture):
    """A Python thread that waits for events does not keep another from making one."""
    capture.start(KIB)
    found = []
    thread = threading.Thread(target=lambda: found.extend(capture.drain(1, 200_000)))
    thread.start()
    capture.mark("now")
    thread.join()
    assert readable(found) == [["mark", "now"]]


def test_threads_keep_their_frames_apart(capture):
    """Frames of several threads interleave, each with its own values and calls in order."""
    capture.start(64 * KIB)
    threads = [push_many(capture, 50, 1000) for _ in range(4)]
    tensors, calls = {}, {}
    while sum(map(len, calls.values())) < 200:
        for event in readable(capture.drain(16, 100)):
            if event[0] == "tensor":
                tensors[event[1]] = event[2]
            else:
                _, frame, _, call, _, (ref,) = event
                calls.setdefault(frame, []).append((call, tensors[int(ref[2:])][0]))
    for thread in threads:
        thread.join()
    assert len(calls) == 4
    assert all(frame == [(value, value) for value in range(50)] for frame in calls.values())


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (7,)])
@pytest.mark.parametrize("dtype", ["bool", "int8", "float64", "bfloat16", "int4", "float32x4"])
def test_dtypes_and_shapes_are_kept(capture, dtype, shape):
    """Scalars, empty and packed tensors are copied as they are."""
    capture.start(1 << 20)
    value = tvm.runtime.empty(shape, dtype)
    capture.inputs(capture.begin_frame("main"), "main/000/f", "+0", value)
    copy = capture.drain(1, 0)[0][2]
    assert (str(copy.dtype), tuple(copy.shape)) == (dtype, shape)


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a.T,
        lambda a: a[1:, ::2],
        lambda a: a[::-1, 1:2],
        lambda a: a[2],
        lambda a: a[:, 0],
    ],
)
def test_strided_host_tensors_are_copied_by_element(capture, view):
    """Strides and offsets of a view are honoured."""
    capture.start(1 << 20)
    array = view(np.arange(24, dtype="int16").reshape(4, 6))
    capture.inputs(capture.begin_frame("main"), "m/000/f", "+0", tvm_ffi.from_dlpack(array))
    np.testing.assert_array_equal(capture.drain(1, 0)[0][2].numpy(), array)


def test_byte_offset_is_honoured(capture):
    """A view into the middle of an allocation is copied from there."""
    capture.start(1 << 20)
    whole = tensor(np.arange(10, dtype="int32"))
    part = whole._create_view([3], relative_byte_offset=16)
    capture.inputs(capture.begin_frame("main"), "m/000/f", "+0", part)
    np.testing.assert_array_equal(capture.drain(1, 0)[0][2].numpy(), [4, 5, 6])


def test_tensors_of_another_device_are_copied_to_the_host(capture):
    """A tensor that is not in host memory, here behind RPC, goes through TVM's own copy."""
    capture.start(1 << 20)
    remote = tvm.runtime.tensor(np.arange(5.0), rpc.LocalSession().cpu())
    assert remote.device.dlpack_device_type() != tvm.cpu().dlpack_device_type()
    capture.inputs(capture.begin_frame("main"), "m/000/f", "+0", remote)
    np.testing.assert_array_equal(capture.drain(1, 0)[0][2].numpy(), np.arange(5.0))


@I.ir_module
class Plain:
    @R.function(pure=False)
    def main(x: R.Tensor((4,), "float32"), w: R.Tensor((4,), "float32")):
        R.func_attr({"num_input": 1})
        y = R.add(x, w)
        return R.call_packed("relax_tapml_test.maybe_fail", y, ty_args=[R.Tensor((4,), "float32")])


Instrumented = InsertCapture()(AnnotateSites()(Plain))


def test_error_in_a_run_leaves_its_call_open(capture):
    """The call that raised has inputs and no outputs; the next run is recorded as usual."""

    @tvm.register_global_func("relax_tapml_test.maybe_fail", override=True)
    def maybe_fail(y):
        if y.numpy()[0] < 0:
            raise RuntimeError("negative")
        return y

    vm = relax.VirtualMachine(tvm.compile(Instrumented, "llvm"), tvm.cpu())
    w = tensor(np.ones(4, "float32"))
    capture.start(1 << 20)
    with pytest.raises(RuntimeError, match="negative"):
        vm["main"](tensor(np.full(4, -5, "float32")), w)
    vm["main"](tensor(np.full(4, 5, "float32")), w)
    records = [e for e in readable(capture.drain(100, 0)) if e[0] in ("inputs", "outputs")]
    assert [(e[0], e[1]) for e in records] == [
        *[("inputs", 0), ("outputs", 0), ("inputs", 0)],
        *[("inputs", 1), ("outputs", 1), ("inputs", 1), ("outputs", 1)],
    ]


def test_the_error_for_a_missing_library_has_the_command_to_build_it(monkeypatch):
    """Without the native library the import error names the file and the command."""

    def missing(package, target):
        raise RuntimeError("searched")

    monkeypatch.setattr(native, "load_lib_module", missing)
    with pytest.raises(ImportError, match=r"librelax_tapml\.so.*pip install -e \. \(searched\)"):
        native.load.__wrapped__()


def test_native_library_works_without_python(tmp_path):
    """A C++ process runs an instrumented executable, and drains what it captured."""
    (library,) = (
        path.locate()
        for path in distribution("relax-tapml").files or []
        if path.name == "librelax_tapml.so"
    )
    runtime = Path(tvm.__file__).parent / "lib" / "libtvm_runtime.so"
    module = tvm.IRModule({"main": Instrumented["main"]})
    executable = tmp_path / "model.so"
    tvm.compile(module, "llvm").export_library(str(executable))
    source = Path(__file__).with_name("capture_without_python.cc")
    program = tmp_path / "capture_without_python"

    def config(flag):
        command = [sys.executable, "-m", "tvm_ffi.config", flag]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    command = ["g++", str(source), *config("--cxxflags"), "-o", str(program)]
    command += [*config("--ldflags"), *config("--libs"), f"-Wl,-rpath,{config('--libdir')[0]}"]
    command += [str(runtime), f"-Wl,-rpath,{runtime.parent}"]
    subprocess.run(command, check=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [program, library, executable], capture_output=True, text=True, env=environment
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.splitlines() == [
        "tensor 0: 1 2 3 4",
        "tensor 1: 10 20 30 40",
        "param 1 w",
        "inputs 0 main 0 main/000/add t:0 p:w",
        "tensor 2: 11 22 33 44",
        "outputs 0 0 t:2",
        "inputs 0 main 1 main/001/relax_tapml_test.maybe_fail t:2",
        "tensor 3: 11 22 33 44",
        "outputs 0 1 t:3",
        "strided int4: Cannot capture a value of m/000/f: expected a contiguous tensor, got a "
        "strided one of packed int4. Copy it before the call.",
    ]
