"""``relax-tapml report``: write the page of a finished run again and print its findings."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path

from relax_tapml.errors import ExitCode


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "report", help="print the findings of a finished run and write DIR/report.html again"
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="output folder of a build")
    parser.add_argument(
        "--all", action="store_true", help="list the units that pass and all metrics, too"
    )
    parser.add_argument("--json", action="store_true", help="print result.json instead")


def run(args: Namespace) -> int:
    """Render ``DIR/report.html`` from ``DIR/result.json``; 0 whatever the verdict was."""
    from relax_tapml.cli.present import present  # imports rich
    from relax_tapml.report.page import render
    from relax_tapml.results.json_codec import encode
    from relax_tapml.results.result_file import read_result

    result = read_result(args.folder)
    render(result, out=args.folder)
    if args.json:
        sys.stdout.write(json.dumps(encode(result)) + "\n")
    else:
        present(result, out=args.folder, show_all=args.all)
    return ExitCode.PASS
