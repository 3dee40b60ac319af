"""OpenCL, run by pocl where it is installed: TVM's runtime for it, and what each fault becomes."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tvm
from broken_pipelines import _map_stores, _store, breaks, scale
from hypothesis import given
from hypothesis import strategies as st
from lacked_types import model as lacked_types
from opencl_kernels import POINTER, kernel, on_device, pointer, saved, sum_by_the_last
from tiny_model import model
from transferred import check_round_trip
from tvm import relax, tirx
from tvm.s_tir import Schedule
from tvm.script import tirx as T  # noqa: N812

from relax_tapml import Model, bring_up, replay
from relax_tapml.cli.main import main
from relax_tapml.errors import DeviceUnavailable, LoweringError
from relax_tapml.frontend.model import Sample
from relax_tapml.repair import search
from relax_tapml.repair.alternatives.exact_constants import ExactConstants
from relax_tapml.system import install_command
from relax_tapml.targets.open_session import open_session
from relax_tapml.targets.opencl import _list_devices, devices, runtime
from relax_tapml.targets.opencl.devices import Listing, OpenCLDevice, list_devices
from relax_tapml.targets.opencl.work_items import one_by_one
from relax_tapml.targets.platforms.parse_target import parse_target, portable_text
from relax_tapml.targets.platforms.registry import platform_named

OPENCL = parse_target("opencl")
PLATFORM = platform_named("opencl")
UNIT = "fused_gelu"
SMALL = OpenCLDevice(
    name="small",
    platform="a vendor",
    driver="1.0",
    is_cpu=True,
    max_threads=64,
    local_memory_bytes=32768,
    lacks=("float16", "warp shuffles"),
)
HERE = list_devices().devices
on_opencl = pytest.mark.skipif(
    not HERE, reason=f"needs an OpenCL device ({PLATFORM.requirements()[0].install})"
)
on_pocl = pytest.mark.skipif(
    not any("Portable" in device.platform for device in HERE),
    reason=f"needs pocl ({PLATFORM.requirements()[0].install})",
)


@pytest.fixture
def small(monkeypatch):
    """A machine with another device."""
    monkeypatch.setattr(
        "relax_tapml.targets.platforms._opencl.list_devices", lambda: Listing(devices=(SMALL,))
    )


@pytest.fixture
def no_driver(monkeypatch):
    """A machine whose drivers were not installed."""
    monkeypatch.setenv("OCL_ICD_VENDORS", "/nowhere")
    list_devices.cache_clear()
    yield
    list_devices.cache_clear()


# --- Without a device -----------------------------------------------------------------------------


def test_a_target_for_this_machine_has_the_limits_of_its_device(small):
    """TVM's defaults become the device's, what people state is kept if the device has as much."""
    target = parse_target("opencl", "process")
    assert target.attrs["max_num_threads"] == target.attrs["max_threads_per_block"] == 64
    assert target.attrs["max_shared_memory_per_block"] == 32768
    assert {"without_float16", "without_warp_shuffles"} < set(target.keys)
    stated = '{"kind": "opencl", "max_num_threads": 32, "max_shared_memory_per_block": 1024}'
    attributes = parse_target(stated, "inline").attrs
    assert attributes["max_num_threads"] == 32
    assert attributes["max_shared_memory_per_block"] == 1024
    assert str(parse_target(str(target), "process")) == str(target)
    assert str(parse_target("opencl", "rpc:HOST:1")) == str(OPENCL)


def test_a_cpu_has_no_threads_in_lock_step(small):
    """TVM would leave barriers out within a warp, or put them where not all threads come."""
    stated = '{"kind": "opencl", "thread_warp_size": 32}'
    assert parse_target(stated, "process").attrs["thread_warp_size"] == 1
    assert parse_target(stated).attrs["thread_warp_size"] == 32


def test_a_suite_has_the_target_for_any_machine(small):
    """What was limited for this machine is as it was."""
    assert portable_text(parse_target("opencl", "process")) == str(OPENCL)
    own = '{"kind": "opencl", "max_num_threads": 32}'
    assert portable_text(parse_target(own)) == str(parse_target(own))


@T.prim_func(private=True)
def shuffled(a: T.Buffer((32,), "float32"), b: T.Buffer((32,), "float32")):
    """Reads of another thread of its warp."""
    T.func_attr({"tirx.is_scheduled": True})
    for i in T.thread_binding(32, thread="threadIdx.x"):
        b[i] = T.tvm_warp_shuffle(T.uint32(0xFFFFFFFF), a[i], 0, 32, 32)


@T.prim_func(private=True)
def halved(a: T.Buffer((32,), "float16"), b: T.Buffer((32,), "float16")):
    """Computes in float16."""
    T.func_attr({"tirx.is_scheduled": True})
    for i in T.thread_binding(32, thread="threadIdx.x"):
        b[i] = a[i] * T.float16(0.5)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (shuffled, r"needs warp shuffles, .* lacks \(cl_intel_subgroups\)"),
        (halved, r"needs float16, .* lacks \(cl_khr_fp16\)"),
    ],
)
def test_what_the_device_lacks_is_refused_when_a_kernel_is_built(
    function, message, small, tmp_path
):
    """For a device behind RPC, which nobody here knows, the kernel is built."""
    module = tvm.IRModule({"k": function.with_attr("global_symbol", "k")})
    with pytest.raises(LoweringError, match=message):
        PLATFORM.compile(module, parse_target("opencl", "process"), tmp_path / "k.so")
    PLATFORM.compile(module, OPENCL, tmp_path / "k.so")
    assert (tmp_path / "k.so").exists()


POCL = install_command(debian="pocl-opencl-icd ocl-icd-libopencl1", macos="brew install pocl")


def test_the_library_has_one_list_of_names():
    """Of the program that lists devices, and of the runtime."""
    source = Path(devices.__file__).with_name("cl.cc").read_text()
    listed = re.search(r"for \(const char\* name : {(.*?)}\)", source, re.S)
    assert tuple(re.findall(r'"(.*?)"', listed[1])) == _list_devices._LIBRARIES


def test_without_a_driver_there_are_kernels_only(no_driver, capsys):
    """With the command that installs one."""
    assert main(["doctor", "opencl"]) == 3
    printed = capsys.readouterr().out
    assert "here      kernels only: there is no such device here" in printed
    assert POCL in printed
    with pytest.raises(DeviceUnavailable, match=re.escape(f"no OpenCL device ({POCL})")):
        open_session("process", parse_target("opencl", "process"))


def test_orders_of_work_items_need_a_cpu(monkeypatch):
    """A GPU runs work items at the same time."""
    gpu = dataclasses.replace(SMALL, is_cpu=False)
    monkeypatch.setattr(
        "relax_tapml.targets.platforms._opencl.list_devices", lambda: Listing(devices=(gpu,))
    )
    with pytest.raises(DeviceUnavailable, match=re.escape(f"no OpenCL CPU device ({POCL})")):
        open_session("reversed", OPENCL)


def test_a_driver_that_crashes_is_reported(monkeypatch, tmp_path):
    """And crashes a process of its own only."""
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\necho planted >&2\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(devices.sys, "executable", str(crashing))
    assert list_devices.__wrapped__().error == "a driver failed with code -11: planted"


@pytest.fixture
def not_compiled(monkeypatch, tmp_path):
    """An empty cache."""
    monkeypatch.setenv("RELAX_TAPML_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runtime, "has_own_runtime", lambda: False)
    runtime.opencl_runtime.cache_clear()
    yield
    runtime.opencl_runtime.cache_clear()


def test_a_runtime_that_does_not_compile_is_unavailable(not_compiled, monkeypatch, tmp_path):
    """The error has the compiler's output and how to install one; nothing stays in the cache."""
    compiler = tmp_path / "c++"
    monkeypatch.setattr(runtime.cc, "get_cc", lambda: str(compiler))
    with pytest.raises(DeviceUnavailable, match=r"cannot be run.*Install a C\+\+ comp"):
        runtime.opencl_runtime()
    compiler.write_text("#!/bin/sh\necho error: planted >&2\nexit 1\n")
    compiler.chmod(0o755)
    with pytest.raises(DeviceUnavailable, match=r"does not compile with .*: error: planted"):
        runtime.opencl_runtime()
    assert not list((tmp_path / "cache").iterdir())


