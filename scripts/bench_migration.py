"""What migrating a model costs, step by step and as a whole, beside building it and other ways.

Two models on llvm: MiniLM, and a Llama of eight layers with random weights. A step is partition,
bytecode of both sides and link, without running the model; it is taken with every prefix of the
units on the device. A full build is lowering, the kernels of both sides from an empty folder,
bytecode and link. A fresh session is what a device gets after a crash. A migration moves all units,
unit by unit, and runs the model at each step. All of it happens in one process, so the ratios can
be relied on where the seconds cannot.

Exits with 1 if the median or the slowest step costs more than 5 % of a full build, if a migration
costs more than three full builds besides its runs of the model, or if a unit stays on the host.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import llama_models
import numpy as np
from built_model import LLVM, BuiltModel, build_model
from migration_parts import (
    Build,
    Migration,
    migrate_all,
    movable_units,
    run_source,
    sides_of,
    time_build,
    time_compile,
    time_step,
)
from minilm_build import sentences
from rich.console import Console
from rich.table import Table

from relax_tapml.frontend.load.load_model import load_model
from relax_tapml.frontend.model import Model
from relax_tapml.migrate.strategies.registry import STRATEGIES
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.targets.open_session import open_session

MOST_STEP = 0.05
MOST_BUILDS = 3.0

NOTES = """\
A full build, and lowering with two runs of tvm.compile, are medians times the steps;
neither includes a run of the model."""

MODELS: dict[str, Callable[[], Model]] = {
    "minilm": lambda: load_model("minilm", texts=sentences(1, 11)),
    "llama": llama_models.layers8,
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything that was measured of one model.

    Parameters
    ----------
    model
        Its name, and how many units and sites it has.
    units
        How many of them were to move.
    builds, compiles
        Full builds, and the seconds in which TVM alone compiles the lowered module for one side.
    sessions
        Seconds in which a fresh device session starts and takes its first tensor.
    steps
        For each boundary, its seconds round by round.
    plain_s
        Seconds of running all samples on the source.
    migrations
        By strategy.
    """

    model: str
    units: int
    builds: list[Build]
    compiles: list[float]
    sessions: list[float]
    steps: list[list[float]]
    plain_s: float
    migrations: dict[str, Migration]

    @property
    def build_s(self) -> float:
        """The median full build."""
        return statistics.median(build.wall_s for build in self.builds)

    @property
    def lower_s(self) -> float:
        """The median lowering, which is part of it."""
        return statistics.median(build.lower_s for build in self.builds)

    @property
    def step_s(self) -> list[float]:
        """The median of each boundary's rounds."""
        return [statistics.median(rounds) for rounds in self.steps]


def measure(model: Model, args: argparse.Namespace, folder: Path, say: Console) -> Measured:
    """Measure one model."""
    built = build_model(model, folder / "kernels")
    order = movable_units(built)[: args.units]
    builds, compiles = _time_builds(built, order, args, folder)
    say.print(f"{model.name}: a full build {builds[-1].wall_s:.1f} s")
    steps = _time_steps(built, [order[:k] for k in range(len(order) + 1)], args)
    say.print(f"{model.name}: {len(steps)} boundaries, {args.rounds} times each")
    outputs, _ = run_source(built)
    _, plain = run_source(built)  # The first run loads and touches what later ones have.
    migrations = {}
    for strategy in STRATEGIES:
        found = migrate_all(built, order, outputs, args.session, strategy)
        say.print(f"{model.name}: {strategy.name}, {found.wall_s:.1f} s")
        migrations[strategy.name] = found
    sites = [site for site, _ in annotated_calls(built.lowered)]
    units = len({site.unit for site in sites})
    return Measured(
        model=f"{model.name}: {units} units, {len(sites)} sites, {len(model.samples)} samples",
        units=len(order),
        builds=builds,
        compiles=compiles,
        sessions=[_time_session(args.session) for _ in range(args.rounds)],
        steps=steps,
        plain_s=sum(plain),
        migrations=migrations,
    )


