"""What moving the boundary costs on MiniLM, against a full rebuild.

A step is partition, bytecode of both sides and link, without running the model; a full rebuild is
lowering, the kernels of both sides from an empty folder, bytecode and link. Exits with 1 if the
median step costs more than 5 % of a rebuild.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from minilm_build import LLVM, MiniLM, build_minilm
from rich.console import Console
from rich.table import Table

from relax_tapml.migrate.step import Sides
from relax_tapml.partition.boundary import Boundary, partition
from relax_tapml.partition.hybrid import Host, HybridModule
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.lower import lower, mark_inputs
from relax_tapml.partition.prepare_side import prepare_side
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.targets.inline import InlineSession

MOST = 0.05


def sides_of(minilm: MiniLM) -> Sides:
    """Return what a step needs, with the same kernels on both sides."""
    return Sides(
        lowered=minilm.lowered,
        entry=minilm.model.entry,
        host_units=minilm.units,
        device_units=minilm.units,
        source=LLVM,
        target=LLVM,
        host=minilm.host,
        library=minilm.library,
        device_kernels=minilm.kernels,
    )


def step(sides: Sides, boundary: Boundary, session: InlineSession) -> float:
    """Return the seconds of one step."""
    began = time.perf_counter()
    program = sides.partition(boundary)
    HybridModule(sides.host, program, session, sides.device_kernels.files(boundary))
    return time.perf_counter() - began


def rebuild(minilm: MiniLM, boundary: Boundary, folder: Path) -> float:
    """Return the seconds of building everything for one boundary."""
    session = InlineSession(LLVM)
    began = time.perf_counter()
    model = minilm.model
    count = len(model.samples[0].arrays)
    lowered = lower(mark_inputs(model.module, model.entry, count))
    units = prepare_side(lowered, LLVM)
    libraries = [KernelLibrary(folder / side) for side in ("host", "device")]
    host_kernels, device_kernels = (library.build(units, LLVM) for library in libraries)
    program = partition(
        lowered,
        boundary,
        host_units=units,
        device_units=units,
        source=LLVM,
        target=LLVM,
        library=libraries[0],
    )
    host = Host(LLVM, host_kernels.files(), model.params)
    HybridModule(host, program, session, device_kernels.files())
    return time.perf_counter() - began


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, help="only so many steps")
    parser.add_argument("--rebuilds", type=int, default=3, help="full rebuilds (3)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tapml-bench-") as scratch:
        folder = Path(scratch)
        minilm = build_minilm(folder / "kernels", texts=1)
        order = list(dict.fromkeys(site.unit for site, _ in annotated_calls(minilm.lowered)))
        count = len(order) if args.steps is None else min(args.steps, len(order))
        sides, session = sides_of(minilm), InlineSession(LLVM)
        rebuilds = [
            rebuild(minilm, frozenset(order[: len(order) // 2]), folder / str(i))
            for i in range(args.rebuilds)
        ]
        step(sides, frozenset(order[:1]), session)  # The first one loads what the next ones have.
        steps = {k: step(sides, frozenset(order[:k]), session) for k in range(count + 1)}
    full, median = statistics.median(rebuilds), statistics.median(steps.values())
    table = Table("units on the device", "moved last", "step s", "% of a rebuild")
    for k, spent in steps.items():
        table.add_row(
            str(k), order[k - 1] if k else "-", f"{spent:.3f}", f"{100 * spent / full:.1f}"
        )
    console = Console(width=110)
    console.print(table)
    console.print(
        f"median step {median:.3f} s, full rebuild {full:.2f} s: "
        f"{100 * median / full:.1f} % (at most {100 * MOST:.0f} %)"
    )
    return 0 if median <= MOST * full else 1


if __name__ == "__main__":
    sys.exit(main())