def test_a_tvm_with_opencl_keeps_its_own_runtime(monkeypatch):
    """Nothing is compiled or loaded."""
    monkeypatch.setattr(runtime, "has_own_runtime", lambda: True)
    assert runtime.opencl_runtime.__wrapped__() is None


# --- The runtime ----------------------------------------------------------------------------------


@on_opencl
@given(st.data())
def test_every_copy_moves_the_bytes_that_it_should(data):
    """Between the host and the device and within it, at any offset."""
    size = data.draw(st.integers(1, 300))
    source = np.arange(size, dtype=np.uint8)
    begin = data.draw(st.integers(0, size - 1))
    count = data.draw(st.integers(1, size - begin))
    to = data.draw(st.integers(0, size - count))
    expected = np.full(size, 255, np.uint8)
    expected[to : to + count] = source[begin : begin + count]
    tensor, other = on_device(source), on_device(np.full(size, 255, np.uint8))
    part = tensor._create_view((count,), "uint8", begin)
    place = other._create_view((count,), "uint8", to)
    assert (part.numpy() == source[begin : begin + count]).all()
    part.copyto(place)
    assert (other.numpy() == expected).all()
    place.copyfrom(np.zeros(count, np.uint8))
    expected[to : to + count] = 0
    assert (other.numpy() == expected).all()


