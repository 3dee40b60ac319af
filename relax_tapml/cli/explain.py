"""``relax-tapml explain``: what runs on the device for a boundary, and what crosses for it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_tapml.cli.trust import TRUST_HELP
from relax_tapml.errors import UsageError
from relax_tapml.printable import names_text

if TYPE_CHECKING:
    from relax_tapml.crossings import DeviceCall

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
    from relax_tapml.results.calls_file import LAST_GOOD, calls_file, read_calls

    boundaries: Path = args.folder / "boundaries"
    model = _Model(args.folder, is_trusted=args.trust)
    steps: dict[int, Sequence[DeviceCall]] = {}
    calls: Sequence[DeviceCall] | None = None
    if args.boundary is not None:
        calls = model.explain(args.boundary)
    elif args.step is not None:
        path = boundaries / f"{args.step:03d}.json"
        calls = read_calls(calls_file(path))
        calls = model.explain(path) if calls is None else calls
    else:
        model.require()
        paths = sorted(boundaries.glob("[0-9][0-9][0-9]*.json"))
        for path in paths:
            if path.stem.isdecimal():
                known = read_calls(calls_file(path))
                steps[int(path.stem)] = model.explain(path) if known is None else known
        bundle = args.folder / "bundle"
        if bundle.exists():
            calls = read_calls(boundaries / LAST_GOOD)
            calls = model.explain_bundle(bundle) if calls is None else calls
    if args.json:
        document = {
            "steps": [{"step": step, **_sums(crossing)} for step, crossing in steps.items()],
            "calls": None if calls is None else [asdict(call) for call in calls],
        }
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        _print(steps, calls)
    return 0


class _Model:
    """The lowered module of a run, read when a boundary must be partitioned to be explained."""

    def __init__(self, folder: Path, *, is_trusted: bool) -> None:
        self._path = folder / "lowered.json"
        self._folder = folder
        self._is_trusted = is_trusted
        self._module: Any = None

    def require(self) -> None:
        """Raise ``UsageError`` unless the folder is one of a run."""
        if not self._path.exists():
            raise UsageError(
                f"{self._folder} has no lowered.json: expected the output folder of "
                "`python -m relax_tapml.build`"
            )

    def explain(self, boundary: Path) -> Sequence[DeviceCall]:
        """Return the device calls of a boundary in a file."""
        from relax_tapml.partition.boundary import read_boundary  # imports TVM
        from relax_tapml.partition.program import explain

        return explain(self._lowered(), read_boundary(boundary))

    def explain_bundle(self, bundle: Path) -> Sequence[DeviceCall]:
        """Return the device calls of a bundle."""
        from relax_tapml.partition.bundle import read_bundle_boundary  # imports TVM
        from relax_tapml.partition.program import explain

        return explain(self._lowered(), read_bundle_boundary(bundle))

    def _lowered(self) -> Any:
        from relax_tapml.files.read import MAX_JSON_BYTES, read_bytes
        from relax_tapml.foreign.module import read_module

        if self._module is None:
            self.require()
            fix = "Run the build again"
            data = read_bytes(self._path, fix=fix, max_bytes=MAX_JSON_BYTES)
            self._module = read_module(data, str(self._path), fix=fix, trust=self._is_trusted)
        return self._module


def _sums(calls: Sequence[DeviceCall]) -> dict[str, Any]:
    from relax_tapml.crossings import bytes_of

    return {
        "sites": sum(len(call.sites) for call in calls),
        "regions": len(calls),
        "functions": len({call.region for call in calls}),
        "uploads": sum(len(call.uploads) for call in calls),
        "downloads": sum(len(call.downloads) for call in calls),
        "bytes": bytes_of(calls),
    }


def _print(steps: dict[int, Sequence[DeviceCall]], calls: Sequence[DeviceCall] | None) -> None:
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
        for step, made in steps.items():
            *counts, total = _sums(made).values()
            table.add_row(str(step), *map(str, counts), size(total))
        console.print(table)
    if calls is None:
        return
    if steps:
        console.print("\nThe last good one:")
    table = Table("region", box=None)
    table.add_column("calls", justify="right")
    for name in ("sites", "to the device", "to the host", "weights"):
        table.add_column(name)
    by_region: dict[str, list[DeviceCall]] = {}
    for call in calls:
        by_region.setdefault(call.region, []).append(call)
    for region, same in by_region.items():
        table.add_row(region, str(len(same)), *_row(same))
    console.print(table)
    sums = _sums(calls)
    console.print(
        f"{count_text(sums['sites'], 'site')} in {count_text(sums['regions'], 'region')} "
        f"({count_text(sums['functions'], 'function')}); "
        f"{count_text(sums['uploads'], 'value')} to the device, "
        f"{sums['downloads']} back, {size(sums['bytes'])}"
    )


def _row(calls: Sequence[DeviceCall]) -> tuple[str, ...]:
    """Return the texts of the calls of one region: sites, both directions, and weights."""
    from relax_tapml.report.quantities import size_text

    sites = [site for call in calls for site in call.sites]
    uploads = [f"{item.name} {item.type}" for call in calls for item in call.uploads]
    downloads = [f"{item.name} {item.type}" for call in calls for item in call.downloads]
    weights = [item.size_bytes or 0 for call in calls for item in call.parameters]
    return (
        *(names_text(names, _NAMED_AT_MOST) or "-" for names in (sites, uploads, downloads)),
        f"{len(weights)}, {size_text(sum(weights))}" if weights else "-",
    )
