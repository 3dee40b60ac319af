"""The ``relax-tapml`` command: one subcommand per file."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

from relax_tapml.cli import (
    build,
    capture,
    compare_builds,
    doctor,
    explain,
    fleet,
    merge,
    repair,
    replay,
    report,
    reproduce,
    verify,
)
from relax_tapml.cli.exit import guarded, parsed

_COMMANDS = {
    "build": build,
    "capture": capture,
    "replay": replay,
    "compare-builds": compare_builds,
    "explain": explain,
    "report": report,
    "reproduce": reproduce,
    "repair": repair,
    "verify": verify,
    "merge": merge,
    "doctor": doctor,
    "fleet": fleet,
}


def parser() -> ArgumentParser:
    """Return the parser of the command line."""
    parser = ArgumentParser(
        prog="relax-tapml",
        description="Bring a model up on a target (build), or do parts of it, one at a time.",
        epilog="Exit codes: 0 pass, 1 mismatch or crash found, 2 usage, 3 inconclusive, "
        "70 internal, 130, 143 and 129 ended by Ctrl-C, SIGTERM and SIGHUP.",
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS.values():
        command.add_parser(subparsers)
    for subparser in subparsers.choices.values():
        subparser.add_argument("--verbose", action="store_true", help="show tracebacks")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; wrong usage exits with 2."""
    args = parsed(parser(), argv)
    # As python -m relax_tapml.build does.
    is_folded = args.command == "build"
    return guarded(_COMMANDS[args.command].run, is_folded=is_folded)(args)
