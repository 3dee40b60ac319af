"""What capturing every call costs on a GPU, beside the plain run and one copy of the same bytes.

``python bench_capture.py --target cuda`` calls it. In one process: the model plain; captured until
the run has returned, and until everything is in host memory; the same with each tensor copied by
itself, the run waiting; captured into a store, and until all is on disk; and one copy of as
many bytes to page-locked memory, the speed of the bus. Every run has other inputs. Before that, the
bytes of one run are compared with those of a run that waits for each copy.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm_ffi
from llm_models import decoder, model_of
from rich.console import Console
from rich.table import Table

from relax_tapml.bringup import SideSpec, build_source, lower_model
from relax_tapml.capture.host_tensor import HostTensor
from relax_tapml.capture.recorder import Recorder
from relax_tapml.capture.store import CaptureStore
from relax_tapml.frontend.model import Model
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.hybrid import Host
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.passes import native
from relax_tapml.passes.insert_capture import InsertCapture

MOST_TIME = 1.5
WARM_UP = 2
NO_DRIVER = "no driver"

PLAIN = "plain"
GIVEN = "plain, the host's part"
CAPTURE_GIVEN = "captured, the host's part"
RETURNED = "captured, the run has returned"
IN_MEMORY = "captured, all in host memory"
ONE_BY_ONE = "captured, tensors copied one by one"
STORED = "captured into a store, the run has returned"
ON_DISK = "captured into a store, all on disk"
COPIED = "one copy of as many bytes"


@dataclass(frozen=True, kw_only=True)
class Programs:
    """A model built for a target, plain and with every site captured."""

    model: Model
    host: Host
    plain: Any
    captured: Any

    def run(self, function: Any, index: int) -> tuple[float, float]:
        """Run a function on a sample; return the host's seconds, and those until the end."""
        inputs = list(map(self.host.upload, self.model.samples[index].arrays))
        weights = list(map(self.host.weight, self.model.params))
        self.host.device.sync()
        began = time.perf_counter()
        function(*inputs, *weights)
        given = time.perf_counter() - began
        self.host.device.sync()
        return given, time.perf_counter() - began


def build(name: str, target: str, samples: int, folder: Path) -> Programs:
    """Build a model of ``llm_models`` with that many samples, kernels in ``folder``."""
    model = model_of(decoder(f"{name}_samples{samples}"))
    side = SideSpec.of(target)
    source = build_source(model, lower_model(model), side, folder).source
    native.load()

    def machine(module: Any) -> Any:
        functions = compile_functions(module, side.target, KernelLibrary(folder))
        return source.host.virtual_machine(functions)[model.entry]

    plain, captured = machine(source.units), machine(InsertCapture()(source.units))
    return Programs(model=model, host=source.host, plain=plain, captured=captured)


class Consumer(threading.Thread):
    """Takes what is captured out of the queue, and drops it; ``digests`` are those of tensors."""

    def __init__(self, *, is_hashing: bool) -> None:
        super().__init__(daemon=True)
        self.has_mark = threading.Event()
        self.is_over = False
        self.digests: list[str] = []
        self._is_hashing = is_hashing

    def run(self) -> None:
        """Drain until the recording is over."""
        drain = tvm_ffi.get_global_func("relax_tapml.capture.drain")
        while not self.is_over:
            events = drain(256, 100)
            if self._is_hashing:
                tensors = [HostTensor.view_of(event[2]) for event in events if event[0] == "tensor"]
                self.digests += [tensor.digest for tensor in tensors]
                del tensors
            if any(event[0] == "mark" for event in events):
                self.has_mark.set()


@contextmanager
def recording(
    budget_bytes: int, *, is_waiting: bool, is_hashing: bool = False
) -> Iterator[Consumer]:
    """Record into host memory; with ``is_waiting`` the run waits for the copy of each tensor."""
    if is_waiting:
        start = tvm_ffi.get_global_func("relax_tapml.capture.start_with_driver")
        start(budget_bytes, NO_DRIVER)
    else:
        tvm_ffi.get_global_func("relax_tapml.capture.start")(budget_bytes)
    consumer = Consumer(is_hashing=is_hashing)
    consumer.start()
    try:
        yield consumer
    finally:
        consumer.is_over = True
        consumer.join()
        tvm_ffi.get_global_func("relax_tapml.capture.stop")()


def count_differences(programs: Programs, budget_bytes: int) -> tuple[int, int]:
    """Return how many tensors of a run there are, and how many differ if they are waited for."""
    digests = []
    for is_waiting in (False, True):
        with recording(budget_bytes, is_waiting=is_waiting, is_hashing=True) as consumer:
            programs.run(programs.captured, 0)
            tvm_ffi.get_global_func("relax_tapml.capture.mark")("end")
            consumer.has_mark.wait()
        digests.append(consumer.digests)
    staged, waited = digests
    return len(waited), sum(a != b for a, b in zip(staged, waited, strict=True))


