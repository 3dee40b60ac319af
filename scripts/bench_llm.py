"""What bringing up an LLM of real size costs, stage by stage, beside PyTorch and the plain run.

Runs the main command on decoders of ``llm_models`` with drawn weights, once for each number of
layers and of tokens, each in a process of its own. Peaks are of the memory of all its processes
together, pages that they share counted once; none is printed for a stage that ended before a sample
was taken. The plain run is the source's, alone, without capture.

Exits with 1 if a run did not end with the verdict that was expected.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from process_memory import MemorySampler
from rich.console import Console
from rich.table import Table

from relax_tapml.cores import usable_cores

SCRIPTS = Path(__file__).resolve().parent
STAGES = ("model", "source", "capture", "carve", "kernels", "replay", "migrate")
PARTS = ("captures", "tests", "kernels", "bundle")
MB = 1e6


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """A stage: seconds, the peak of its memory in bytes, and what it printed."""

    seconds: float
    peak_bytes: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Plain:
    """The model without anything around it; see ``llm_plain_run``."""

    weights_bytes: int
    torch_s: float
    source_s: float
    bundle_apart: float | None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Everything that was measured of one run.

    Parameters
    ----------
    name
        Of the model, in ``llm_models``.
    stages
        By name, in order.
    parts
        Bytes on disk of each part of the output folder.
    seconds, peak_bytes
        Of the whole run.
    verdict, culprits
        Of ``result.json``; ``exit N`` where there is none.
    steps
        Boundaries tried, and how.
    plain
        None if it was not measured.
    """

    name: str
    stages: dict[str, StageCost]
    parts: dict[str, int]
    seconds: float
    peak_bytes: int
    verdict: str
    culprits: list[str]
    steps: str
    plain: Plain | None


