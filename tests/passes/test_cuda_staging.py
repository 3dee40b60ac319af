"""Copies of tensors of a GPU that do not wait for it, with a driver whose streams run late."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tvm_ffi
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relax_tapml.passes import native

KIB, MIB = 1 << 10, 1 << 20

# Which streams run as early as they can; the others as late.
EARLY = [(False, False), (True, False), (False, True), (True, True)]


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    """The fake driver, compiled."""
    source = Path(__file__).with_name("fake_cuda.cc")
    built = tmp_path_factory.mktemp("fake_cuda") / "libfake_cuda.so"

    def config(flag: str) -> list[str]:
        command = [sys.executable, "-m", "tvm_ffi.config", flag]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    command = ["g++", "-shared", "-fPIC", "-O1", str(source), *config("--cxxflags"), "-o"]
    command += [str(built), *config("--ldflags"), *config("--libs")]
    subprocess.run([*command, f"-Wl,-rpath,{config('--libdir')[0]}"], check=True)
    tvm_ffi.load_module(str(built))
    return built


class Fake:
    """The fake driver's functions, and a recording that uses it."""

    def __init__(self, library: Path) -> None:
        native.load()
        self._library = library
        for name in ("begin_frame", "inputs", "outputs", "stop", "drain", "mark", "stats", "note"):
            setattr(self, name, tvm_ffi.get_global_func(f"relax_tapml.capture.{name}"))
        for name in (
            "reset",
            "empty",
            "fill",
            "fail",
            "fail_once",
            "set_free_bytes",
            "count",
            "wrong",
            "deinitialise",
            "host_allocations",
        ):
            setattr(self, name, tvm_ffi.get_global_func(f"fake_cuda.{name}"))

    def start(self, budget: int = 64 * MIB, early: tuple[bool, bool] = (False, False)) -> None:
        self.stop()
        self.reset(*early)
        start = tvm_ffi.get_global_func("relax_tapml.capture.start_with_driver")
        start(budget, str(self._library))

    def tensor(self, nbytes: int, gpu: int = 0) -> tvm_ffi.Tensor:
        return self.empty(tvm_ffi.Shape([nbytes]), "uint8", gpu)

    def drained(self, count: int) -> list[np.ndarray]:
        """Drain until that many tensors have come; copies of them."""
        seen: list[np.ndarray] = []
        for _ in range(10 * count + 10):
            events = self.drain(8, 1)
            seen += [event[2].numpy().copy() for event in events if event[0] == "tensor"]
            if len(seen) == count:
                return seen
        pytest.fail(f"{len(seen)} of {count} tensors came")


@pytest.fixture
def fake(library) -> Iterator[Fake]:
    made = Fake(library)
    made.start()
    yield made
    made.stop()
    assert list(made.wrong()) == []


@pytest.mark.parametrize("early", EARLY)
def test_a_tensor_has_the_bytes_of_its_time(fake, early):
    """Kernels before the capture count, and none after it, however the streams are run."""
    fake.start(early=early)
    frame, x = fake.begin_frame("main"), fake.tensor(1000)
    for value in range(1, 6):
        fake.fill(x, value)
        fake.inputs(frame, f"main/{value:03d}/f", "+0", x)
        fake.fill(x, 0)
    for value, data in enumerate(fake.drained(5), start=1):
        assert data.shape == (1000,)
        assert (data == value).all()


def test_a_gpu_with_little_memory_gets_a_small_ring(fake):
    """Where the driver has less than it says, half of the ring is tried, and so on."""
    fake.fail_once("cuMemAlloc", 2)
    fake.inputs(fake.begin_frame("main"), "main/000/f", "+0", fake.tensor(100))
    assert fake.stats()["ring_bytes"] == 128 * MIB
    assert fake.note() == ""


@pytest.mark.parametrize("early", EARLY)
def test_staging_memory_is_not_used_again_too_early(fake, early):
    """Many times the ring goes through it; a batch waits for what was in its place."""
    fake.start(64 * MIB, early)
    fake.set_free_bytes(64 * MIB)  # A ring of 8 MiB.
    frame = fake.begin_frame("main")
    tensors = [fake.tensor(nbytes) for nbytes in (3 * MIB, 100, 700 * KIB, 2 * MIB + 1)]
    seen = []
    for turn in range(8):
        for place, x in enumerate(tensors):
            fake.fill(x, 4 * turn + place)
            fake.inputs(frame, "main/000/f", "+0", x)
        if turn % 4 == 3:
            seen += fake.drained(16)
    assert fake.stats()["ring_bytes"] == 8 * MIB
    for value, data in enumerate(seen):
        assert (data == value).all()


