"""``relax-tapml verify``: judge a kernel that somebody wrote for a unit of a suite."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from relax_tapml.cli.trust import TRUST_HELP
from relax_tapml.errors import ExitCode, UsageError


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "verify",
        help="judge a kernel that you wrote for a unit",
        description="Judge a kernel by the cases of a unit of a suite, and by others that are made "
        "for this call alone and never shown; time it beside the unit's own kernel if it passes. "
        "Exit codes: 0 it passes, 1 it is wrong, 2 usage, which is also another interface, 3 "
        "inconclusive.",
    )
    parser.add_argument("suite", type=Path, metavar="SUITE", help="an output folder, or its tests")
    parser.add_argument(
        "unit", nargs="?", metavar="UNIT", help="the unit that the kernel is for; not with --serve"
    )
    parser.add_argument(
        "--kernel",
        metavar="FILE[:NAME]",
        help="a PrimFunc or IRModule (.py in TVMScript, .json of tvm.ir.save_json), or a function "
        "of NumPy arrays or, in a file that imports torch or triton, of torch tensors; a .py is "
        "imported in a process of its own, with your rights; source (.cu, .cl) with its launch "
        "in comments; or a function of a shared library (.so)",
    )
    parser.add_argument("--target", required=True, help="TVM target string or JSON")
    parser.add_argument(
        "--session",
        default="process",
        help="where the device is: process (default), inline, rpc:HOST:PORT or "
        "tracker:HOST:PORT:KEY; a Python function always runs on this machine",
    )
    parser.add_argument(
        "--repeat",
        type=int,
        default=2,
        metavar="N",
        help="run each case N times (default: 2)",
    )
    parser.add_argument(
        "--held-out",
        type=int,
        default=8,
        metavar="N",
        help="hold out N cases of recorded shapes, and others at boundary shapes (default: 8)",
    )
    parser.add_argument("--no-speed", action="store_true", help="do not time a kernel that passes")
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long one call may take (default: 60)",
    )
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--serve",
        action="store_true",
        help="serve the tools verify, unit, cases and reproduce over standard input and output by "
        "the Model Context Protocol (extra mcp), until standard input ends",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("reproduced"),
        metavar="DIR",
        help="where --serve writes reproducers, and nothing else (default: reproduced)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    if args.serve:
        return _serve(args)
    if args.unit is None or args.kernel is None:
        raise UsageError("verify: give UNIT and --kernel FILE[:NAME], or --serve")
    from relax_tapml.cli.verified import print_report
    from relax_tapml.judge_kernel.verify_kernel import verify  # imports TVM

    report = verify(
        args.suite,
        args.unit,
        args.kernel,
        target=args.target,
        session=args.session,
        repeat=args.repeat,
        held_out=args.held_out,
        is_timed=not args.no_speed,
        timeout_s=args.timeout,
        trust=args.trust,
    )
    print_report(report, as_json=args.json)
    return int(report.exit_code)


def _serve(args: argparse.Namespace) -> int:
    if args.unit is not None or args.kernel is not None or args.json:
        raise UsageError("--serve: give SUITE, and no UNIT, --kernel or --json, which clients give")
    from relax_tapml.judge_kernel.serve import server  # imports TVM

    server(
        args.suite,
        args.target,
        args.out,
        session=args.session,
        timeout_s=args.timeout,
        trust=args.trust,
    ).run("stdio")
    return int(ExitCode.PASS)
