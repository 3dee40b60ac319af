"""``relax-tapml replay``: each unit of a suite alone on a device, or of suites on targets."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from relax_tapml.cli.matrix import print_matrix
from relax_tapml.cli.progress import Progress
from relax_tapml.cli.trust import TRUST_HELP
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import UsageError
from relax_tapml.report.findings import suspicions, tolerance_text
from relax_tapml.report.quantities import count_text, number_text, seconds_text, size_text
from relax_tapml.results.device_result import DeviceResult
from relax_tapml.results.json_codec import encode
from relax_tapml.results.matrix_result import CellResult, Column, MatrixResult
from relax_tapml.results.replay_result import ReplayResult
from relax_tapml.results.unit_result import ReplayedUnit


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "replay",
        help="run a carved suite on a device",
        description="Run each unit of a carved suite alone on a device and compare its outputs "
        "with the recorded ones: one suite on one target, or several suites on several targets, "
        "as a matrix. Exit codes: 0 all pass, 1 a unit is wrong, 2 usage, 3 inconclusive.",
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
    from relax_tapml.replays.replay import replay  # imports TVM
    from relax_tapml.replays.results import replay_result

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
    result = replay_result(report)
    if args.json:
        _print_json(result)
    else:
        _print(result, args.target)
    return int(report.exit_code)


def _print(result: ReplayResult, target: str) -> None:
    has_devices = len(result.devices) > 1
    explained: dict[str, list[str]] = {}
    for unit in result.units:
        text = _explained(unit, has_devices=has_devices)
        if text:
            explained.setdefault(text, []).append(unit.name)
    for text, names in explained.items():
        sys.stdout.write(f"{', '.join(names)}: {text}\n")
    for name, device in result.devices.items() if has_devices else ():
        sys.stdout.write(f"device {name}: {_work(device)}\n")
    for sentence in suspicions(result.devices):
        sys.stdout.write(f"{sentence}\n")
    passed = sum(unit.verdict is Verdict.PASS for unit in result.units)
    passes = "passes" if passed == 1 else "pass"
    total = count_text(len(result.units), "unit")
    sys.stdout.write(f"{passed} of {total} {passes} alone on {target}\n")


def _explained(unit: ReplayedUnit, *, has_devices: bool) -> str:
    """Return why a unit does not pass, or passes with low precision; empty otherwise."""
    if unit.verdict is Verdict.PASS:
        return f"pass, low precision: {unit.precision_reason}" if unit.precision else ""
    text = f"{unit.verdict}: {unit.reason}"
    if unit.tolerance is not None:
        tolerance = tolerance_text(unit.tolerance, unit.tolerance_origin)
        text += f"\n  error {number_text(unit.error)}, {tolerance}"
    return f"{text}\n  on {unit.device}" if unit.device and has_devices else text


def _run_matrix(args: argparse.Namespace, options: dict[str, Any]) -> int:
    from relax_tapml.replays.matrix import replay_matrix  # imports TVM

    columns = [_column(text) for text in args.on]
    if not columns:
        _check_target(args)
        columns = [Column(target=args.target, session=args.session)]
    elif args.target:
        raise UsageError("--target and --on: give --on for each target")
    if args.unit and len(args.folders) > 1:
        raise UsageError("--unit: expected one suite, got several")
    with Progress().stage("replay") as stage:
        done: list[CellResult] = []

        def on_cell(cell: CellResult) -> None:
            done.append(cell)
            stage.update(len(done), len(args.folders) * len(columns))
            passed = f"{cell.passed} of {count_text(len(cell.units), 'unit')}"
            stage.say(f"{cell.suite} on {cell.target}: passed {passed}")

        matrix = replay_matrix(args.folders, columns, on_cell=on_cell, **options)
        stage.say(
            f"{count_text(len(args.folders), 'suite')} on {count_text(len(columns), 'target')}"
        )
    if args.json:
        _print_json(matrix)
    else:
        print_matrix(matrix)
    return int(matrix.exit_code)


def _check_target(args: argparse.Namespace) -> None:
    if not args.target:
        raise UsageError("replay: give --target, or --on TARGET=SESSION once or more")


def _column(text: str) -> Column:
    target, equals, session = text.rpartition("=")
    if not equals or not target:
        raise UsageError(f"--on {text}: expected TARGET=SESSION, such as llvm=process")
    return Column(target=target, session=session)


def _print_json(result: ReplayResult | MatrixResult) -> None:
    json.dump(encode(result), sys.stdout, indent=1, allow_nan=False)
    sys.stdout.write("\n")


def _work(device: DeviceResult) -> str:
    parts = [
        count_text(device.units, "unit"),
        seconds_text(device.seconds),
        f"{size_text(device.traffic.total)} moved",
    ]
    if device.faults:
        parts.append(count_text(device.faults, "fault"))
    if device.lost:
        parts.append(f"lost: {device.lost}")
    return ", ".join(parts)
