"""What capturing every call of every site costs on MiniLM, beside what others do.

In one process, round after round: the model plain (TVM's default build); captured into a store;
with every call's arguments written by ``np.savez`` from the VM's instrument hook, which is what
debuggers of this stack do; and under TVM's own ``LibCompareVMInstrument``. Beside them, what a run
captures is kept by hand: as many tensors hashed, written and committed, which is the least that
keeps each once and durably. Each round runs another sentence, so every activation is new, and
begins with another variant. Then the size of the store, and in child processes the peak memory of a
short and a long capture.

With ``--target`` a Llama on that target instead, beside one copy of the same bytes to page-locked
memory: ``capture_gpu``.

Exits with 1 if capture until all is on disk takes more than 3 x the plain run and the keeping by
hand, one after the other (medians), if memory grows by more than the queue's budget and 200 MB, if
the store is larger than 1.05 x its distinct bytes, or if a later sentence stored parameters again.
With ``--target`` if capture into host memory costs more than 1.5 x the longer of the plain run and
the copy, or captured bytes are not right.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import capture_gpu
import numpy as np
import tvm
from built_model import LLVM, BuiltModel
from minilm_build import build_minilm
from rich.console import Console
from rich.table import Table
from tvm import relax
from tvm.relax.testing.lib_comparator import LibCompareVMInstrument

from relax_tapml.capture.recorder import Recorder
from relax_tapml.capture.store import CaptureStore, StoreStats
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.passes import native
from relax_tapml.passes.insert_capture import InsertCapture

MOST_TIME = 3.0
MOST_MEMORY_MB = 200
MOST_SIZE = 1.05

PLAIN = "plain"
CAPTURED = "captured"
ON_DISK = "captured, and all on disk"
DUMPED = "np.savez of every call"
COMPARED = "LibCompareVMInstrument"
BY_HAND = "as many tensors kept by hand"


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Seconds by variant, round by round; and the store after the first and the last sentence."""

    seconds: dict[str, list[float]]
    first: StoreStats
    last: StoreStats


def captured_function(minilm: BuiltModel) -> Any:
    """Return the entry function with every site captured."""
    native.load()
    return minilm.functions(InsertCapture())[minilm.model.entry]


def dumping_function(minilm: BuiltModel, folder: Path) -> Any:
    """Return the entry function with ``np.savez`` of each call's arguments after the call."""
    functions = compile_functions(minilm.units, LLVM, minilm.library)
    machine = minilm.host.virtual_machine(functions)
    folder.mkdir()
    count = 0

    def instrument(_func: Any, name: str, before_run: bool, _ret: Any, *args: Any) -> None:
        nonlocal count
        if before_run or name.startswith("vm.builtin."):
            return
        count += 1
        tensors = [a.numpy() for a in args if isinstance(a, tvm.runtime.Tensor)]
        # A thousand files are more than a run writes; later runs replace them.
        np.savez(folder / f"{count % 1000:03d}_{name}.npz", *tensors)

    machine.set_instrument(instrument)
    return machine[minilm.model.entry]


def comparing_function(executable: Any, entry: str) -> Any:
    """Return the entry function with each kernel compared with itself, run a second time."""
    machine = relax.VirtualMachine(executable, tvm.cpu())
    machine.set_instrument(LibCompareVMInstrument(executable.jit(), tvm.cpu(), verbose=False))
    return machine[entry]


@dataclass(frozen=True, kw_only=True)
class ByHand:
    """What a run captures, of made-up bytes: what any store must do with as much.

    Each tensor is hashed, since equal ones are to be kept once; all are written to one file; and a
    row for each call is committed once that is on the disk.
    """

    tensors: list[bytes]
    calls: int

    def write(self, path: Path, database: sqlite3.Connection) -> None:
        """Keep everything; return when it is on the disk."""
        digests = [hashlib.sha256(tensor).hexdigest() for tensor in self.tensors]
        with path.open("wb") as file:
            for tensor in self.tensors:
                file.write(tensor)
            file.flush()
            os.fsync(file.fileno())
        rows = [(digests[call % len(digests)],) for call in range(self.calls)]
        with database:
            database.executemany("insert into call values (?)", rows)


