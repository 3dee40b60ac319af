"""``relax-tapml replay``: each unit of a suite alone on a device, or of suites on targets."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_tapml.cli.matrix import matrix_document, print_matrix
from relax_tapml.cli.progress import Progress
from relax_tapml.cli.trust import TRUST_HELP
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import UsageError
from relax_tapml.report.findings import suspicions, tolerance_text, unjudged_text
from relax_tapml.report.quantities import count_text, number_text, seconds_text, size_text
from relax_tapml.results.replay_document import report_document

if TYPE_CHECKING:
    from relax_tapml.replay.fleet.device_record import DeviceRecord
    from relax_tapml.replay.matrix import Cell, Column


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "replay",
        help="run a carved suite on a device",
        description="Run each unit of a carved suite alone on a device and compare it with what "
        "was recorded: on one target, or suites of several models on several targets, as one "
        "matrix. Exit codes: 0 all pass, 1 a unit is wrong, 2 usage, 3 inconclusive.",
    )
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="DIR", help="an output folder, or its tests"
    )
    parser.add_argument("--target", help="TVM target string or JSON")
    parser.add_argument(
        "--on",
        action="append",
        default=[],
        metavar="TARGET=SESSION",
        help="a target and where it is, instead of --target and --session; may be repeated",
    )
    parser.add_argument(
        "--session",
        default="process",
        help="process (default), inline, rpc:HOST:PORT or tracker:HOST:PORT:KEY, which spreads the "
        "units over all free devices of the key",
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
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from relax_tapml.replay.replay import replay  # imports TVM

    options = {
        "device_pipeline": args.device_pipeline,
        "timeout_s": args.timeout,
        "units": args.unit,
        "repeat": args.repeat,
        "trust": args.trust,
    }
    if args.on or len(args.folders) > 1:
        return _run_matrix(args, options)
    _check_target(args)
    report = replay(args.folders[0], target=args.target, session=args.session, **options)
    if args.json:
        _print_json(report_document(report))
        return int(report.exit_code)
    for unit in report.details.values():
        if unit.verdict is not Verdict.PASS:
            reason = "not judged" if unit.unit in report.unjudged else unit.reason
            sys.stdout.write(f"{unit.unit}: {unit.verdict}: {reason}\n")
            worst = unit.worst
            if worst is not None and worst.total:
                tolerance = tolerance_text(worst.allowed, worst.tolerance.origin)
                sys.stdout.write(f"  error {number_text(worst.error)}, {tolerance}\n")
            if unit.device and len(report.devices) > 1:
                sys.stdout.write(f"  on {unit.device}\n")
        elif unit.precision:
            sys.stdout.write(f"{unit.unit}: {unit.verdict}, low precision: {unit.precision}\n")
    if len(report.devices) > 1:
        for name, record in report.devices.items():
            sys.stdout.write(f"device {name}: {_work(record)}\n")
    for said in suspicions({name: asdict(record) for name, record in report.devices.items()}):
        sys.stdout.write(f"{said}\n")
    if report.unjudged:
        sys.stdout.write(f"{unjudged_text(report.unjudged, report.unavailable)}\n")
    blunt = [unit.unit for unit in report.details.values() if unit.blunt]
    if blunt:
        counted = f"{len(blunt)} of {count_text(len(report.units), 'unit')}"
        sys.stdout.write(f"{counted} inconclusive, their cases are blunt: {', '.join(blunt)}\n")
    passed = sum(verdict is Verdict.PASS for verdict in report.units.values())
    sys.stdout.write(f"{passed} of {len(report.units)} units pass alone on {args.target}\n")
    return int(report.exit_code)


def _run_matrix(args: argparse.Namespace, options: dict[str, Any]) -> int:
    from relax_tapml.replay.matrix import Column, replay_matrix  # imports TVM

    columns = [Column.parse(text) for text in args.on]
    if not columns:
        _check_target(args)
        columns = [Column(target=args.target, session=args.session)]
    elif args.target:
        raise UsageError("--target and --on: give --on for each target")
    if args.unit and len(args.folders) > 1:
        raise UsageError("--unit is for one suite")
    with Progress().stage("replay") as stage:
        total = len(args.folders) * len(columns)
        done = 0

        def on_cell(suite: Path, column: Column, cell: Cell) -> None:
            nonlocal done
            done += 1
            stage.update(done, total)
            stage.say(f"{suite} on {column.target}: {cell.passed} units pass")

        matrix = replay_matrix(args.folders, columns, on_cell=on_cell, **options)
        stage.say(
            f"{count_text(len(args.folders), 'suite')} on {count_text(len(columns), 'target')}"
        )
    if args.json:
        _print_json(matrix_document(matrix))
    else:
        print_matrix(matrix)
    return int(matrix.exit_code)


def _check_target(args: argparse.Namespace) -> None:
    if not args.target:
        raise UsageError("replay: give --target, or --on TARGET=SESSION once or more")


def _print_json(document: dict[str, Any]) -> None:
    json.dump(document, sys.stdout, indent=1, allow_nan=False)
    sys.stdout.write("\n")


def _work(record: DeviceRecord) -> str:
    moved = f"{size_text(record.traffic.total)} moved"
    told = [count_text(record.units, "unit"), seconds_text(record.seconds), moved]
    if record.faults:
        told.append(count_text(record.faults, "fault"))
    if record.lost:
        told.append(f"lost: {record.lost}")
    return ", ".join(told)
