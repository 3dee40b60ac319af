"""What capturing every call of every site costs on MiniLM, beside what others do.

In one process, round after round: the model plain (TVM's default build); captured into a store;
with every call's arguments written by ``np.savez`` from the VM's instrument hook, which is what
debuggers of this stack do; and under TVM's own ``LibCompareVMInstrument``. Each round runs another
sentence, so every activation is new, and begins with another variant. Then the size of the store,
and in child processes the peak memory of a short and a long capture.

With ``--target`` a Llama on that target instead, beside one copy of the same bytes to page-locked
memory: ``capture_gpu``.

Exits with 1 if capture until all is on disk costs more than 1.15 x plain (medians), if memory grows
by more than the queue's budget and 200 MB, if the store is larger than 1.05 x its distinct bytes,
or if a later sentence stored parameters again. With ``--target`` if capture into host memory costs
more than 1.5 x the longer of the plain run and the copy, or captured bytes are not right.
"""

from __future__ import annotations

import argparse
import json
import os
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
from relax_tapml.passes import native
from relax_tapml.passes.insert_capture import InsertCapture

MOST_TIME = 1.15
MOST_MEMORY_MB = 200
MOST_SIZE = 1.05

PLAIN = "plain"
CAPTURED = "captured"
ON_DISK = "captured, and all on disk"
DUMPED = "np.savez of every call"
COMPARED = "LibCompareVMInstrument"


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


def dumping_function(executable: Any, entry: str, folder: Path) -> Any:
    """Return the entry function with ``np.savez`` of each call's arguments after the call."""
    machine = relax.VirtualMachine(executable, tvm.cpu())
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
    return machine[entry]


def comparing_function(executable: Any, entry: str) -> Any:
    """Return the entry function with each kernel compared with itself, run a second time."""
    machine = relax.VirtualMachine(executable, tvm.cpu())
    machine.set_instrument(LibCompareVMInstrument(executable.jit(), tvm.cpu(), verbose=False))
    return machine[entry]


def time_variants(rounds: int, tokens: int, budget_mb: int, folder: Path) -> Timings:
    """Run the variants round-robin, after one round that touches memory and loads weights."""
    minilm = build_minilm(folder / "kernels", texts=2 * rounds + 2, tokens=tokens)
    executable = tvm.compile(minilm.lowered, target=LLVM)
    entry = minilm.model.entry
    captured, plain = captured_function(minilm), minilm.functions()[entry]
    inputs = len(minilm.model.samples[0].arrays)
    others = {
        PLAIN: lambda *arguments: plain(*arguments[:inputs]),
        DUMPED: dumping_function(executable, entry, folder / "dump"),
        COMPARED: comparing_function(executable, entry),
    }
    seconds: dict[str, list[float]] = {
        name: [] for name in (PLAIN, CAPTURED, ON_DISK, DUMPED, COMPARED)
    }
    store = CaptureStore.create(folder / "store", {})
    with store, Recorder(store, budget_bytes=budget_mb << 20) as recorder:

        def record(index: int, arguments: list[Any]) -> None:
            began = time.perf_counter()
            with recorder.sample(str(index)):
                outputs = captured(*arguments[:inputs])
                seconds[CAPTURED].append(time.perf_counter() - began)
                recorder.outputs(outputs)
            seconds[ON_DISK].append(time.perf_counter() - began)

        def run(name: str, arguments: list[Any]) -> None:
            began = time.perf_counter()
            others[name](*arguments)
            seconds[name].append(time.perf_counter() - began)

        variants: list[Callable[[int, list[Any]], None]] = [
            record,
            *(lambda _, arguments, name=name: run(name, arguments) for name in others),
        ]
        for index in range(rounds + 1):
            first = index % len(variants)
            for variant in (*variants[first:], *variants[:first]):
                os.sync()  # Nobody pays for what the variant before left to be written.
                # Twice, of which the second counts: while the others ran, the machine may have
                # taken back the memory that only this one uses.
                for run_index in (2 * index, 2 * index + 1):
                    variant(run_index, minilm.arguments(run_index))
            if index == 0:
                after_first = store.stats()
        after_last = store.stats()
    return Timings(
        seconds={name: values[3::2] for name, values in seconds.items()},
        first=after_first,
        last=after_last,
    )


def memory_growth_mb(runs: int, tokens: int, budget_mb: int, folder: Path) -> float:
    """Capture that many runs; return by how much this process's peak memory grew."""
    minilm = build_minilm(folder / "kernels", texts=runs, tokens=tokens)
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


def memory_growth_of_child_mb(runs: int, args: argparse.Namespace) -> float:
    """Return ``memory_growth_mb`` in a process of its own."""
    options = {"memory-of": runs, "tokens": args.tokens, "budget-mb": args.budget_mb}
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
            grown = memory_growth_mb(args.memory_of, args.tokens, args.budget_mb, folder)
            print(json.dumps(grown))
            return 0
        timings = time_variants(args.rounds, args.tokens, args.budget_mb, folder)
    console = Console(width=100, highlight=False)
    console.print(time_table(timings.seconds))
    ratio = statistics.median(timings.seconds[ON_DISK]) / statistics.median(timings.seconds[PLAIN])
    console.print(f"time: captured and on disk {ratio:.2f} x plain (at most {MOST_TIME})")
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
    for runs in args.runs:
        grown_mb = memory_growth_of_child_mb(runs, args)
        console.print(
            f"memory: {runs} captured runs raise the peak by {grown_mb:.0f} MB "
            f"(at most the budget of {args.budget_mb} MB and {MOST_MEMORY_MB} MB)"
        )
        is_good = is_good and grown_mb <= allowed_mb
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
