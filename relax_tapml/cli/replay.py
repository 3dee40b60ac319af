"""``relax-tapml replay``: each unit of a suite alone on a device."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_tapml.compare.verdict import Verdict
from relax_tapml.migrate.json_number import json_number
from relax_tapml.report.findings import tolerance_text
from relax_tapml.report.quantities import number_text

if TYPE_CHECKING:
    from relax_tapml.carve.replay import UnitReplay


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "replay",
        help="run a carved suite on a device",
        description="Run each unit of a carved suite alone on a device and compare it with what "
        "was recorded. Exit codes: 0 all pass, 1 a unit is wrong, 2 usage, 3 inconclusive.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="an output folder, or its tests")
    parser.add_argument("--target", required=True, help="TVM target string or JSON")
    parser.add_argument(
        "--session",
        default="process",
        help="process (default), inline, rpc:HOST:PORT or tracker:HOST:PORT:KEY",
    )
    parser.add_argument(
        "--device-pipeline", metavar="MODULE:ATTR", help="a Relax pass applied to the units"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long one call on the device may take (default: 60)",
    )
    parser.add_argument(
        "--unit", action="append", metavar="NAME", help="only this unit; may be repeated"
    )
    parser.add_argument(
        "--repeat",
        type=int,
        default=1,
        metavar="N",
        help="run each case N times; a unit that fails now and then is flaky (default: 1)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from relax_tapml.carve.replay import replay  # imports TVM

    report = replay(
        args.folder,
        target=args.target,
        session=args.session,
        device_pipeline=args.device_pipeline,
        timeout_s=args.timeout,
        units=args.unit,
        repeat=args.repeat,
    )
    if args.json:
        units = [_document(unit) for unit in report.details.values()]
        json.dump({"schema": 2, "units": units}, sys.stdout, indent=1, allow_nan=False)
        sys.stdout.write("\n")
        return int(report.exit_code)
    for unit in report.details.values():
        if unit.verdict is not Verdict.PASS:
            sys.stdout.write(f"{unit.unit}: {unit.verdict}: {unit.reason}\n")
            worst = unit.worst
            if worst is not None and worst.total:
                tolerance = tolerance_text(worst.allowed, worst.tolerance.origin)
                sys.stdout.write(f"  error {number_text(worst.error)}, {tolerance}\n")
    passed = sum(verdict is Verdict.PASS for verdict in report.units.values())
    sys.stdout.write(f"{passed} of {len(report.units)} units pass alone on {args.target}\n")
    return int(report.exit_code)


def _document(unit: UnitReplay) -> dict[str, Any]:
    from relax_tapml.migrate.result import allowed_number, metrics_document  # imports TVM

    worst = unit.worst
    return {
        "name": unit.unit,
        "verdict": unit.verdict,
        "reason": unit.reason,
        "runs": unit.runs,
        "failures": unit.failures,
        "error": None if worst is None else json_number(worst.error),
        "tolerance": None if worst is None else allowed_number(worst),
        "origin": None if worst is None else worst.tolerance.origin,
        "cases": [
            {
                "name": case.case.name,
                "site": case.case.site,
                "verdict": case.verdict,
                "reason": case.reason,
                "outputs": [
                    {
                        "verdict": item.verdict,
                        "error": json_number(item.error),
                        "tolerance": allowed_number(item),
                        "origin": item.tolerance.origin,
                        "metrics": metrics_document(item),
                    }
                    for item in case.comparisons
                ],
            }
            for case in unit.cases
        ],
    }