@on_opencl
def test_a_kernel_gets_numbers_of_every_width():
    """Integers by their lowest bytes, floating point rounded."""
    widths = {"char": "int8", "short": "int16", "int": "int32", "long": "int64"}
    types = {**widths, **{f"u{name}": f"u{kind}" for name, kind in widths.items()}}
    code = "__kernel void k(__global double* out"
    code += "".join(f", {name} v{i}" for i, name in enumerate((*types, "float", "double"))) + ") {"
    code += "".join(f"out[{i}] = v{i};" for i in range(10)) + "}"
    function = kernel([POINTER, *types.values(), "float32", "float64"], code)
    out = on_device(np.zeros(10))
    numbers = [-128, -32768, -(2**31), -(2**53), 255, 65535, 2**32 - 1, 2**53, 0.1, 0.1]
    function(pointer(out), *numbers, 1, 1)
    assert out.numpy().tolist() == [*numbers[:8], float(np.float32(0.1)), 0.1]


@on_opencl
def test_a_float16_is_rounded_to_the_nearest():
    """Ties to even, with denormals and infinities; the bits are read as an integer."""
    code = "__kernel void k(__global ushort* out, ushort bits) { out[0] = bits; }"
    function, out = kernel([POINTER, "float16"], code), on_device(np.zeros(1, np.uint16))
    rng = np.random.default_rng(0)
    values = [0.0, -0.0, 65504, 65519.99, 65520, 1e300, np.inf, -np.inf, 2**-24, 2**-25, 3 * 2**-25]
    values += [1 + 2**-11, 1 + 3 * 2**-11, 2**-14, 2**-14 - 2**-25, 6e-8, 5e-324]
    values += list(rng.standard_normal(50) * 10.0 ** rng.integers(-9, 6, 50))
    for value in values:
        function(pointer(out), float(value), 1, 1)
        with np.errstate(over="ignore"):
            assert out.numpy()[0] == np.float64(value).astype(np.float16).view(np.uint16), value
    function(pointer(out), float("nan"), 1, 1)
    assert np.isnan(out.numpy().view(np.float16)[0])


COPY = "__kernel void k(__global int* a, __global int* b) {%s b[get_global_id(0)] = a[0]; }"


