"""Kill the tool, its devices and its machine at random, and check what is left and who is blamed.

    python scripts/chaos.py [--kills 200] [--seed 1] [--jobs 2] [--budget 1800]
    python scripts/chaos.py --only kill --only pair
    python scripts/chaos.py --only 1:kill:17                    one of them again

A whole run of a tiny model takes a second. It is killed at random moments of every stage, and its
device process too; it runs on disks that are too small, without a compiler, with few descriptors,
processes and little memory, without a temporary folder, with files that it may not read, with an
output that nobody reads, and two at once in one folder.

After every kill everything that is there must open. At last the run is resumed, and must end with
the result of a run that nobody touched, with no process, no temporary file and no hidden file left.
A machine that lacks something is no verdict: exit code 3 (2 where the request is wrong) and the
cause, no unit blamed, and the run goes on once the fault is gone.

A trial depends on its name, ``SEED:SCENARIO:INDEX``, and on how fast the machine is. Exits with 1
if a trial is wrong; the table has the first of each scenario.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import chaos_environment as environment
import chaos_kills as kills
from campaign_child import Place, scratch_folder
from campaign_model import import_everything, in_fork, tiny_model
from campaign_pool import Pool, mixed_names, run_all
from chaos_trial import INLINE, PROCESS, Bench, Trial
from rich.console import Console
from rich.table import Table

from relax_tapml.cores import usable_cores

Scenario = Callable[[Trial], None]
# With how many trials each has; those of ``kill`` come from --kills.
SCENARIOS: dict[str, tuple[Scenario, int]] = {
    "kill": (kills.kill, 0),
    "signal": (kills.signalled, 20),
    "device-at-start": (kills.device_at_start, 6),
    "device-in-call": (kills.device_in_call, 8),
    "pair": (kills.pair, 12),
    "disk-out": (environment.disk_of_out, 24),
    "disk-tmpdir": (environment.disk_of_temporary, 12),
    "disk-kernels": (environment.disk_of_kernels, 8),
    "file-size": (environment.file_size, 8),
    "compiler": (environment.no_compiler, 4),
    "descriptors": (environment.descriptors, 12),
    "memory": (environment.memory, 12),
    "processes": (environment.processes, 6),
    "tmpdir": (environment.temporary_folder, 6),
    "permissions": (environment.permissions, 16),
    "names": (environment.names, 12),
    "output": (environment.output, 12),
}


def trial_of(bench: Bench, name: str, place: Place) -> Trial:
    """Make a trial in a place, which is emptied first."""
    place.clean()
    began = time.monotonic()
    _, scenario, index = name.split(":")
    trial = Trial(
        bench=bench,
        place=place,
        draw=random.Random(name),
        name=name,
        scenario=scenario,
        index=int(index),
    )
    SCENARIOS[scenario][0](trial)
    trial.seconds = time.monotonic() - began
    return trial


def make_bench(folder: Path) -> Bench:
    """Save the model, and run it once with each session; this process is to be forked."""
    from relax_tapml.frontend.saved import save_model

    saved = folder / "saved"
    save_model(tiny_model(), saved)
    references = {session: folder / session for session in (INLINE, PROCESS)}

    def build_all() -> None:
        from relax_tapml.bringup.main_job import bring_up

        for session, out in references.items():
            assert bring_up(str(saved), session=session, out=out).exit_code == 0

    in_fork(build_all)
    return Bench(saved=saved, references=references, can_mount=environment.can_mount())


def names_of(seed: int, chosen: list[str], kill_count: int) -> list[str]:
    """Return the names of all trials, scenarios mixed, so that a budget cuts all alike."""
    counts = {scenario: count for scenario, (_, count) in SCENARIOS.items() if scenario in chosen}
    if "kill" in counts:
        counts["kill"] = -(-kill_count // kills.KILLS_OF_A_TRIAL)
    return mixed_names(seed, counts)


def report(all_tried: list[Trial], console: Console, seconds: float) -> int:
    """Print the table and the first wrong trial of each scenario; return how many are wrong."""
    by_scenario: dict[str, list[Trial]] = defaultdict(list)
    for one in all_tried:
        by_scenario[one.scenario].append(one)
    table = Table("scenario", "trials", "kills or faults", "skipped", "right", "wrong", "s each")
    for scenario in [*(name for name in SCENARIOS if name in by_scenario), "all"]:
        made = by_scenario.get(scenario, all_tried)
        wrong = sum(bool(one.problems) for one in made)
        events = sum(one.events for one in made)
        mean = sum(one.seconds for one in made) / max(1, len(made))
        skipped = sum(one.is_skipped for one in made)
        right = len(made) - wrong - skipped
        cells = (len(made), events, skipped, right, wrong, f"{mean:.1f}")
        table.add_row(scenario, *map(str, cells))
    console.print(table)
    for scenario, made in by_scenario.items():
        for one in [one for one in made if one.problems][:1]:
            console.print(f"{scenario}: --only {one.name}  {one.description!r:.300}", markup=False)
            for problem in one.problems:
                console.print(f"    {problem!r:.500}", markup=False)
    wrong = sum(bool(one.problems) for one in all_tried)
    console.print(f"{len(all_tried)} trials in {seconds:.0f} s, {wrong} of them wrong")
    return wrong


def main() -> int:
    """Kill, look, resume, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add: Callable[..., object] = parser.add_argument
    add("--kills", type=int, default=200, help="how many kills of a run (200)")
    add("--seed", type=int, default=1, help="of all trials (1)")
    add(
        "--only",
        action="append",
        metavar="NAME",
        help=f"a scenario, or one trial, SEED:SCENARIO:INDEX; may be repeated. Scenarios: "
        f"{', '.join(SCENARIOS)}",
    )
    add("--jobs", type=int, default=usable_cores(), help="workers (as many as processors)")
    add("--budget", type=float, default=3600, help="seconds, after which no trial begins (3600)")
    args = parser.parse_args()
    console = Console(width=140, highlight=False, soft_wrap=True)
    asked = args.only or list(SCENARIOS)
    unknown = [name for name in asked if name.split(":")[1 if ":" in name else 0] not in SCENARIOS]
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)}")
    names = [name for name in asked if ":" in name]
    names += names_of(args.seed, [name for name in asked if ":" not in name], args.kills)
    import_everything()
    with scratch_folder("tapml-chaos-") as scratch:
        # Another user must get to what lies below.
        scratch.chmod(0o755)
        bench = make_bench(scratch)
        if not bench.can_mount:
            console.print("full disks are imitated by limits of file size: mounting is not allowed")
        began = time.monotonic()
        pool = Pool(attempt=partial(trial_of, bench), scratch=scratch, until=began + args.budget)
        all_tried = []
        for one in run_all(names, pool, args.jobs):
            all_tried.append(one)
            if one.problems:
                print(
                    f"{one.name}: {one.description!r:.200} {one.problems[0]!r:.300}",
                    file=sys.stderr,
                )
        wrong = report(all_tried, console, time.monotonic() - began)
    if len(all_tried) < len(names):
        console.print(f"the time is over: {len(names) - len(all_tried)} trials were not made")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
