"""Bring up tiny models of many architectures, with right kernels and with one wrong one.

Each is imported with ``torch.export``, captured, carved (2 cases a unit), replayed and migrated
twice: with right kernels, which must pass, and with the kernel of a unit drawn at random made
wrong, which must be named and nothing else. Each runs in a process of its own; results are kept in
``--out`` and not made again.

``python scripts/zoo.py llama swin`` or ``python scripts/zoo.py --all``, which takes about
forty minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table
from zoo_models import ARCHITECTURES
from zoo_pool import Task, make_rows
from zoo_worker import ZooRow, work

SHAPES = ("static", "symbolic")
_TIMEOUT_S = 300.0
# What every architecture imports, imported once.
_PRELOADED = ["zoo_worker", "torch._dynamo", "transformers.models.llama.modeling_llama"]


def main() -> int:
    """Run what was asked for; return 0 if every row is right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="architectures, e.g. llama")
    parser.add_argument("--all", action="store_true", help="all of them")
    parser.add_argument(
        "--shapes", choices=(*SHAPES, "both"), default="both", help="of batch and sequence"
    )
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (default: 2)")
    parser.add_argument("--out", type=Path, default=Path("zoo"), help="folder for results")
    parser.add_argument("--again", action="store_true", help="also those that are there")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - ARCHITECTURES.keys())
    if unknown or bool(args.names) == args.all:
        parser.error(f"name architectures, or --all; there are: {', '.join(ARCHITECTURES)}")
    console = Console(width=None if os.isatty(1) else 160)
    began = time.perf_counter()
    tasks = [
        Task(
            file=f"{name}-{shapes}",
            blank=ZooRow(name=name, family=ARCHITECTURES[name].family, shapes=shapes),
            arguments=(name, shapes),
        )
        for shapes in (SHAPES if args.shapes == "both" else (args.shapes,))
        for name in (ARCHITECTURES if args.all else args.names)
        if shapes == "static" or ARCHITECTURES[name].is_symbolic
    ]
    rows = {}
    made = make_rows(
        tasks, work, args.out, jobs=args.jobs, is_again=args.again,
        timeout_s=_TIMEOUT_S, preloaded=_PRELOADED,
    )  # fmt: skip
    for row in made:
        rows[row.name, row.shapes] = row
        console.print(_line(row), highlight=False, markup=False)
    _summarize([rows[task.arguments] for task in tasks], time.perf_counter() - began, console)
    return int(not all(row.is_right for row in rows.values()))


def _line(row: ZooRow) -> str:
    verdict = f"{row.broken} named" if row.is_right else f"{row.stage}: {row.reason}"
    return (
        f"{row.name:<16} {row.shapes:<9} {row.units:>4} units {row.sites:>5} sites "
        f"{row.skipped:>3} skipped  {row.clean or '-':<9} {row.seconds['total']:>5.1f} s  {verdict}"
    )


def _summarize(rows: list[ZooRow], seconds: float, console: Console) -> None:
    table = Table("family", "shapes", "right", "of", "units", "sites", "skipped")
    for (family, shapes), count in Counter((row.family, row.shapes) for row in rows).items():
        ours = [row for row in rows if (row.family, row.shapes) == (family, shapes)]
        sums = [sum(getattr(r, field) for r in ours) for field in ("units", "sites", "skipped")]
        right = sum(row.is_right for row in ours)
        table.add_row(family, shapes, str(right), str(count), *map(str, sums))
    console.print(table)
    for shapes in SHAPES:
        ours = [row for row in rows if row.shapes == shapes]
        if ours:
            right = sum(row.is_right for row in ours)
            console.print(f"{shapes}: {right} of {len(ours)} architectures are right")
    console.print(f"{seconds / 60:.1f} minutes")


if __name__ == "__main__":
    raise SystemExit(main())
