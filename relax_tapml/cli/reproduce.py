"""``relax-tapml reproduce``: one unit of a suite as a file to paste into a bug report."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_tapml.cli.trust import TRUST_HELP
from relax_tapml.errors import ExitCode, UsageError

if TYPE_CHECKING:
    import tvm

    from relax_tapml.cli.reproduced import RunRecord
    from relax_tapml.suite.manifest import SuiteCase
    from relax_tapml.suite.open_suite import Suite


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "reproduce",
        help="write one unit as a script that needs only TVM and NumPy",
        description="Write a case of a unit as one Python file and one safetensors file, for a "
        "bug report: the kernel that the run found wrong, as the device's pipeline made it, to be "
        "read and edited, which the script builds, runs and compares with the oracle. It needs "
        "nothing but TVM and NumPy, and is run once, to see that it shows the failure. The "
        "generated source of the kernel lies beside it. Exit codes: 0 written, 3 written, but it "
        "does not show here what the run found.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="an output folder, or its tests")
    parser.add_argument("unit", metavar="UNIT", help="name of the unit")
    parser.add_argument(
        "--case", metavar="NAME", help="which case (default: the one that failed, or the first)"
    )
    parser.add_argument(
        "--target", metavar="TARGET", help="TVM target (default: the run's; of a suite, its source)"
    )
    parser.add_argument(
        "--device-pipeline",
        metavar="MODULE:ATTR",
        help="a Relax pass applied to the units (default: what the run's pipeline returned)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="where to write (default: here)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="how long the script may take when it is run once (default: 120)",
    )
    parser.add_argument("--no-run", action="store_true", help="do not run the script")
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from relax_tapml.cli.reproduced import find_record, recorded_lines
    from relax_tapml.suite.open_suite import open_suite  # imports TVM
    from relax_tapml.suite.reproducer import Recorded, reproducer, write_reproducer
    from relax_tapml.targets.platforms.parse_target import parse_target

    record = find_record(args.folder)
    if args.unit.startswith("pass:"):
        raise UsageError(
            f"{args.unit} is a pass of the device's pipeline, and no unit: the whole module is "
            "wrong after it. A script can hold a unit only"
        )
    is_asked = record is None or not _is_of_run(args, record)
    suite = open_suite(args.folder, trust=args.trust)
    told = args.target or (record.target if record else suite.manifest.source)
    target = parse_target(told)
    suite = open_suite(args.folder, target, trust=args.trust)
    unit = suite.unit(args.unit)
    found = None if record is None or is_asked else record.units.get(args.unit)
    case = _case(args, suite, found)
    made = reproducer(
        suite,
        args.unit,
        case,
        implementation=_implementation(args, suite, target, record, found),
        target=target,
        recorded=None
        if found is None
        else Recorded(target=told, text=tuple(recorded_lines(found, told))),
    )
    script = write_reproducer(made, args.output, replace=args.force)
    say = sys.stdout.write
    others = len(unit.cases) - 1
    note = f" ({others} more: choose with --case)" if others and args.case is None else ""
    say(f"unit {args.unit}, case {case.name}{note}\n")
    if made.inexact:
        say(f"the module is JSON, not TVMScript: {made.inexact}\n")
    if found is not None:
        for line in recorded_lines(found, told):
            say(f"recorded: {line}\n")
    exit_code = _tried(args, script, target, record, found)
    data = script.with_suffix(".safetensors")
    say(f"written: {script}\n")
    say(f"written: {data}, {data.stat().st_size} bytes\n")
    if made.source is not None and made.source.text:
        say(f"written: {script.with_suffix(made.source.suffix)}, the generated source\n")
    if made.source is not None and made.source.missing:
        say(f"no generated source: {made.source.missing}\n")
    say(f"run: {shlex.join(['python', str(script)])}\n")
    return int(exit_code)


def _is_of_run(args: argparse.Namespace, record: RunRecord) -> bool:
    """Whether the kernel that the run had is what is asked for."""
    is_target = args.target in (None, record.target)
    return is_target and args.device_pipeline in (None, record.device_pipeline)


def _case(args: argparse.Namespace, suite: Suite, found: Mapping[str, Any] | None) -> SuiteCase:
    if args.case is not None:
        return suite.case(args.unit, args.case)
    cases = suite.unit(args.unit).cases
    failed = None if found is None else found.get("case")
    return next((case for case in cases if case.name == failed), cases[0])


def _implementation(
    args: argparse.Namespace,
    suite: Suite,
    target: Any,
    record: RunRecord | None,
    found: Mapping[str, Any] | None,
) -> tvm.IRModule:
    """Return the unit as the target's side has it."""
    from relax_tapml.bringup.run_folder import read_device_side
    from relax_tapml.compare.verdict import Verdict
    from relax_tapml.files.scratch import scratch_folder
    from relax_tapml.partition.kernel_library import KernelLibrary
    from relax_tapml.partition.pipeline import load_pipeline
    from relax_tapml.replay.unit.unit_programs import UnitPrograms

    side = None
    if found is not None and record is not None:
        if found["verdict"] == Verdict.SKIPPED:
            raise UsageError(f"unit {args.unit} was skipped in the run: {found.get('reason')}")
        side = read_device_side(record.folder, trust=args.trust)
    pipeline = args.device_pipeline
    if side is None and pipeline is None and record is not None and args.target is None:
        pipeline = record.device_pipeline
        if pipeline is not None and ":" not in pipeline:
            raise UsageError(
                f"{record.folder} does not hold the kernels of its run, whose device pipeline was "
                f"{pipeline!r}: give that as --device-pipeline MODULE:ATTR"
            )
    with scratch_folder() as folder:
        programs = UnitPrograms(
            suite,
            target=target,
            pipeline=None if side is not None else load_pipeline(pipeline),
            library=KernelLibrary(folder),
            units=[args.unit],
            side=side,
        )
        return programs.implementation(args.unit)


def _tried(
    args: argparse.Namespace,
    script: Path,
    target: Any,
    record: RunRecord | None,
    found: Mapping[str, Any] | None,
) -> ExitCode:
    """Run the script once, where that can be done here, and say what that showed."""
    from relax_tapml.cli.reproduced import is_in_context_only, shown
    from relax_tapml.compare.repeat import ROUNDS
    from relax_tapml.compare.verdict import Verdict
    from relax_tapml.suite.script_run import ScriptEnd, not_at_hand, run_script

    why = "--no-run was given" if args.no_run else not_at_hand(target)
    if why:
        sys.stdout.write(f"not run: {why}; so it is not known whether the script shows it\n")
        if found is not None and is_in_context_only(found):
            sys.stdout.write("alone the unit passed in the run, and a script runs it alone\n")
        return ExitCode.PASS
    is_flaky = found is not None and found["verdict"] == Verdict.FLAKY
    done = run_script(script, timeout_s=args.timeout)
    for _ in range(ROUNDS - 1 if is_flaky else 0):
        if done.end is not ScriptEnd.AGREES:
            break
        done = run_script(script, timeout_s=args.timeout)
    if done.end is not ScriptEnd.AGREES and done.last_line:
        sys.stdout.write(f"the script says: {done.last_line}\n")
    if found is None:
        sys.stdout.write(f"run once for {target.kind.name}: {done.told}\n")
        return ExitCode.PASS
    sentence, exit_code = shown(found, done)
    sys.stdout.write(f"run once for {target.kind.name}: {sentence}\n")
    if exit_code is not ExitCode.PASS and record is not None and record.session != "process":
        sys.stdout.write(f"the run's device was --session {record.session}\n")
    return exit_code