@on_opencl
def test_a_kernel_takes_the_beginning_of_a_buffer_that_is_alive():
    """Others are refused, since OpenCL could not be told where the kernel reads."""
    function = kernel([POINTER, POINTER], COPY % "")
    a, b = on_device(np.full(8, 7, np.int32)), on_device(np.zeros(8, np.int32))
    function(pointer(a), pointer(b), 2, 4)
    assert (b.numpy() == 7).all()
    with pytest.raises(ValueError, match="argument 0 of kernel k points to byte 4 of a buffer"):
        function(pointer(a, 4), pointer(b), 2, 4)
    freed = pointer(a)
    del a
    with pytest.raises(RuntimeError, match=r"argument of k: .* is in no buffer of a device"):
        function(freed, pointer(b), 2, 4)
    with pytest.raises(RuntimeError, match="is in no buffer"):
        function(pointer(b), pointer(tvm.runtime.empty((8,), "int32")), 2, 4)


@on_opencl
def test_a_launch_that_is_refused_says_what_was_launched():
    """With the limit of the device; no work items are no error."""
    function = kernel([POINTER, POINTER], COPY % "")
    a, b = on_device(np.full(8, 7, np.int32)), on_device(np.zeros(8, np.int32))
    function(pointer(a), pointer(b), 0, 4)
    assert (b.numpy() == 0).all()
    message = r"k cannot be launched with 1 x 1 x 1 groups of 100000 x 1 x 1 work items on .*, "
    with pytest.raises(
        RuntimeError, match=message + r"which allows groups of \d+: CL_INVALID_WORK"
    ):
        function(pointer(a), pointer(b), 1, 100000)
    with pytest.raises(ValueError, match=r"launched with blockIdx\.x = -1"):
        function(pointer(a), pointer(b), -1, 1)
    with pytest.raises(ValueError, match="takes 2 arguments and 2 extents, got 3"):
        function(pointer(a), pointer(b), 1)
    with pytest.raises(ValueError, match=r"launched with tirx\.use_dyn_shared_memory, which Open"):
        kernel([POINTER], "__kernel void k(__global int* a) {}", ("tirx.use_dyn_shared_memory",))


@on_opencl
def test_source_that_does_not_compile_is_not_loaded():
    """The error has what the driver's compiler says."""
    with pytest.raises(
        RuntimeError, match=r"(?s)cannot compile the kernel: CL_BUILD.*no_such_name"
    ):
        kernel([POINTER, POINTER], COPY % "no_such_name();")


@on_opencl
def test_a_saved_module_is_the_same_when_it_is_loaded_and_saved(tmp_path):
    """And one that is cut off anywhere is refused."""
    kernel([POINTER, POINTER], COPY % "")  # Loads the runtime.
    load = tvm.get_global_func("ffi.Module.load_from_bytes.opencl")
    content = saved("k", [POINTER, "int32"], COPY % "", ("blockIdx.x",))
    module = load(content)
    assert module.inspect_source() == COPY % ""
    library = tvm.tirx.build(tvm.IRModule(), target="llvm")
    library.import_module(module)
    library.export_library(str(tmp_path / "k.so"))
    assert content in (tmp_path / "k.so").read_bytes()
    for end in range(len(content)):
        with pytest.raises(ValueError, match="ends early"):
            load(content[:end])
    with pytest.raises(ValueError, match="too long"):
        load(content + b"\0")


@on_opencl
def test_threads_may_launch_one_kernel():
    """Each with its own arguments, which OpenCL keeps in the kernel."""
    code = "__kernel void k(__global int* a, int n) { a[get_global_id(0)] = n; }"
    function = kernel([POINTER, "int32"], code)

    def run(number):
        out = on_device(np.zeros(64, np.int32))
        for _ in range(20):
            function(pointer(out), number, 4, 16)
        return (out.numpy() == number).all()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(8)))


@on_opencl
def test_a_stream_of_its_own_can_be_waited_for():
    """By the device's own stream, and by the host."""
    device = tvm.runtime.device("opencl", 0)
    function = kernel([POINTER, POINTER], COPY % "")
    a, b = on_device(np.full(8, 7, np.int32)), on_device(np.zeros(8, np.int32))
    stream = device.create_raw_stream()
    device.set_raw_stream(stream)
    try:
        function(pointer(a), pointer(b), 2, 4)
        device.sync(stream)
        assert (b.numpy() == 7).all()
    finally:
        device.set_raw_stream(0)
        device.free_raw_stream(stream)