def _time_builds(
    built: BuiltModel, order: Sequence[str], args: argparse.Namespace, folder: Path
) -> tuple[list[Build], list[float]]:
    builds, compiles = [], []
    session = open_session(args.session, LLVM)
    try:
        for number in range(args.builds):
            half = order[: len(order) // 2]
            builds.append(time_build(built.model, half, session, folder / str(number)))
            compiles.append(time_compile(built.lowered))
    finally:
        session.close()
    return builds, compiles


def _time_steps(
    built: BuiltModel, boundaries: Sequence[Sequence[str]], args: argparse.Namespace
) -> list[list[float]]:
    session = open_session(args.session, LLVM)
    sides = sides_of(built)
    try:
        rounds = [
            [time_step(sides, units, session) for units in boundaries] for _ in range(args.rounds)
        ]
    finally:
        session.close()
    return [list(seconds) for seconds in zip(*rounds, strict=True)]


def _time_session(spec: str) -> float:
    began = time.perf_counter()
    with closing(open_session(spec, LLVM)) as session:
        session.upload(np.zeros(1, "float32"))
        return time.perf_counter() - began


class Rows:
    """The table, and whether every promise is kept."""

    def __init__(self, session: str) -> None:
        self.table = Table(
            "what",
            "seconds",
            "full builds",
            "at most",
            title=f"llvm on both sides, device session {session}",
        )
        self.is_good = True
        self._build_s = 1.0

    def add_model(self, found: Measured) -> None:
        """Add the rows of a model, and see what it promises."""
        self._build_s = found.build_s
        self.table.add_section()
        self.table.add_row(f"[bold]{found.model}")
        self._add(f"full build (median of {len(found.builds)})", found.build_s)
        self._add("  of which lowering", found.lower_s)
        count, rounds = len(found.steps), len(found.steps[0])
        self._add(
            f"step without its run, median of {count} boundaries, {rounds} times each",
            statistics.median(found.step_s),
            MOST_STEP,
        )
        self._add("step without its run, slowest boundary", max(found.step_s), MOST_STEP)
        text = f"a fresh device session, median of {len(found.sessions)}"
        self._add(text, statistics.median(found.sessions))
        for name, migration in found.migrations.items():
            self._add_migration(name, migration, found)
        count = found.units + 1
        self._add(f"instead, a full build at each of {count} steps", count * found.build_s)
        self._add(
            f"instead, tvm.compile of both sides at each of {count} steps",
            count * (found.lower_s + 2 * statistics.median(found.compiles)),
        )

    def _add_migration(self, name: str, migration: Migration, found: Measured) -> None:
        count = len(migration.steps)
        text = f"{name}: {count} steps, {migration.on_device} of {found.units} units moved"
        self._add(f"{text}, without runs", migration.own_s, MOST_BUILDS)
        self._add(f"{text}, with runs", migration.wall_s)
        self._add(f"{count} runs of the undivided model", count * found.plain_s)
        self.is_good = self.is_good and migration.on_device == found.units

    def _add(self, what: str, seconds: float, most: float | None = None) -> None:
        share = seconds / self._build_s
        limit = ""
        if most is not None:
            is_kept = share <= most
            self.is_good = self.is_good and is_kept
            limit = f"{most:g}" if is_kept else f"[red]{most:g}: BROKEN"
        self.table.add_row(what, f"{seconds:.3g}", f"{share:.3f}", limit)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", nargs="+", choices=list(MODELS), default=list(MODELS), help="which (both)")
    add("--session", default="process", help="where the device runs (process)")
    add("--builds", type=int, default=3, help="full builds (3)")
    add("--rounds", type=int, default=3, help="how often each step is taken (3)")
    add("--units", type=int, help="only so many units move (all)")
    return parser


def main() -> int:
    """Run the benchmark and print its table."""
    args = parser().parse_args()
    began = time.perf_counter()
    rows, say = Rows(args.session), Console(stderr=True, highlight=False)
    for name in args.model:
        with tempfile.TemporaryDirectory(prefix="tapml-bench-") as scratch:
            rows.add_model(measure(MODELS[name](), args, Path(scratch), say))
    console = Console(width=100, highlight=False)
    console.print(rows.table)
    console.print(NOTES)
    console.print(f"measured in {time.perf_counter() - began:.0f} s")
    return 0 if rows.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
