"""``relax-tapml reproduce``: one unit of a suite as a file to paste into a bug report."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relax_tapml.cli.trust import TRUST_HELP
from relax_tapml.errors import ExitCode, UsageError

if TYPE_CHECKING:
    import tvm

    from relax_tapml.cli.reproduced import RunRecord
    from relax_tapml.results.unit_result import UnitResult
    from relax_tapml.suite.manifest import SuiteCase
    from relax_tapml.suite.open_suite import Suite


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "reproduce",
        help="write one unit as a script that needs only TVM and NumPy",
        description="Write a case of a unit as one Python file and one safetensors file, for a "
        "bug report. The script contains the kernel as the device's pipeline returned it, to be "
        "read and edited; it builds the kernel, runs it and compares the outputs with the oracle. "
        "It needs nothing but TVM and NumPy, and is run once, to check that it shows the failure. "
        "The generated source of the kernel is written beside it. Exit codes: 0 written, 3 "
        "written, but it does not show here what the run found.",
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
            f"{args.unit} is a pass of the device's pipeline, not a unit: the whole module is "
            "wrong after it. A script can only contain a unit"
        )
    suite = open_suite(args.folder, trust=args.trust)
    target_text = args.target or (record.result.target if record else suite.manifest.source)
    target = parse_target(target_text, record.result.session if record else "inline")
    suite = open_suite(args.folder, target, trust=args.trust)
    unit = suite.unit(args.unit)
    found = record.unit(args.unit) if record and _is_of_run(args, record) else None
    recorded = () if found is None else tuple(recorded_lines(found, target_text))
    case = _case(args, suite, found)
    made = reproducer(
        suite,
        args.unit,
        case,
        implementation=_implementation(args, suite, target, record, found),
        target=target,
        recorded=Recorded(target=target_text, text=recorded) if recorded else None,
    )
    script = write_reproducer(made, args.output, replace=args.force)
    write = sys.stdout.write
    others = len(unit.cases) - 1
    note = f" ({others} more: choose with --case)" if others and args.case is None else ""
    write(f"unit {args.unit}, case {case.name}{note}\n")
    if made.inexact:
        write(f"the module is JSON, not TVMScript: {made.inexact}\n")
    for line in recorded:
        write(f"recorded: {line}\n")
    exit_code = _tried(args, script, target, record, found)
    data = script.with_suffix(".safetensors")
    write(f"written: {script}\n")
    write(f"written: {data}, {data.stat().st_size} bytes\n")
    if made.source is not None and made.source.text:
        write(f"written: {script.with_suffix(made.source.suffix)}, the generated source\n")
    if made.source is not None and made.source.missing:
        write(f"no generated source: {made.source.missing}\n")
    write(f"run: {shlex.join(['python', str(script)])}\n")
    return int(exit_code)


def _is_of_run(args: argparse.Namespace, record: RunRecord) -> bool:
    """Whether the kernel that the run had is what is asked for."""
    is_target = args.target in (None, record.result.target)
    return is_target and args.device_pipeline in (None, record.result.device_pipeline)


def _case(args: argparse.Namespace, suite: Suite, found: UnitResult | None) -> SuiteCase:
    if args.case is not None:
        return suite.case(args.unit, args.case)
    cases = suite.unit(args.unit).cases
    failed = None if found is None else found.case
    return next((case for case in cases if case.name == failed), cases[0])


def _implementation(
    args: argparse.Namespace,
    suite: Suite,
    target: Any,
    record: RunRecord | None,
    found: UnitResult | None,
) -> tvm.IRModule:
    """Return the unit as the target's side has it."""
    from relax_tapml.bringup.run_folder import read_device_side
    from relax_tapml.compare.verdict import Verdict
    from relax_tapml.files.scratch import scratch_folder
    from relax_tapml.partition.kernel_library import KernelLibrary
    from relax_tapml.partition.pipeline import load_pipeline
    from relax_tapml.replays.unit.unit_programs import UnitPrograms

    side = None
    if found is not None and record is not None:
        if found.verdict is Verdict.SKIPPED:
            raise UsageError(f"unit {args.unit} was skipped in the run: {found.reason}")
        side = read_device_side(record.folder, trust=args.trust)
    pipeline = args.device_pipeline
    if side is None and pipeline is None and record is not None and args.target is None:
        pipeline = record.result.device_pipeline
        if pipeline is not None and ":" not in pipeline:
            raise UsageError(
                f"{record.folder} does not contain the kernels of its run, whose device pipeline "
                f"was {pipeline!r}: give that as --device-pipeline MODULE:ATTR"
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
    found: UnitResult | None,
) -> ExitCode:
    """Run the script once, where that can be done here, and print what it shows."""
    from relax_tapml.cli.reproduced import compared_with_run
    from relax_tapml.compare.repeat import ROUNDS
    from relax_tapml.compare.verdict import Verdict
    from relax_tapml.suite.script_run import ScriptEnd, run_script, unavailable_here

    why = "--no-run was given" if args.no_run else unavailable_here(target)
    if why:
        sys.stdout.write(f"not run: {why}, so whether the script shows the failure is unknown\n")
        if found is not None and found.is_in_context_only:
            sys.stdout.write("in the run the unit passed alone, and a script runs it alone\n")
        return ExitCode.PASS
    is_flaky = found is not None and found.verdict is Verdict.FLAKY
    done = run_script(script, timeout_s=args.timeout)
    for _ in range(ROUNDS - 1 if is_flaky else 0):
        if done.end is not ScriptEnd.AGREES:
            break
        done = run_script(script, timeout_s=args.timeout)
    if done.end is not ScriptEnd.AGREES and done.last_line:
        sys.stdout.write(f"output of the script: {done.last_line}\n")
    if found is None:
        sys.stdout.write(f"run once for {target.kind.name}: {done.reason}\n")
        return ExitCode.PASS
    sentence, exit_code = compared_with_run(found, done)
    sys.stdout.write(f"run once for {target.kind.name}: {sentence}\n")
    if exit_code is not ExitCode.PASS and record is not None and record.result.session != "process":
        sys.stdout.write(f"the run used --session {record.result.session}\n")
    return exit_code