@on_pocl
def test_devices_do_not_share_buffers():
    """What one gets of another goes through the host, and a kernel gets those of one device."""
    script = """
import numpy as np, tvm
from opencl_kernels import POINTER, kernel, on_device, pointer
first = on_device(np.arange(5.0))
second = tvm.runtime.empty((5,), "float64", tvm.runtime.device("opencl", 1))
first.copyto(second)
assert (second.numpy() == np.arange(5.0)).all()
function = kernel([POINTER, POINTER], "__kernel void k(__global double* a, __global double* b) "
                  "{ b[get_global_id(0)] = 2 * a[get_global_id(0)]; }")
function(pointer(second), pointer(second), 5, 1)
assert (second.numpy() == 2 * np.arange(5.0)).all()
try:
    function(pointer(first), pointer(second), 5, 1)
except ValueError as error:
    print(error)
tvm.runtime.empty((5,), "float64", tvm.runtime.device("opencl", 2))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "POCL_DEVICES": "basic basic"},
        capture_output=True,
        text=True,
    )
    assert "kernel k gets buffers of devices 0 and 1" in done.stdout, done.stderr
    assert "there is no device 2; this machine has 2" in done.stderr


@on_opencl
def test_a_process_with_tensors_on_the_device_ends_well():
    """TVM frees memory when the driver may be gone already."""
    script = (
        "import numpy as np, tvm\n"
        "from relax_tapml.targets.opencl.runtime import load_opencl\n"
        "load_opencl()\n"
        "device = tvm.runtime.device('opencl', 0)\n"
        "kept = [tvm.runtime.tensor(np.zeros(9), device) for _ in range(3)]\n"
        "pooled = tvm.runtime.empty((9,), 'float32', device)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- Races ----------------------------------------------------------------------------------------

# Each work item gets the value of another one of its group, of 64.
EXCHANGE = """
__kernel void k(__global int* a, __global int* b) {
  __local int shared[64];
  int i = get_local_id(0), base = get_group_id(0) * 64;
  shared[i] = a[base + i];
  %s
  b[base + i] = shared[%s];
}
"""
_RACES = """
import json, sys
import numpy as np
from opencl_kernels import POINTER, kernel, on_device, pointer
a = np.random.default_rng(0).integers(0, 1 << 30, 256).astype(np.int32)
wrong = []
for code, reads in json.load(sys.stdin):
    function, out = kernel([POINTER, POINTER], code), on_device(np.zeros(256, np.int32))
    tensor = on_device(a)
    function(pointer(tensor), pointer(out), 4, 64)
    wrong.append(int((out.numpy() != a.reshape(4, 64)[:, reads].reshape(-1)).sum()))
