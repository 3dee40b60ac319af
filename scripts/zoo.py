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
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.context import ForkServerContext
from pathlib import Path

from rich.console import Console
from rich.table import Table
from zoo_models import ARCHITECTURES
from zoo_worker import Row, work

SHAPES = ("static", "symbolic")
_TIMEOUT_S = 300.0
_LOG_TAIL = 400
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
    # For the processes, which are as many as there are cores; the server they are forked from finds
    # the worker by the environment only.
    here = str(Path(__file__).parent)
    os.environ.update(TVM_NUM_THREADS="1", OMP_NUM_THREADS="1", PYTHONPATH=here)
    args.out.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if os.isatty(1) else 160)
    began = time.perf_counter()
    tasks = [
        (name, shapes)
        for shapes in (SHAPES if args.shapes == "both" else (args.shapes,))
        for name in (ARCHITECTURES if args.all else args.names)
        if shapes == "static" or ARCHITECTURES[name].is_symbolic
    ]
    rows = {}
    for row in _rows(tasks, args.out, args.jobs, is_again=args.again):
        rows[row.name, row.shapes] = row
        console.print(_line(row), highlight=False, markup=False)
    _summarize([rows[task] for task in tasks], time.perf_counter() - began, console)
    return int(not all(row.is_right for row in rows.values()))


def _rows(tasks: list[tuple[str, str]], out: Path, jobs: int, *, is_again: bool) -> Iterator[Row]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with ThreadPoolExecutor(jobs) as pool:
        pending = []
        for name, shapes in tasks:
            path = (out / f"{name}-{shapes}.json").resolve()
            row = None if is_again else _read(path)
            if row is not None and row.seconds.get("total"):
                yield row
            else:
                pending.append(pool.submit(_in_process, context, name, shapes, path))
        for future in as_completed(pending):
            yield future.result()


def _in_process(context: ForkServerContext, name: str, shapes: str, path: Path) -> Row:
    """Run one architecture and say what became of it, also if its process did not end well."""
    began = time.perf_counter()
    path.unlink(missing_ok=True)
    process = context.Process(target=work, args=(name, shapes, path), daemon=True)
    process.start()
    process.join(_TIMEOUT_S)
    fault = ""
    if process.is_alive():
        fault = f"timeout after {_TIMEOUT_S:g} s"
    elif process.exitcode:
        fault = f"exit code {process.exitcode}"
    process.kill()
    process.join()
    row = _read(path) or Row(name=name, family=ARCHITECTURES[name].family, shapes=shapes)
    if fault:
        log = path.with_suffix(".log")
        tail = log.read_text(errors="replace")[-_LOG_TAIL:] if log.exists() else ""
        row.reason = f"{fault} in stage {row.stage}: {' '.join(tail.split())}"
        row.seconds["total"] = time.perf_counter() - began
        row.save(path)
    return row


def _read(path: Path) -> Row | None:
    return Row(**json.loads(path.read_text())) if path.exists() else None


def _line(row: Row) -> str:
    verdict = f"{row.broken} named" if row.is_right else f"{row.stage}: {row.reason}"
    return (
        f"{row.name:<16} {row.shapes:<9} {row.units:>4} units {row.sites:>5} sites "
        f"{row.skipped:>3} skipped  {row.clean or '-':<9} {row.seconds['total']:>5.1f} s  {verdict}"
    )


def _summarize(rows: list[Row], seconds: float, console: Console) -> None:
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
