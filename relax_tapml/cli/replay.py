"""``relax-tapml replay``: each unit of a suite alone on a device, or of suites on targets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from relax_tapml.cli.trust import TRUST_HELP
from relax_tapml.errors import UsageError


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
    on = _columns(args)
    from relax_tapml.cli.replayed import print_replay, run_matrix
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
        return run_matrix(args.folders, on, options, as_json=args.json)
    report = replay(args.folders[0], target=args.target, session=args.session, **options)
    print_replay(replay_result(report), args.target, as_json=args.json)
    return int(report.exit_code)


def _columns(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Return targets and their sessions; wrong usage is told before TVM is imported."""
    if args.on and args.target:
        raise UsageError("--target and --on: give --on for each target")
    if not args.on and not args.target:
        raise UsageError("replay: give --target, or --on TARGET=SESSION once or more")
    if args.unit and len(args.folders) > 1:
        raise UsageError("--unit: expected one suite, got several")
    return [_column(text) for text in args.on] or [(args.target, args.session)]


def _column(text: str) -> tuple[str, str]:
    target, equals, session = text.rpartition("=")
    if not equals or not target:
        raise UsageError(f"--on {text}: expected TARGET=SESSION, such as llvm=process")
    return target, session
