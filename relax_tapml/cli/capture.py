"""``relax-tapml capture ls DIR``: list the content of a capture store."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_tapml.errors import ExitCode
from relax_tapml.report.quantities import size_text

if TYPE_CHECKING:
    from relax_tapml.capture.store import CaptureStore

_OUTPUT_SUBFOLDER = "captures"


def add_parser(subparsers: Any) -> None:
    """Add the command to ``argparse`` subparsers."""
    parser = subparsers.add_parser("capture", help="look into a capture store")
    actions = parser.add_subparsers(dest="action", required=True)
    ls = actions.add_parser("ls", help="list samples, sites and sizes")
    ls.add_argument("folder", metavar="DIR", type=Path, help="a store, or a build's output folder")
    ls.add_argument("--json", action="store_true", help="for machines, on standard output")
    ls.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List a store; return the exit code.

    Raises
    ------
    StoreError
        There is no store, or it cannot be read.
    """
    from relax_tapml.capture.index import INDEX_FILE
    from relax_tapml.capture.store import CaptureStore  # imports TVM

    folder: Path = args.folder
    if not (folder / INDEX_FILE).exists() and (folder / _OUTPUT_SUBFOLDER).is_dir():
        folder = folder / _OUTPUT_SUBFOLDER
    with CaptureStore.open(folder) as store:
        summary = _summary(store)
    if args.json:
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        _print(summary)
    return ExitCode.PASS


def _summary(store: CaptureStore) -> dict[str, Any]:
    incomplete = set(store.incomplete_samples())
    calls = Counter(call.site for call in store.calls())
    units = {site.site: site.unit for site in store.sites()}
    return {
        "folder": str(store.folder),
        "manifest": store.manifest,
        "stats": asdict(store.stats()),
        "samples": [{"name": name, "complete": name not in incomplete} for name in store.samples()],
        "sites": [
            {"site": site, "unit": units.get(site), "calls": calls[site]}
            for site in sorted(units.keys() | calls.keys())
        ],
    }


def _print(summary: dict[str, Any]) -> None:
    from rich.table import Table

    from relax_tapml.cli.console import console_of

    stats = summary["stats"]
    console = console_of(soft_wrap=True)
    console.print(
        f"{summary['folder']}: {stats['calls']} calls of {len(summary['sites'])} sites, "
        f"{stats['tensors']} distinct tensors, {stats['parameters']} parameters"
    )
    console.print(
        f"{size_text(stats['activation_bytes'])} of activations stored, "
        f"{size_text(stats['seen_bytes'])} seen; "
        f"{size_text(stats['parameter_bytes'])} of parameters; "
        f"{size_text(stats['disk_bytes'])} on disk"
    )
    manifest = summary["manifest"]
    if manifest.get("capture_calls", "all") != "all":
        console.print(f"captured with --capture-calls {manifest['capture_calls']}")
    if manifest.get("waited"):
        console.print(f"the GPU waited for each copy: {manifest['waited']}")
    for sample in summary["samples"]:
        state = "complete" if sample["complete"] else "incomplete: capture it again"
        console.print(f"sample {sample['name']}: {state}")
    table = Table("site", "unit", "calls", box=None)
    for site in summary["sites"]:
        table.add_row(site["site"], site["unit"] or "", str(site["calls"]))
    console.print(table)