def by_hand(size_bytes: int, tensors: int, calls: int, samples: int) -> ByHand:
    """Return as much as a store has of one of its samples."""
    runs = max(samples, 1)
    count = max(tensors // runs, 1)
    each = max(size_bytes // runs // count, 1)
    rng = np.random.default_rng(0)
    return ByHand(tensors=[rng.bytes(each) for _ in range(count)], calls=max(calls // runs, 1))


def time_variants(rounds: int, tokens: int, budget_mb: int, folder: Path) -> Timings:
    """Run the variants round-robin, after one round that touches memory and loads weights."""
    minilm = build_minilm(folder / "kernels", texts=2 * rounds + 2, tokens=tokens)
    executable = tvm.compile(minilm.lowered, target=LLVM)
    entry = minilm.model.entry
    captured, plain = captured_function(minilm), minilm.functions()[entry]
    others = {
        PLAIN: (minilm.inputs, plain),
        DUMPED: (minilm.arguments, dumping_function(minilm, folder / "dump")),
        COMPARED: (minilm.arguments, comparing_function(executable, entry)),
    }
    seconds: dict[str, list[float]] = {
        name: [] for name in (PLAIN, CAPTURED, ON_DISK, BY_HAND, DUMPED, COMPARED)
    }
    database = sqlite3.connect(folder / "by_hand.sqlite")
    database.execute("pragma journal_mode=wal")
    database.execute("create table call (digest text)")
    store = CaptureStore.create(folder / "store", {})
    with store, Recorder(store, budget_bytes=budget_mb << 20) as recorder:

        def record(index: int) -> None:
            inputs = minilm.inputs(index)
            began = time.perf_counter()
            with recorder.sample(str(index)):
                outputs = captured(*inputs)
                seconds[CAPTURED].append(time.perf_counter() - began)
                recorder.outputs(outputs)
            seconds[ON_DISK].append(time.perf_counter() - began)

        def run(name: str, index: int) -> None:
            arguments_of, function = others[name]
            arguments = arguments_of(index)
            began = time.perf_counter()
            function(*arguments)
            seconds[name].append(time.perf_counter() - began)

        def keep(index: int) -> None:
            stats = store.stats()
            kept = by_hand(stats.activation_bytes, stats.tensors, stats.calls, stats.samples)
            began = time.perf_counter()
            kept.write(folder / f"{index}.bytes", database)
            seconds[BY_HAND].append(time.perf_counter() - began)

        variants: list[Callable[[int], None]] = [
            record,
            keep,
            *(lambda index, name=name: run(name, index) for name in others),
        ]
        for index in range(rounds + 1):
            first = index % len(variants)
            for variant in (*variants[first:], *variants[:first]):
                os.sync()  # Nobody pays for what the variant before left to be written.
                # Twice, of which the second counts: while the others ran, the machine may have
                # taken back the memory that only this one uses.
                for run_index in (2 * index, 2 * index + 1):
                    variant(run_index)
            if index == 0:
                after_first = store.stats()
        after_last = store.stats()
    return Timings(
        seconds={name: values[3::2] for name, values in seconds.items()},
        first=after_first,
        last=after_last,
    )


def memory_growth_mb(runs: int, tokens: int, budget_mb: int, folder: Path, kernels: Path) -> float:
    """Capture that many runs; return by how much this process's peak memory grew."""
    minilm = build_minilm(kernels, texts=runs, tokens=tokens)
    minilm.functions()[minilm.model.entry](*minilm.inputs(0))
    captured = captured_function(minilm)
    before = _memory_mb("VmRSS:")
    Path("/proc/self/clear_refs").write_text("5")  # Forgets the peak so far.
    store = CaptureStore.create(folder / "store", {})
    with store, Recorder(store, budget_bytes=budget_mb << 20) as recorder:
        for index in range(runs):
            with recorder.sample(str(index)):
                recorder.outputs(captured(*minilm.inputs(index)))
    return _memory_mb("VmHWM:") - before


def memory_growth_of_child_mb(runs: int, args: argparse.Namespace, kernels: Path) -> float:
    """Return ``memory_growth_mb`` in a process of its own, with kernels that are built."""
    options = {
        "memory-of": runs, "tokens": args.tokens, "budget-mb": args.budget_mb, "kernels": kernels
    }  # fmt: skip
    command = [sys.executable, __file__, *(f"--{name}={value}" for name, value in options.items())]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return float(json.loads(output.splitlines()[-1]))


def _memory_mb(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(key)]
    return int(line.split()[1]) / 1024


def time_table(seconds: dict[str, list[float]]) -> Table:
    """Lay the timings out."""
    table = Table("variant", "median s", "x plain", "minimum s", "x plain")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    minima = {name: min(values) for name, values in seconds.items()}
    for name in seconds:
        table.add_row(
            name,
            f"{medians[name]:.3f}",
            f"{medians[name] / medians[PLAIN]:.2f}",
            f"{minima[name]:.3f}",
            f"{minima[name] / minima[PLAIN]:.2f}",
        )
    return table


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--rounds", type=int, default=9, help="rounds after the first (9)")
    add("--tokens", type=int, default=11, help="tokens of each sentence (11)")
    add("--budget-mb", type=int, default=64, help="budget of the queue (64; 256 is the recorder's)")
    add("--runs", type=int, nargs="*", default=[5, 50], help="lengths of captures (5 50)")
    add("--memory-of", type=int, help=argparse.SUPPRESS)
    add("--kernels", type=Path, help=argparse.SUPPRESS)
    add("--target", help="measure a Llama on this target instead of MiniLM on llvm")
    add(
        "--model",
        default="llama_small_float16_layers8_tokens64",
        help="of llm_models, with --target (llama_small_float16_layers8_tokens64)",
    )
    return parser


def main() -> int:
    """Run the benchmark and print its tables."""
    args = parser().parse_args()
    if args.target:
        return capture_gpu.bench(args)
    with tempfile.TemporaryDirectory(prefix="tapml-bench-") as scratch:
        folder = Path(scratch)
        if args.memory_of is not None:
            sizes = (args.tokens, args.budget_mb)
            print(json.dumps(memory_growth_mb(args.memory_of, *sizes, folder, args.kernels)))
            return 0
        timings = time_variants(args.rounds, args.tokens, args.budget_mb, folder)
        kernels = folder / "kernels"
        grown = {runs: memory_growth_of_child_mb(runs, args, kernels) for runs in args.runs}
    console = Console(width=100, highlight=False)
    console.print(time_table(timings.seconds))
    medians = {name: statistics.median(values) for name, values in timings.seconds.items()}
    ratio = medians[ON_DISK] / (medians[PLAIN] + medians[BY_HAND])
    console.print(
        f"time: captured and on disk {ratio:.2f} x plain and kept by hand (at most {MOST_TIME})"
    )
    first, last = timings.first, timings.last
    size = last.disk_bytes / (last.parameter_bytes + last.activation_bytes)
    console.print(
        f"store: {last.calls} calls, {last.seen_bytes} bytes of activations seen\n"
        f"store: {last.parameter_bytes} bytes of parameters, {last.activation_bytes} of distinct "
        f"activations, {last.disk_bytes} on disk: x {size:.3f} (at most {MOST_SIZE})\n"
        f"store: parameters take {first.parameter_bytes} bytes after the first sentence, "
        f"{last.parameter_bytes} after {last.samples}"
    )
    is_good = (
        ratio <= MOST_TIME
        and size <= MOST_SIZE
        and first.parameter_bytes == last.parameter_bytes > 0
    )
    allowed_mb = args.budget_mb + MOST_MEMORY_MB
    for runs, grown_mb in grown.items():
        console.print(
            f"memory: {runs} captured runs raise the peak by {grown_mb:.0f} MB "
            f"(at most the budget of {args.budget_mb} MB and {MOST_MEMORY_MB} MB)"
        )
        is_good = is_good and grown_mb <= allowed_mb
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
