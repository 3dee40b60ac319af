"""``relax-tapml repair``: kernels that are right in the place of those that failed in a run."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_tapml.cli.trust import TRUST_HELP
from relax_tapml.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from relax_tapml.repair.tried import Tried, UnitRepair

_FOLDER = "repairs"


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "repair",
        help="look for kernels that are right, where units of a run failed",
        description="For each unit of a run that is wrong on its target or does not build, make "
        "its kernel in other ways and judge each alone: without what the device pipeline did, "
        "without fast math, with other schedules, with functions written otherwise. What is right "
        "tells in which layer the fault is, and is written to DIR/repairs as a Relax pass. Exit "
        "codes: 0 every failing unit has a repair, or none fails; 1 one has none; 2 usage; 3 "
        "inconclusive, as where a culprit of the run is right alone.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="an output folder")
    parser.add_argument(
        "units", nargs="*", metavar="UNIT", help="which units (default: those that failed)"
    )
    parser.add_argument("--session", help="where the device is (default: where the run had it)")
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long one call on the device may take (default: 60)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="for all units together: no alternative is begun later (default: 300)",
    )
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from relax_tapml.bringup.repair_run import repair_run
    from relax_tapml.results.json_codec import encode
    from relax_tapml.results.repair_result import SearchDocument

    if args.budget <= 0:
        raise UsageError(f"--budget {args.budget:g}: expected seconds above 0")
    say = sys.stderr.write

    def on_tried(unit: str, tried: Tried) -> None:
        say(f"{unit}: {tried.verdict} {tried.text}\n")

    found = repair_run(
        args.folder,
        args.folder / _FOLDER,
        units=args.units or None,
        session=args.session,
        timeout_s=args.timeout,
        budget_s=args.budget,
        trust=args.trust,
        on_tried=on_tried,
    )
    if args.json:
        document = SearchDocument(units=tuple(one.result for one in found))
        sys.stdout.write(json.dumps(encode(document), indent=1) + "\n")
    else:
        _print(found, args.folder)
    if any(one.verdict.is_wrong and not one.chosen for one in found):
        return int(ExitCode.MISMATCH)
    # What is right alone was wrong in the run: nothing here says why.
    is_open = any(not one.verdict.is_wrong for one in found) and not args.units
    return int(ExitCode.INCONCLUSIVE if is_open else ExitCode.PASS)


def _print(found: list[UnitRepair], folder: Path) -> None:
    from relax_tapml.results.result_file import read_result

    write = sys.stdout.write
    if not found:
        write("no unit of the run failed\n")
        return
    for one in found:
        if not one.verdict.is_wrong:
            write(f"{one.unit}: {one.verdict} alone, so there is nothing to repair\n")
            if one.reason:
                write(f"  {one.reason}\n")
            continue
        end = f"repaired by {one.chosen}{_speed(one)}" if one.chosen else "no repair found"
        write(f"{one.unit}: {one.verdict}, {end}\n  {one.reason}\n")
        write(f"  fault: {one.layer}: {one.text}\n")
        for name, why in one.unmade.items():
            write(f"  not judged: {name}: {why}\n")
    if any(one.chosen for one in found):
        own = read_result(folder).device_pipeline
        passes = [*([own] if own else []), f"{folder / _FOLDER}:pipeline"]
        write(
            f"written: {folder / _FOLDER}\n"
            f"run the build again with: --device-pipeline {shlex.quote(','.join(passes))}\n"
        )


def _speed(one: UnitRepair) -> str:
    """Return how long a call takes with the repair and without; empty where it is not known."""
    from relax_tapml.report.quantities import call_text

    call_s = next(tried.call_s for tried in one.tried if tried.name == one.chosen)
    text = call_text(call_s, one.call_s)
    return f" ({text})" if text else ""