@example(  # The end of the ring is skipped while what is there, and after it, is on its way.
    sizes=[3 * MIB, 3 * MIB, 1536 * KIB, 2 * MIB, 3 * MIB, 3584 * KIB],
    early=(True, False),
    budget=64 * MIB,
)
@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 100 * KIB) | st.integers(MIB, 3 * MIB), min_size=1, max_size=25),
    early=st.sampled_from(EARLY),
    budget=st.sampled_from([6 * MIB, 64 * MIB]),
)
def test_any_sizes_arrive_in_order(library, sizes, early, budget):
    """Whatever is staged comes out, in the order and with the values of its capture."""
    fake = Fake(library)
    fake.start(budget, early)
    fake.set_free_bytes(64 * MIB)  # A ring of 8 MiB.
    try:
        frame = fake.begin_frame("main")
        seen: list[np.ndarray] = []
        captured = 0
        for value, nbytes in enumerate(sizes):
            x = fake.tensor(nbytes)
            fake.fill(x, value + 1)
            fake.inputs(frame, "main/000/f", "+0", x)
            fake.fill(x, 0)
            captured += 1
            if fake.stats()["in_flight_bytes"] > budget // 2:
                seen += fake.drained(captured - len(seen))
        seen += fake.drained(captured - len(seen))
        assert [data.nbytes for data in seen] == sizes
        assert all((data == value).all() for value, data in enumerate(seen, start=1))
        assert fake.stats()["peak_in_flight_bytes"] <= budget
        assert list(fake.wrong()) == []
    finally:
        fake.stop()


@pytest.mark.parametrize("early", EARLY)
def test_the_ring_may_be_full_of_what_is_not_submitted(fake, early):
    """A tensor whose place is taken by tensors of the open batch submits that first."""
    fake.start(early=early)
    fake.set_free_bytes(64 * MIB)  # A ring of 8 MiB.
    frame, seen = fake.begin_frame("main"), []
    for value, nbytes in enumerate([1 * MIB, 4 * MIB - KIB, 4 * MIB]):
        x = fake.tensor(nbytes)
        fake.fill(x, value)
        fake.inputs(frame, "main/000/f", "+0", x)
        seen += fake.drained(1) if value == 0 else []
    assert fake.stats()["batches"] == 3
    seen += fake.drained(2)
    assert all((data == value).all() for value, data in enumerate(seen))


def test_small_tensors_share_copies(fake):
    """A batch is one copy and one synchronisation."""
    frame, x = fake.begin_frame("main"), fake.tensor(10_000)
    for _ in range(200):
        fake.inputs(frame, "main/000/f", "+0", x)
    fake.mark("end")
    events = []
    while not events or events[-1][0] != "mark":
        events += fake.drain(1000, 100)
    stats = fake.stats()
    assert stats["staged_bytes"] == stats["captured_bytes"] == 200 * 10_000
    assert stats["batches"] == fake.count("cuMemcpyDtoHAsync") == 1
    assert fake.count("cuEventSynchronize") == 1
    assert fake.note() == ""


@pytest.mark.parametrize("early", EARLY)
def test_streams_of_their_own_are_followed(fake, early):
    """Tensors of several streams: each is staged in the order of its own."""
    fake.start(early=early)
    fake.set_free_bytes(64 * MIB)  # A ring of 8 MiB, which is gone through several times.
    frame, gpu = fake.begin_frame("main"), tvm_ffi.device("cuda:0")
    sizes = (3 * MIB, 100 * KIB, 700 * KIB, 2 * MIB)
    seen = []
    for value in range(1, 25):
        x = fake.tensor(sizes[value % 4])
        with tvm_ffi.use_raw_stream(gpu, 1 << (4 + value % 3)):
            fake.fill(x, value)
            fake.inputs(frame, "main/000/f", "+0", x)
            fake.fill(x, 0)
        if value % 12 == 0:
            seen += fake.drained(12)
    for value, data in enumerate(seen, start=1):
        assert (data == value).all()


@pytest.mark.parametrize("early", EARLY)
def test_neighbouring_allocations_are_two_copies(fake, early):
    """A copy lies within one allocation of host memory, also where the next one follows it."""
    fake.start(64 * MIB, early)
    frame = fake.begin_frame("main")
    # A large tensor has an allocation of its own, each behind that of the one before.
    for value in range(4):
        x = fake.tensor(1280 * KIB)
        fake.fill(x, value)
        fake.inputs(frame, "main/000/f", "+0", x)
    for value, data in enumerate(fake.drained(4)):
        assert (data == value).all()
    assert fake.count("cuMemcpyDtoHAsync") == 4


@pytest.mark.parametrize("early", EARLY)
def test_each_gpu_has_a_staging_of_its_own(fake, early):
    """Streams, events and memory are used in the context that they were made in."""
    fake.start(64 * MIB, early)
    frame = fake.begin_frame("main")
    for value in range(12):
        x = fake.tensor(700 * KIB, gpu=value % 2)
        fake.fill(x, value)
        fake.inputs(frame, "main/000/f", "+0", x)
    for value, data in enumerate(fake.drained(12)):
        assert (data == value).all()
    assert fake.stats()["ring_bytes"] == 2 * 256 * MIB


