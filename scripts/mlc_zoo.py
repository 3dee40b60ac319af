"""Bring up tiny models of all architectures of MLC-LLM.

MLC's source is enough: ``--mlc`` is a checkout of it. Each model is compiled by MLC up to fusion,
for the source and, with ``--also``, for other targets (which needs no device), and brought up from
``--source`` to ``--target``. Each runs in a process of its own; results are kept in ``--out`` and
not made again. Return 1 if something is named that is right.

``python scripts/mlc_zoo.py --mlc ~/mlc-llm llama qwen3`` or ``... --all``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from mlc_models import CONFIGS
from mlc_zoo_worker import Job, MLCRow, work
from rich.console import Console
from rich.table import Table
from zoo_pool import Task, make_rows

_PRELOADED = ["mlc_zoo_worker"]
_COLUMNS = ("model", "made", "units", "carved", "pass alone", "moved", "verdict")


def main() -> int:
    """Run what was asked for; return 0 if no model has a culprit and no process failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="architectures, e.g. llama")
    parser.add_argument("--all", action="store_true", help="all of them")
    parser.add_argument("--mlc", type=Path, help="checkout of MLC-LLM; not needed if installed")
    parser.add_argument("--quantization", default="q4f16_1", help="one of MLC's (default: q4f16_1)")
    parser.add_argument("--source", default="llvm", help="a TVM target (default: llvm)")
    parser.add_argument("--target", default="llvm", help="a TVM target (default: llvm)")
    parser.add_argument("--session", default="inline", help="where the target runs")
    parser.add_argument(
        "--also", nargs="*", default=(), metavar="TARGET", help="make the module for these, too"
    )
    parser.add_argument("--only-make", action="store_true", help="do not run anything")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (default: 2)")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for each model")
    parser.add_argument("--out", type=Path, default=Path("mlc-zoo"), help="folder for results")
    parser.add_argument("--again", action="store_true", help="also those that are there")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - CONFIGS.keys())
    if unknown or bool(args.names) == args.all:
        parser.error(f"name architectures, or --all; there are: {', '.join(CONFIGS)}")
    job = Job(
        mlc=str(args.mlc.resolve()) if args.mlc else "",
        quantization=args.quantization,
        source=args.source,
        target=args.target,
        session=args.session,
        also=tuple(args.also),
        is_run=not args.only_make,
    )
    tasks = [
        Task(
            file=f"{name}-{args.quantization}-{args.source.split()[0]}-{args.target.split()[0]}",
            blank=MLCRow(name=name),
            arguments=(name, job),
        )
        for name in (CONFIGS if args.all else args.names)
    ]
    console = Console(width=None if os.isatty(1) else 160)
    began = time.perf_counter()
    rows = {}
    made = make_rows(
        tasks, work, args.out, jobs=args.jobs, is_again=args.again,
        timeout_s=args.timeout, preloaded=_PRELOADED,
    )  # fmt: skip
    for row in made:
        rows[row.name] = row
        line = f"{row.name:<16} {row.seconds['total']:>6.1f} s  {row.stage}: {_outcome(row)}"
        console.print(line, highlight=False, markup=False)
    _summarize([rows[task.blank.name] for task in tasks], job, args.markdown, console)
    console.print(f"{(time.perf_counter() - began) / 60:.1f} minutes")
    return int(any(row.culprits or row.stage == "start" for row in rows.values()))


def _outcome(row: MLCRow) -> str:
    return row.verdict if row.verdict == "pass" else f"{row.verdict} {row.reason}".strip()


def _cells(row: MLCRow) -> list[str]:
    made = " ".join(row.made)
    counts = [row.units, row.carved, row.alone, row.moved]
    ran = [str(count) for count in counts] if row.verdict else ["-"] * len(counts)
    return [row.name, made or "-", *ran, _outcome(row) or "-"]


def _summarize(rows: Sequence[MLCRow], job: Job, is_markdown: bool, console: Console) -> None:
    if is_markdown:
        lines = [_COLUMNS, ["---"] * len(_COLUMNS), *map(_cells, rows)]
        for line in lines:
            text = " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in line)
            print(f"| {text} |")
    else:
        table = Table(*_COLUMNS)
        for row in rows:
            table.add_row(*_cells(row))
        console.print(table)
    for target in (job.source, *job.also):
        count = sum(target in row.made for row in rows)
        console.print(f"{target}: MLC makes the module of {count} of {len(rows)} models")
    if job.is_run:
        right = sum(row.verdict == "pass" for row in rows)
        console.print(f"{job.source} to {job.target}: {right} of {len(rows)} models pass")


if __name__ == "__main__":
    raise SystemExit(main())
