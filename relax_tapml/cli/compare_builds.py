"""``relax-tapml compare-builds``: one suite with two builds, and what changes between them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from relax_tapml.cli.trust import TRUST_HELP
from relax_tapml.errors import UsageError


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "compare-builds",
        help="find what got worse between two TVMs, option sets, pipelines or devices",
        description="Run a carved suite with two builds, the first --on being what was and the "
        "second what is, and list per unit what changed: verdict, error, speed. Exit codes: 0 no "
        "regression, 1 a unit that passed is wrong or does not build (or is slower, with "
        "--fail-slower), 2 usage, 3 inconclusive.",
    )
    parser.add_argument("suite", type=Path, metavar="SUITE", help="an output folder, or its tests")
    parser.add_argument(
        "--on",
        action="append",
        default=[],
        metavar="BUILD",
        help="KEY=VALUE,KEY=VALUE with the keys target, python (an interpreter of another "
        "environment), session, pipeline (MODULE:ATTR), name and env:NAME; or a .toml or .json "
        "file with them. Given twice",
    )
    parser.add_argument(
        "--unit", action="append", metavar="NAME", help="only this unit; may be repeated"
    )
    parser.add_argument("--no-speed", action="store_true", help="do not time the units")
    parser.add_argument(
        "--threshold",
        type=float,
        default=10.0,
        metavar="PERCENT",
        help="how much slower or faster counts, beyond the spread of rounds (default: 10)",
    )
    parser.add_argument("--fail-slower", action="store_true", help="a slower unit is a regression")
    parser.add_argument(
        "--repeat",
        type=int,
        default=1,
        metavar="N",
        help="run each case N times; a unit that fails now and then is flaky (default: 1)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long one call on the device may take (default: 60)",
    )
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--junit", type=Path, metavar="FILE", help="write JUnit XML, for CI systems"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from relax_tapml.two_builds.build_spec import parse_build

    if len(args.on) != 2:
        raise UsageError(
            f"compare-builds: expected --on twice, got it {len(args.on)} times. Write, for "
            "example, --on target=llvm,name=old,python=OLD/bin/python --on target=llvm,name=new"
        )
    if args.fail_slower and args.no_speed:
        raise UsageError("--fail-slower needs the units timed: leave out --no-speed")
    first, second = map(parse_build, args.on)
    from relax_tapml.cli.compared_builds import print_comparison
    from relax_tapml.cli.progress import Progress
    from relax_tapml.report.junit import write_junit
    from relax_tapml.report.quantities import count_text
    from relax_tapml.results.json_codec import encode
    from relax_tapml.two_builds.compare_builds import compare_builds  # imports TVM

    with Progress().stage("compare") as stage:
        found = compare_builds(
            args.suite,
            first,
            second,
            units=args.unit,
            is_timed=not args.no_speed,
            threshold=args.threshold / 100,
            is_slower_regression=args.fail_slower,
            repeat=args.repeat,
            timeout_s=args.timeout,
            trust=args.trust,
            on_step=stage.say,
        )
        stage.say(count_text(len(found.units), "unit"))
    if args.junit is not None:
        write_junit(found, args.junit)
    if args.json:
        json.dump(encode(found), sys.stdout, indent=1, allow_nan=False)
        sys.stdout.write("\n")
    else:
        print_comparison(found)
    return int(found.exit_code)