def test_a_driver_that_has_ended_is_no_error(fake):
    """At the end of a process the driver may be gone before what it has allocated."""
    frame, x = fake.begin_frame("main"), fake.tensor(100 * KIB)
    for _ in range(50):
        fake.inputs(frame, "main/000/f", "+0", x)
    held = fake.drain(20, 100)
    fake.deinitialise()
    fake.stop()
    del held, x, frame
    fake.drain(100, 1)  # What had arrived by then.
    with pytest.raises(RuntimeError, match="CUDA_ERROR_DEINITIALIZED"):
        fake.drain(100, 1)


def test_page_locked_memory_is_freed_with_the_last_tensor(fake):
    """Not earlier: what was drained can be read after the recording has ended."""
    frame, x = fake.begin_frame("main"), fake.tensor(100 * KIB)
    before = fake.host_allocations()
    fake.fill(x, 5)
    for _ in range(50):
        fake.inputs(frame, "main/000/f", "+0", x)
    held = [event[2] for event in fake.drain(20, 100) if event[0] == "tensor"]
    fake.start(1 * MIB)
    assert held
    assert all((tensor.numpy() == 5).all() for tensor in held)
    assert fake.host_allocations() > before
    del held, frame  # A frame holds its recording.
    assert fake.host_allocations() == before


def test_a_run_that_waits_for_memory_gets_it(fake):
    """What it holds back itself is submitted before it waits; another thread drains."""
    fake.start(1 * MIB)
    count = 60

    def run():
        frame = fake.begin_frame("main")
        for value in range(count):
            x = fake.tensor(100 * KIB if value % 3 else 5 * KIB)
            fake.fill(x, value)
            fake.inputs(frame, "main/000/f", "+0", x)
        fake.mark("end")

    thread = threading.Thread(target=run)
    thread.start()
    seen, kind = [], ""
    while kind != "mark":
        for event in fake.drain(8, 600_000):  # It never comes to that.
            kind = event[0]
            seen += [event[2].numpy().copy()] if kind == "tensor" else []
    thread.join()
    assert len(seen) == count
    assert all((data == value).all() for value, data in enumerate(seen))


def test_what_was_staged_before_the_stop_can_be_drained(fake):
    """Stopping submits the last batch and frees the memory of the GPU."""
    x = fake.tensor(100)
    fake.fill(x, 7)
    fake.inputs(fake.begin_frame("main"), "main/000/f", "+0", x)
    fake.stop()
    assert fake.count("cuMemFree") == 1
    (data,) = fake.drained(1)
    assert (data == 7).all()


def test_memory_is_page_locked_once(fake):
    """Host buffers are used again, since locking pages takes longer than the copy."""
    frame, x = fake.begin_frame("main"), fake.tensor(3 * MIB)
    for value in range(20):
        fake.fill(x, value)
        fake.inputs(frame, "main/000/f", "+0", x)
        assert (fake.drained(1)[0] == value).all()
    assert fake.count("cuMemHostAlloc") <= 2


def test_a_full_gpu_is_no_error(fake):
    """Without memory to stage in, the run waits for each copy, and the reason is told."""
    fake.fail("cuMemAlloc", 2)
    with pytest.raises(Exception, match="cuda"):  # TVM's own copy, which this machine has not.
        fake.inputs(fake.begin_frame("main"), "main/000/f", "+0", fake.tensor(100))
    assert fake.note() == "GPU 0 has no memory left to stage copies in"
    assert fake.stats()["ring_bytes"] == 0


def test_without_a_driver_the_reason_is_told(fake):
    """The run waits for each copy then, as on devices without such streams."""
    fake.stop()
    tvm_ffi.get_global_func("relax_tapml.capture.start_with_driver")(MIB, "libno_such.so")
    with pytest.raises(Exception, match="cuda"):
        fake.inputs(fake.begin_frame("main"), "main/000/f", "+0", fake.tensor(100))
    assert fake.note().startswith("no CUDA driver: libno_such.so")


def test_an_error_of_the_gpu_names_the_site(fake):
    """At once where the driver tells it to the run, and when it is drained otherwise."""
    frame, x = fake.begin_frame("main"), fake.tensor(100)
    fake.inputs(frame, "main/007/f", "+0", x)
    fake.fail("cuMemcpyDtoDAsync", 700)
    with pytest.raises(
        RuntimeError,
        match=r"value of main/008/g: cuMemcpyDtoDAsync failed with CUDA_ERROR_ILLEGAL_ADDRESS",
    ):
        fake.inputs(frame, "main/008/g", "+1", x)
    fake.fail("cuEventSynchronize", 700)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"values of main/007/f: cuEventSynchronize failed"):
            fake.drain(9, 1)


def test_a_batch_that_cannot_be_submitted_is_reported(fake):
    """The consumer does not wait for ever for what was never copied."""
    fake.inputs(fake.begin_frame("main"), "main/007/f", "+0", fake.tensor(100))
    fake.fail("cuMemcpyDtoHAsync", 700)
    with pytest.raises(RuntimeError, match=r"main/007/f: cuMemcpyDtoHAsync failed"):
        fake.mark("end")
    with pytest.raises(RuntimeError, match=r"main/007/f: cuMemcpyDtoHAsync failed"):
        fake.drain(9, 1)
