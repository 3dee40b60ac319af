"""What carved suites detect: broken kernels that they catch, correct ones that they accuse.

Three models are captured and carved. Then every unit that is one PrimFunc is broken in many ways,
and replaced by other correct kernels, and each of these is run on the carved cases; beside the
suite's own tolerances stand fixed ones, on recorded cases only, and random inputs. Mutants that the
suite does not catch are compared with the kernel on many kinds of inputs, and count as missed if
they differ there. So do those that differ only for inputs unlike the recorded ones, and are listed
as such: captures of the model may never show them.

With ``--target cuda`` correct kernels alone are run, on an NVIDIA GPU; see ``detection_gpu``.

Exits with 1 if fewer than 99 % of the wrong mutants are caught, if a correct kernel is accused, or
if there were fewer than 200 of these.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tvm
from detection_gpu import Tried, try_suite
from detection_models import MODELS
from detection_pool import Attempt, examine_all
from detection_report import count, print_report
from detection_worker import Task
from rich.console import Console

from mutation.detection import SUITE
from relax_tapml.bringup.main_job import bring_up
from relax_tapml.carve.unit import choose_copies
from relax_tapml.carve.unit.choose_copies import Limits
from relax_tapml.compare.power import power_of
from relax_tapml.suite.open_suite import open_suite
from relax_tapml.suite.tolerances import read_tolerance

LEAST_CAUGHT = 0.99
LEAST_VARIANTS = 200
LEAST_GPU_VARIANTS = 300
SEED = 0


def carve(name: str, folder: Path, cases: int, *, is_probed: bool) -> Path:
    """Capture and carve a model; return its suite."""
    bring_up(
        MODELS[name](),
        out=folder / name,
        strategy="isolated",
        session="inline",
        cases_per_unit=cases,
        is_probed=is_probed,
    )
    return folder / name / "tests"


def hold_parts(most_bytes: int) -> None:
    """Carve as if tensors were large that take more bytes, as those of LLMs are."""
    few = {"most_bytes": most_bytes, "held_bytes": 4 * most_bytes}
    choose_copies.RECORDED = Limits(**few, weight_axes_bytes=most_bytes)
    choose_copies.EXACT = Limits(**few, weight_axes_bytes=64 * most_bytes)


def examine_model(
    name: str, suite: Path, args: argparse.Namespace, console: Console
) -> list[Attempt]:
    """Try mutants and variants of a model's units."""
    units = list(open_suite(suite).manifest.units)[: args.limit]
    tasks = [
        Task(
            suite=suite,
            unit=unit,
            first=0,
            mutants_per_kind=args.mutants,
            variants_per_kind=args.variants,
            seed=SEED,
        )
        for unit in units
    ]
    attempts: list[Attempt] = []
    for examined in examine_all(tasks, args.jobs, args.timeout):
        for attempt in examined.attempts:
            attempt.unit = f"{name}/{attempt.unit}"
            attempts.append(attempt)
        counts = count(examined.attempts)
        text = examined.skipped or (
            f"{counts.mutants} mutants, {counts.equivalent} equivalent, "
            f"{counts.missed + counts.far} missed, "
            f"{counts.variants} variants, {counts.alarms[SUITE]} false alarms"
        )
        console.print(f"{name}/{examined.unit}: {text}", soft_wrap=True, highlight=False)
    return attempts


def blunt_cases(suite: Path) -> tuple[int, int, int]:
    """Return how many outputs of cases are judged bluntly, how many there are, and blunt units."""
    opened = open_suite(suite)
    blunt, total, units = 0, 0, 0
    for unit in opened.manifest.units.values():
        is_sharp = False
        for case in unit.cases:
            for output in case.outputs:
                oracle = opened.tensor(output.tensor)
                power = power_of(oracle, read_tolerance(opened, case, output))
                if power is not None:
                    blunt, total = blunt + power.is_blunt, total + 1
                    is_sharp |= not power.is_blunt
        units += not is_sharp
    return blunt, total, units


