"""What replaying a suite on two and on three servers saves, beside one.

The servers are processes of this machine, so they share its cores with each other and with us: a
device that computes on its own is what a fleet is for, and here there is none. So everything is
measured twice. First as it is: that is what a second process on the same machine is worth. Then
with slow devices: a device pipeline puts a sleep of ``--delay`` seconds into every kernel, which
the servers wait for and need no core for. That imitates a board that is busy by itself; it is no
measurement of one. Kernels that TVM makes after the pipeline (of scans and sorts) do not sleep.

Each round replays with one, two and three servers in turn, so a busy machine is busy for all; a
speed-up is the median of its rounds' ratios. Kernels are built before.

Exits with 1 if a verdict depends on the number of servers, or if two or three slow devices are less
than 0.75 times two or three times as fast as one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import tvm
from rich.console import Console
from rich.table import Table
from tvm import tirx

import relax_tapml
from relax_tapml.errors import TapmlError
from relax_tapml.targets.fleet.local_fleet import LocalFleet

COUNTS = (1, 2, 3)
LEAST = 0.75


def sleeping(seconds: float) -> Any:
    """Return a pipeline that makes every kernel sleep before it computes."""
    sleep = tirx.call_extern("int32", "usleep", tirx.const(int(seconds * 1e6), "int32"))

    @tvm.transform.module_pass(opt_level=0, name="Sleeping")
    def put_to_sleep(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        out = module.clone()
        for gvar, function in module.functions.items():
            if isinstance(function, tirx.PrimFunc):
                body = tirx.SeqStmt([tirx.Evaluate(sleep), function.body])
                out.update_func(gvar, function.with_body(body))
        return out

    return put_to_sleep


def measure(
    suite: Path, sessions: Mapping[int, str], pipeline: Any, rounds: int, kernels: Path
) -> tuple[dict[int, list[float]], bool]:
    """Return the seconds of each number of servers, and whether all verdicts were equal."""
    options = {"target": "llvm", "device_pipeline": pipeline, "kernels": kernels}
    verdicts = [relax_tapml.replay(suite, session="process", **options).units]
    seconds: dict[int, list[float]] = {count: [] for count in sessions}
    for _ in range(rounds):
        for count, session in sessions.items():
            began = time.perf_counter()
            report = relax_tapml.replay(suite, session=session, **options)
            seconds[count].append(time.perf_counter() - began)
            verdicts.append(report.units)
            used = sum(record.units > 0 for record in report.devices.values())
            if used != count:
                print(f"only {used} of {count} servers got work", file=sys.stderr)
    return seconds, all(found == verdicts[0] for found in verdicts)


def speed_ups(seconds: Mapping[int, list[float]]) -> dict[int, float]:
    """Return how many times as fast as one server each number of them is."""
    return {
        count: statistics.median(
            alone / here for alone, here in zip(seconds[1], found, strict=True)
        )
        for count, found in seconds.items()
    }


def table_of(title: str, seconds: Mapping[int, list[float]]) -> Table:
    """Return the table of one measurement."""
    table = Table(title=title, title_justify="left")
    for name in ("servers", "seconds (median)", "speed-up", "of what is possible"):
        table.add_column(name, justify="right")
    for count, ratio in speed_ups(seconds).items():
        median = statistics.median(seconds[count])
        table.add_row(str(count), f"{median:.2f}", f"{ratio:.2f}", f"{ratio / count:.0%}")
    return table


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", type=Path, help="a carved suite (default: MiniLM's)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--delay", type=float, default=0.5, help="seconds each kernel sleeps; 0: measure as it is"
    )
    args = parser.parse_args()
    out, say = Console(width=90), Console(stderr=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        suite = args.suite
        if suite is None:
            say.print("bringing MiniLM up for a suite")
            relax_tapml.bring_up(
                "minilm", texts=["A river runs."], strategy="isolated", out=folder / "run"
            )
            suite = folder / "run"
        with closing(LocalFleet(0, key="none")) as fleet:
            for count in COUNTS:
                for _ in range(count):
                    fleet.add_server(key=f"{count}")
            say.print(f"starting {len(fleet.servers)} servers")
            fleet.wait(300)
            sessions = {c: f"tracker:127.0.0.1:{fleet.tracker[1]}:{c}" for c in COUNTS}
            as_it_is, is_equal = measure(suite, sessions, None, args.rounds, folder / "kernels")
            out.print(table_of("servers that share this machine's cores", as_it_is))
            is_good = is_equal
            if args.delay:
                pipeline = sleeping(args.delay)
                slow, is_equal = measure(suite, sessions, pipeline, args.rounds, folder / "kernels")
                out.print(table_of(f"imitated boards: each kernel sleeps {args.delay:g} s", slow))
                ratios = speed_ups(slow)
                is_good &= is_equal and all(ratios[c] >= LEAST * c for c in COUNTS)
    out.print(f"promises {'kept' if is_good else 'BROKEN'}")
    return 0 if is_good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TapmlError as error:
        sys.exit(f"error: {error}")
