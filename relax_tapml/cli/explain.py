"""``relax-tapml explain``: what runs on the device for a boundary, and what crosses for it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from relax_tapml.cli.trust import TRUST_HELP
from relax_tapml.printable import names_text

_NAMED_AT_MOST = 4


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "explain",
        help="show regions, crossings and bytes of a boundary",
        description="Show what a boundary makes of a model: regions, which are the device calls, "
        "and the values that cross from one side to the other for them. Without an option every "
        "step of a run is a line, and the last good one is printed in full. Nothing is run.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the output folder of a run")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--step", type=int, metavar="N", help="show step N, counted from 0")
    which.add_argument("--boundary", type=Path, metavar="FILE", help="show this boundary.json")
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from relax_tapml.partition.boundary import read_boundary  # imports TVM
    from relax_tapml.partition.bundle import read_bundle_boundary
    from relax_tapml.partition.program import explain

    lowered = _lowered(args.folder, trust=args.trust)
    if args.boundary is None and args.step is None:
        steps = {
            int(path.stem): explain(lowered, read_boundary(path))
            for path in sorted((args.folder / "boundaries").glob("[0-9][0-9][0-9]*.json"))
            if path.stem.isdecimal()
        }
        bundle = args.folder / "bundle"
        calls = explain(lowered, read_bundle_boundary(bundle)) if bundle.exists() else None
    else:
        path = args.boundary or args.folder / "boundaries" / f"{args.step:03d}.json"
        steps, calls = {}, explain(lowered, read_boundary(path))
    if args.json:
        document = {
            "steps": [{"step": step, **_sums(crossing)} for step, crossing in steps.items()],
            "calls": None if calls is None else [asdict(call) for call in calls],
        }
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        _print(steps, calls)
    return 0


def _lowered(folder: Path, *, trust: bool) -> Any:
    from relax_tapml.errors import UsageError
    from relax_tapml.files.read import MAX_JSON_BYTES, read_bytes
    from relax_tapml.foreign.module import read_module

    path = folder / "lowered.json"
    if not path.exists():
        raise UsageError(
            f"{folder} has no lowered.json: expected the output folder of "
            "`python -m relax_tapml.build`"
        )
    fix = "Run the build again"
    data = read_bytes(path, fix=fix, max_bytes=MAX_JSON_BYTES)
    return read_module(data, str(path), fix=fix, trust=trust)


def _sums(calls: Sequence[Any]) -> dict[str, Any]:
    from relax_tapml.passes.device_calls import bytes_of

    return {
        "sites": sum(len(call.sites) for call in calls),
        "regions": len(calls),
        "functions": len({call.region for call in calls}),
        "uploads": sum(len(call.uploads) for call in calls),
        "downloads": sum(len(call.downloads) for call in calls),
        "bytes": bytes_of(calls),
    }


def _print(steps: dict[int, Any], calls: Any) -> None:
    from rich.table import Table

    from relax_tapml.cli.console import console_of
    from relax_tapml.report.quantities import count_text, size_text

    console = console_of()
    if not console.is_terminal:
        console = console_of(width=100_000)

    def size(size_bytes: int | None) -> str:
        return "known at run time" if size_bytes is None else size_text(size_bytes)

    if steps:
        table = Table("step", box=None)
        for name in ("sites", "regions", "functions", "uploads", "downloads", "bytes"):
            table.add_column(name, justify="right")
        for step, calls in steps.items():
            *counts, total = _sums(calls).values()
            table.add_row(str(step), *map(str, counts), size(total))
        console.print(table)
    if calls is None:
        return
    if steps:
        console.print("\nThe last good one:")
    table = Table("region", "sites", "to the device", "to the host", "weights", box=None)
    for call in calls:
        weights = sum(crossing.size_bytes or 0 for crossing in call.parameters)
        table.add_row(
            call.region,
            names_text(call.sites, _NAMED_AT_MOST) or "-",
            names_text([f"{item.name} {item.type}" for item in call.uploads], _NAMED_AT_MOST)
            or "-",
            names_text([f"{item.name} {item.type}" for item in call.downloads], _NAMED_AT_MOST)
            or "-",
            f"{len(call.parameters)}, {size_text(weights)}" if call.parameters else "-",
        )
    console.print(table)
    sums = _sums(calls)
    console.print(
        f"{count_text(sums['sites'], 'site')} in {count_text(sums['regions'], 'region')} "
        f"({count_text(sums['functions'], 'function')}); "
        f"{count_text(sums['uploads'], 'value')} to the device, "
        f"{sums['downloads']} back, {size(sums['bytes'])}"
    )