print(json.dumps(wrong))
"""


def run_in_order(order, script, request=None):
    """Run a script in a process with an order of work items; return the JSON it prints last."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(request),
        env={**os.environ, **one_by_one(order)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@on_pocl
def test_a_missing_barrier_shows_in_one_of_two_orders():
    """Whoever is read runs later in one of them; with the barrier both are right."""
    barrier = "barrier(CLK_LOCAL_MEM_FENCE);"
    first, last = [0] * 64, [63] * 64
    pairs = [i ^ 1 for i in range(64)]
    reads = [("0", first), ("63", last), ("i ^ 1", pairs)]
    cases = [(EXCHANGE % (line, text), which) for line in ("", barrier) for text, which in reads]
    # The later half of each pair reads what is there; all but one read too early of the last.
    assert run_in_order("in-order", _RACES, cases) == [0, 4 * 63, 4 * 32, 0, 0, 0]
    assert run_in_order("reversed", _RACES, cases) == [4 * 63, 0, 4 * 32, 0, 0, 0]


@on_pocl
def test_what_an_earlier_launch_left_in_shared_memory_is_gone():
    """Where races are looked for: a kernel may have forgotten to write it, or be about to."""
    code = EXCHANGE.replace("shared[i] = a[base + i];", "") % ("", "i")
    script = (
        "import numpy as np\n"
        "from opencl_kernels import POINTER, kernel, on_device, pointer\n"
        f"function, out = kernel([POINTER] * 2, {code!r}), on_device(np.zeros(256, np.int32))\n"
        "function(pointer(out), pointer(out), 4, 64)\n"
        "print(np.unique(out.numpy()).tolist())\n"
    )
    assert run_in_order("in-order", script) == [-1]


@on_pocl
@pytest.mark.parametrize("order", ["in-order", "reversed"])
def test_tvms_merge_of_attention_needs_a_barrier(order):
    """Others that use the platform's runtime must know; see docs/platforms/opencl.md."""
    script = (
        "from opencl_kernels import merge_error, merge_of_attention\n"
        "print([merge_error(merge_of_attention(has_barrier=it)) for it in (False, True)])\n"
    )
    as_it_is, with_barrier = run_in_order(order, script)
    assert as_it_is > 0.1
    assert with_barrier < 1e-6


@on_pocl
def test_a_kernel_that_is_right_by_luck_is_named_in_the_other_order(finished):
    """Its threads do not wait for one another; other units pass in both orders."""
    raced = breaks("sum", lambda _: sum_by_the_last)
    found = {
        session: replay(
            finished,
            target="opencl",
            session=session,
            device_pipeline=raced,
            units=["sum", "softmax", "layer_norm"],
        ).units
        for session in ("in-order", "reversed")
    }
    assert found["in-order"] == {"sum": "pass", "softmax": "pass", "layer_norm": "pass"}
    assert found["reversed"] == {"sum": "mismatch", "softmax": "pass", "layer_norm": "pass"}


# --- Whole models ---------------------------------------------------------------------------------


@on_opencl
def test_opencl_gets_every_unit(tmp_path):
    """Replay and migration in a device process, with dlight's schedules."""
    result = bring_up(model(), target="opencl", out=tmp_path / "out")
    assert result.verdict == "pass", result.document["units"]
    assert {unit["verdict"] for unit in result.document["units"]} == {"pass"}


@on_opencl
def test_opencl_may_be_the_source(tmp_path):
    """The runtime is then loaded into this process, where the target may use it, too."""
    result = bring_up(
        model(), source="opencl", target="opencl", session="inline", out=tmp_path / "out"
    )
    assert result.verdict == "pass", result.document["units"]


def wide(kernel):
    """Bind 1024 threads to a block."""
    schedule = Schedule(tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")}))
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        outer, inner = schedule.split(schedule.fuse(*schedule.get_loops(block)), [None, 1024])
        schedule.bind(outer, "blockIdx.x")
        schedule.bind(inner, "threadIdx.x")
    scheduled = schedule.mod["main"].without_attr("global_symbol")
    return scheduled.with_attr("tirx.is_scheduled", True)


def invalid(kernel):
    """Call a function that OpenCL C does not have."""
    return _map_stores(
        kernel,
        lambda s: _store(s, tirx.call_pure_extern("float32", "no_such_function", s.value)),
    )


def endless(kernel):
    """Store for ever."""

    def repeat(store):
        stored = store.buffer[tuple(store.indices)]
        return tirx.SeqStmt([store, tirx.While(stored * 0 == 0, store)])

    return _map_stores(kernel, repeat)


@T.prim_func(private=True, s_tir=True)
def first_of_rows(n: T.Buffer((4, 8), "float32"), total: T.Buffer((4,), "float32")):
    """In place of ``sum``, with a buffer of 1 PiB between two launches."""
    T.func_attr({"tirx.is_scheduled": True})
    scratch = T.alloc_buffer((T.int64(1 << 48),), "float32")
    for i in T.thread_binding(4, thread="threadIdx.x"):
        with T.sblock("scratch"):
            row = T.axis.spatial(4, i)
            scratch[T.Cast("int64", row) * T.int64(1 << 46)] = n[row, 0]
    for i in T.thread_binding(4, thread="threadIdx.x"):
        with T.sblock("total"):
            row = T.axis.spatial(4, i)
            total[row] = scratch[T.Cast("int64", row) * T.int64(1 << 46)]


@on_opencl
def test_a_kernel_that_needs_more_memory_than_there_is_is_named(finished):
    """With OpenCL's status, and the session continues."""
    report = replay(
        finished,
        target="opencl",
        device_pipeline=breaks("sum", lambda _: first_of_rows),
        units=["sum", "softmax"],
    )
    assert report.units == {"sum": "crash", "softmax": "pass"}
    assert re.search(r"allocating \d+ bytes on .* failed: CL_", report.details["sum"].reason)


@on_opencl
@pytest.mark.parametrize(
    ("fault", "verdict", "reason"),
    [
        (scale, "mismatch", "differs by up to"),
        (invalid, "build_error", r"(?s)the device cannot load it: .*CL_BUILD.*no_such_function"),
        (wide, "build_error", "binds 1024 threads to a block .* opencl allows 256"),
        (endless, "timeout", "did not end in 3 s"),
    ],
)
def test_a_faulty_kernel_is_named_and_the_others_run(fault, verdict, reason, finished):
    """The driver's message is the reason."""
    report = replay(
        finished,
        target="opencl",
        device_pipeline=breaks(UNIT, fault),
        units=[UNIT, "softmax", "matmul"],
        timeout_s=3,
    )
    assert report.units == {UNIT: verdict, "softmax": "pass", "matmul": "pass"}
    assert re.search(reason, report.details[UNIT].reason)


def half_precision() -> Model:
    """A product of float16, and one of float32 beside it."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4, 8), "float16"))
    y = relax.Var("y", relax.TensorType((4, 8), "float32"))
    with builder.function("main", [x, y]):
        with builder.dataflow():
            results = relax.op.exp(x), relax.op.sin(y)
            out = builder.emit_output(tuple(builder.emit(result) for result in results))
        builder.emit_func_output(out)
    rng = np.random.default_rng(0)
    arrays = tuple(rng.standard_normal((4, 8)).astype(t) for t in ("float16", "float32"))
    samples = (Sample(name="one", arrays=arrays),)
    return Model(name="half", module=builder.get(), params={}, samples=samples)


@on_pocl
def test_units_with_float16_do_not_build_for_pocl(tmp_path):
    """With the reason; what comes beside them runs."""
    result = bring_up(half_precision(), target="opencl", out=tmp_path / "half")
    found = {unit["name"]: unit for unit in result.document["units"]}
    assert {name: unit["verdict"] for name, unit in found.items()} == {
        "tir_exp": "build_error",
        "tir_sin": "pass",
    }
    assert (
        "needs float16, which the OpenCL device of this machine lacks" in found["tir_exp"]["reason"]
    )


@on_opencl
def test_tensors_come_back_as_they_went():
    """Of any size, those of no bytes included."""
    with closing(open_session("process", parse_target("opencl", "process"))) as session:
        rng = np.random.default_rng(0)
        for dtype in ("float32", "float16", "int64", "uint8", "bool"):
            for shape in ((), (1,), (0, 3), (5, 7), (1000, 33)):
                array = rng.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
                check_round_trip(session, array)


@on_pocl
def test_a_maximum_that_begins_with_seven_digits_is_repaired(tmp_path, monkeypatch):
    """TVM writes the smallest number as one above it; what WebGPU lacks besides, OpenCL has."""
    defaults = {**search.repair_unit.__kwdefaults__, "alternatives": [ExactConstants()]}
    monkeypatch.setattr(search.repair_unit, "__kwdefaults__", defaults)
    result = bring_up(lacked_types(), target="opencl", session="inline", out=tmp_path / "run")
    wrong = {unit["name"] for unit in result.document["units"] if unit["verdict"] != "pass"}
    assert wrong == {"softmax"}
    repairs = {unit.name: unit.repair.chosen for unit in result.units if unit.repair is not None}
    assert repairs == {"softmax": "exact-constants"}
    assert result.repair.verdict == "pass"
    assert result.repair.repaired_on_device == len(result.units)