def measure(name: str, args: argparse.Namespace, out: Path) -> Cost:
    """Run the main command on one model."""
    command = [sys.executable, "-m", "relax_tapml.build", f"llm_models:{name}", "--json"]
    command += ["--source", args.source, "--target", args.target, "--session", args.session]
    command += ["--out", str(out), "--force"]
    if args.broken:
        command += ["--no-repair", "--device-pipeline", f"kernel_faults:{args.broken}_off"]
    paths = [str(SCRIPTS), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    began = time.monotonic()
    stages: dict[str, StageCost] = {}
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        with MemorySampler(process.pid) as memory:
            assert process.stderr is not None
            stage_began = began
            for line in process.stderr:
                now = time.monotonic()
                print(f"{now - began:7.1f} s  {line.rstrip()}", file=sys.stderr, flush=True)
                title = line.split(" ", 1)[0]
                if title in STAGES and " so far" not in line:
                    stages[title] = StageCost(
                        seconds=now - stage_began,
                        peak_bytes=memory.peak_bytes(stage_began, now),
                        text=line.strip(),
                    )
                    stage_began = now
            code = process.wait()
        ended = time.monotonic()
    document = {}
    if (out / "result.json").is_file():
        document = json.loads((out / "result.json").read_text())
    return Cost(
        name=name,
        stages=stages,
        parts={part: _bytes_of(out / part) for part in PARTS},
        seconds=ended - began,
        peak_bytes=memory.peak_bytes(began, ended),
        verdict=document.get("verdict", f"exit {code}"),
        culprits=document.get("culprits", []),
        steps=f"{len(document.get('steps', []))} {document.get('strategy', '')}",
        plain=None if args.no_plain else _plain(name, args, out, environment),
    )


def _plain(
    name: str, args: argparse.Namespace, out: Path, environment: dict[str, str]
) -> Plain | None:
    command = [sys.executable, str(SCRIPTS / "llm_plain_run.py"), name, args.source]
    command.append(str(out))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return None
    return Plain(**json.loads(done.stdout.splitlines()[-1]))


def _bytes_of(folder: Path) -> int:
    """Return the bytes on disk, in blocks as ``du`` counts them."""
    return sum(file.lstat().st_blocks * 512 for file in folder.rglob("*"))


def stage_table(cost: Cost) -> Table:
    """Return the table of one run."""
    table = Table("what", "seconds", "plain runs", "peak MB", title=cost.name)
    plain_s = cost.plain.source_s if cost.plain else float("nan")

    def add(what: str, seconds: float, peak_bytes: int | None = None) -> None:
        peak = "" if not peak_bytes else f"{peak_bytes / MB:.0f}"
        table.add_row(what, f"{seconds:.1f}", f"{seconds / plain_s:.1f}", peak)

    for title, stage in cost.stages.items():
        add(title, stage.seconds, stage.peak_bytes)
    add("whole run", cost.seconds, cost.peak_bytes)
    if cost.plain:
        table.add_section()
        add("one plain run of the source", cost.plain.source_s)
        add("one run of PyTorch", cost.plain.torch_s)
        table.add_row("weights", "", "", f"{cost.plain.weights_bytes / MB:.0f}")
        if cost.plain.bundle_apart is not None:
            apart = f"{cost.plain.bundle_apart:.2g} of the outputs' RMS"
            table.add_row(f"the bundle is off by at most {apart}", "", "", "")
    table.add_section()
    for part, size in cost.parts.items():
        table.add_row(f"on disk: {part}", "", "", f"{size / MB:.0f}")
    culprits = f": {', '.join(cost.culprits)}" if cost.culprits else ""
    table.add_row(f"verdict {cost.verdict}{culprits}, steps: {cost.steps}", "", "", "")
    return table


def growth_table(costs: Sequence[Cost]) -> Table:
    """Return the table of several runs beside each other: seconds of each stage."""
    table = Table("model", *STAGES, "whole", "peak MB", "suite MB", title="seconds")
    for cost in costs:
        seconds = [cost.stages[s].seconds if s in cost.stages else float("nan") for s in STAGES]
        table.add_row(
            cost.name,
            *(f"{value:.1f}" for value in seconds),
            f"{cost.seconds:.1f}",
            f"{cost.peak_bytes / MB:.0f}",
            f"{cost.parts['tests'] / MB:.0f}",
        )
    return table


def machine() -> str:
    """Return what the benchmark runs on, in a line."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    gpu = ""
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        found = subprocess.run(query, capture_output=True, text=True, check=False)
        gpu = f", {found.stdout.strip()}"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cpu}, {usable_cores()} cores, {memory:.0f} GiB{gpu}"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", default="llama_1b", help="of llm_models: llama_1b, llama_8b, llama_tiny")
    add("--dtype", default="float16", help="of the weights: float16, bfloat16, float32")
    add("--layers", nargs="+", type=int, help="a run for each of these (all of the real model)")
    add("--tokens", nargs="+", type=int, default=[64], help="a run for each of these (64)")
    add("--source", default="llvm", help="as for relax_tapml.build (llvm)")
    add("--target", default="llvm", help="as for relax_tapml.build (llvm)")
    add("--session", default="process", help="as for relax_tapml.build (process)")
    add("--broken", metavar="UNIT", help="makes the device's kernel of a unit 2 %% wrong")
    add("--no-plain", action="store_true", help="leave out the plain runs")
    add("--out", type=Path, help="keep the output folders here (a temporary folder)")
    return parser


def main() -> int:
    """Run the benchmark and print its tables."""
    args = parser().parse_args()
    costs = []
    console = Console(width=110, highlight=False)
    console.print(machine())
    with tempfile.TemporaryDirectory(prefix="tapml-bench-") as scratch:
        folder = args.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for layers in args.layers or [None]:
            for tokens in args.tokens:
                part = "" if layers is None else f"_layers{layers}"
                name = f"{args.model}_{args.dtype}{part}_tokens{tokens}"
                costs.append(measure(name, args, folder / name))
                console.print(stage_table(costs[-1]))
                if args.out is None:
                    shutil.rmtree(folder / name, ignore_errors=True)
    if len(costs) > 1:
        console.print(growth_table(costs))
    wanted = ("mismatch", [args.broken]) if args.broken else ("pass", [])
    return 0 if all((cost.verdict, cost.culprits) == wanted for cost in costs) else 1


if __name__ == "__main__":
    sys.exit(main())
