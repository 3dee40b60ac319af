"""``relax-tapml reproduce``: one unit of a suite as a file to paste into a bug report."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "reproduce",
        help="write one unit as a script that needs only TVM and NumPy",
        description="Write a case of a unit as one Python file and one safetensors file, for a "
        "bug report: the unit's TVMScript, to be read and edited, which the script builds, runs "
        "and compares with the oracle. It needs nothing but TVM and NumPy.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="an output folder, or its tests")
    parser.add_argument("unit", metavar="UNIT", help="name of the unit")
    parser.add_argument("--case", metavar="NAME", help="which case (default: the unit's first)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="where to write (default: here)",
    )
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from relax_tapml.carve.open_suite import open_suite  # imports TVM
    from relax_tapml.carve.reproducer import reproducer, write_reproducer

    suite = open_suite(args.folder)
    unit = suite.unit(args.unit)
    case = unit.cases[0] if args.case is None else suite.case(args.unit, args.case)
    made = reproducer(suite, args.unit, case)
    script = write_reproducer(made, args.output, replace=args.force)
    others = len(unit.cases) - 1
    if made.inexact:
        sys.stdout.write(f"the module is JSON, not TVMScript: {made.inexact}\n")
    note = f" ({others} more: choose with --case)" if others and args.case is None else ""
    sys.stdout.write(f"{script}: unit {args.unit}, case {case.name}{note}\n")
    data = script.with_suffix(".safetensors")
    sys.stdout.write(f"{data}: {data.stat().st_size} bytes\n")
    sys.stdout.write(f"run: {shlex.join(['python', str(script)])}\n")
    return 0
