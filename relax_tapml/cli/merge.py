"""``relax-tapml merge``: the suites of several models as one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from relax_tapml.cli.trust import TRUST_HELP
from relax_tapml.printable import names_text

_SHOWN = 5


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "merge",
        help="merge suites of several models into one, without duplicates",
        description="Merge suites that were recorded on the same target. Units whose kernels are "
        "equal become one, equal cases and tensors are kept once, and a unit that only has the "
        "name of another gets the name of its suite as suffix.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the merged suite")
    parser.add_argument(
        "suites", type=Path, nargs="+", metavar="SUITE", help="an output folder, or its tests"
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from relax_tapml.suite.merge import merge_suites  # imports TVM

    merged = merge_suites(args.out, args.suites, replace=args.force, trust=args.trust)
    for name, units in merged.manifest.merged_from.items():
        renamed = [f"{old} -> {new}" for new, old in units.items() if new != old]
        note = f", renamed: {names_text(renamed, _SHOWN)}" if renamed else ""
        sys.stdout.write(f"{name}: {len(units)} units{note}\n")
    cases = sum(len(unit.cases) for unit in merged.manifest.units.values())
    sys.stdout.write(
        f"{args.out}: {len(merged.manifest.merged_from)} suites, "
        f"{len(merged.manifest.units)} units, {cases} cases, {merged.size_bytes} bytes; "
        f"duplicates removed: {merged.equal_units} units, {merged.equal_cases} cases, "
        f"{merged.equal_tensors} tensors\n"
    )
    return 0