def try_on_gpu(name: str, suite: Path, args: argparse.Namespace, log: Console) -> list[Tried]:
    """Run correct kernels of a model's units on the GPU."""
    tried = try_suite(suite, args.variants, args.jobs)
    found = [replace(one, unit=f"{name}/{one.unit}") for one in tried]
    log.print(f"{name}: {sum(not t.unbuilt for t in found)} kernels ran, of {len(found)}")
    return found


def report_gpu(tried: Sequence[Tried], seconds: float, console: Console) -> int:
    """Print what was accused on the GPU; return 1 if anything was, or too little was tried."""
    ran = [item for item in tried if not item.unbuilt]
    for item in ran:
        if item.reason or item.low_precision:
            what = "accused" if item.reason else "low precision"
            console.print(f"{what}: {item.unit}: {item.how} {item.reason}", markup=False)
    accused = sum(bool(item.reason) for item in ran)
    console.print(
        f"{len(ran)} correct kernels on {tvm.cuda(0).device_name}, {len(tried) - len(ran)} do not "
        f"build; {accused} accused, {sum(item.low_precision for item in ran)} of low precision, "
        f"fast math {'off' if os.environ.get('TVM_CUDA_NVCC_NO_FAST_MATH') else 'on'}, "
        f"{seconds:.0f} s"
    )
    return int(accused > 0 or len(ran) < LEAST_GPU_VARIANTS)


def main() -> int:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--limit", type=int, help="only so many units of each model")
    parser.add_argument("--cases", type=int, default=3, help="cases per unit (3)")
    parser.add_argument("--no-probes", action="store_true", help="recorded cases only")
    parser.add_argument(
        "--most-bytes", type=int, help="hold parts of tensors that take more bytes (1 MB)"
    )
    parser.add_argument("--mutants", type=int, default=6, help="of each kind and unit (6)")
    parser.add_argument("--variants", type=int, default=2, help="of each kind and unit (2)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one call (60)")
    parser.add_argument(
        "--target", choices=["llvm", "cuda"], default="llvm", help="cuda: correct kernels on a GPU"
    )
    parser.add_argument("--suites", type=Path, help="folder of runs that are already carved")
    args = parser.parse_args()
    if args.most_bytes:
        hold_parts(args.most_bytes)
    console, log = Console(width=120), Console(stderr=True)
    began = time.perf_counter()
    attempts: list[Attempt] = []
    tried: list[Tried] = []
    bluntness: list[str] = []
    with tempfile.TemporaryDirectory(prefix="tapml-detection-") as scratch:
        for name in args.models:
            if args.suites is None:
                suite = carve(name, Path(scratch), args.cases, is_probed=not args.no_probes)
            else:
                suite = args.suites / name / "tests"
            blunt, total, units = blunt_cases(suite)
            bluntness.append(
                f"{name}: {blunt} of {total} outputs of cases are judged bluntly, "
                f"{units} units by such cases alone"
            )
            if args.target == "cuda":
                tried += try_on_gpu(name, suite, args, log)
                continue
            attempts += examine_model(name, suite, args, log)
    seconds = time.perf_counter() - began
    for line in bluntness:
        console.print(line)
    if args.target == "cuda":
        return report_gpu(tried, seconds, console)
    print_report(console, attempts)
    total = count(attempts)
    near = total.caught[SUITE] + total.missed
    console.print(
        f"caught {100 * total.share:.2f} % of {total.faulty} wrong kernels, "
        f"{100 * total.caught[SUITE] / max(near, 1):.2f} % of the {near} that inputs like the "
        f"recorded ones tell from the kernel; {total.equivalent} more are equivalent; "
        f"{total.alarms[SUITE]} false alarms on "
        f"{total.variants} correct ones, at most {args.mutants} mutants and {args.variants} "
        f"variants of each kind and unit, {seconds:.0f} s"
    )
    is_enough = total.share >= LEAST_CAUGHT and total.variants >= LEAST_VARIANTS
    return 0 if is_enough and not total.alarms[SUITE] else 1


if __name__ == "__main__":
    sys.exit(main())