def stats() -> dict[str, int]:
    """Return the counts of the queue."""
    return dict(tvm_ffi.get_global_func("relax_tapml.capture.stats")())


def copy_seconds(nbytes: int, rounds: int) -> list[float]:
    """Return how long a copy to page-locked memory takes; nothing without PyTorch for CUDA."""
    import torch

    if not torch.cuda.is_available():
        return []
    source = torch.empty(nbytes, dtype=torch.uint8, device="cuda")
    target = torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)
    seconds = []
    for _ in range(rounds + WARM_UP):
        torch.cuda.synchronize()
        began = time.perf_counter()
        target.copy_(source, non_blocking=True)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return seconds[WARM_UP:]


def measure(
    programs: Programs, rounds: int, budget_bytes: int, folder: Path, say: Callable[[str], None]
) -> dict[str, list[float]]:
    """Return the seconds of each variant; the counts of the queue are said."""
    seconds: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        seconds.setdefault(name, []).append(value)

    for index in range(rounds + WARM_UP):
        given, ended = programs.run(programs.plain, index)
        add(GIVEN, given)
        add(PLAIN, ended)
    for is_waiting in (False, True):
        with recording(budget_bytes, is_waiting=is_waiting) as consumer:
            for index in range(rounds + WARM_UP):
                before = stats()
                consumer.has_mark.clear()
                began = time.perf_counter()
                given, returned = programs.run(programs.captured, index)
                tvm_ffi.get_global_func("relax_tapml.capture.mark")("end")
                consumer.has_mark.wait()
                ended = time.perf_counter() - began
                if is_waiting:
                    add(ONE_BY_ONE, ended)
                else:
                    add(CAPTURE_GIVEN, given)
                    add(RETURNED, returned)
                    add(IN_MEMORY, ended)
            after = stats()
            if not is_waiting:
                run = {name: after[name] - before[name] for name in after}
                nbytes = run["captured_bytes"]
                say(
                    f"a run: {run['tensors']} tensors, {nbytes / 1e6:.1f} MB, of which "
                    f"{run['staged_bytes'] / 1e6:.1f} MB in {run['batches']} batches; staging "
                    f"memory {after['ring_bytes'] >> 20} MiB; at most "
                    f"{after['peak_in_flight_bytes'] >> 20} MiB of host memory in flight, "
                    f"{after['allocated_bytes'] >> 20} MiB of it pageable"
                )
                note = tvm_ffi.get_global_func("relax_tapml.capture.note")()
                say(f"tensors that were waited for: {note or 'none'}")
    for value in copy_seconds(nbytes, rounds):
        add(COPIED, value)
    store = CaptureStore.create(folder / "store", {})
    with store, Recorder(store, budget_bytes=budget_bytes) as recorder:
        for index in range(rounds + WARM_UP):
            began = time.perf_counter()
            with recorder.sample(str(index)):
                programs.run(programs.captured, index)
                add(STORED, time.perf_counter() - began)
            add(ON_DISK, time.perf_counter() - began)
        found = store.stats()
        say(
            f"store: {found.calls} calls, {found.seen_bytes / 1e6:.0f} MB seen, "
            f"{found.disk_bytes / 1e6:.0f} MB on disk"
        )
    return {
        name: values if name == COPIED else values[WARM_UP:] for name, values in seconds.items()
    }


def table(seconds: dict[str, list[float]]) -> Table:
    """Lay the timings out."""
    medians = {name: statistics.median(values) for name, values in seconds.items() if values}
    made = Table("variant", "median ms", "x plain", "x copy")
    for name, median in medians.items():
        copied = f"{median / medians[COPIED]:.2f}" if COPIED in medians else "-"
        made.add_row(name, f"{median * 1e3:.2f}", f"{median / medians[PLAIN]:.2f}", copied)
    return made


def bench(args: argparse.Namespace) -> int:
    """Measure and print; return 1 if capture takes longer than it may."""
    console = Console(width=110, highlight=False)
    with tempfile.TemporaryDirectory(prefix="tapml-bench-") as scratch:
        folder = Path(scratch)
        samples = args.rounds + WARM_UP
        programs = build(args.model, args.target, samples, folder / "kernels")
        count, differing = count_differences(programs, args.budget_mb << 20)
        console.print(f"{differing} of {count} tensors differ from those that are waited for")
        seconds = measure(programs, args.rounds, args.budget_mb << 20, folder, console.print)
    console.print(table(seconds))
    if differing:
        return 1
    if not seconds.get(COPIED):
        console.print("no copy was measured: PyTorch has no CUDA here")
        return 0
    # The run itself takes its time, too, while the bus is busy.
    least = max(statistics.median(seconds[name]) for name in (PLAIN, COPIED))
    ratio = statistics.median(seconds[IN_MEMORY]) / least
    console.print(
        f"captured, all in host memory: {ratio:.2f} x the longer of plain run and copy (at most "
        f"{MOST_TIME})"
    )
    return 0 if ratio <= MOST_TIME else 1
