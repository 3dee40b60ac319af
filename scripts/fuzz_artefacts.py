"""Damage every kind of file that relax_tapml reads, and check what reading it does.

    python scripts/fuzz_artefacts.py [--mutations 3000] [--seed 1] [--jobs 2] [--budget 1200]
    python scripts/fuzz_artefacts.py --artefact suite --artefact bundle
    python scripts/fuzz_artefacts.py --only 1:suite:17 --keep DIR      one again, with its output

Suites, capture stores, bundles, models, IR, states, results, boundaries, inputs and kernels of a
tiny model are damaged in ways that know their structure: values of JSON, nodes of IR, tables,
headers, archives, file types; checksums are made right again, so that damage comes as far as it
can. Some carry code: as attribute, name, template, pickle, external call, or shared object.

Each is read in a fork with a limit of time and memory, by a command or by the Python API. It may be
refused (exit code 2 or 3, a ``TapmlError``) or accepted (0 or 1). Anything else is wrong: an
internal error, another exception, a hang, an end by a signal, too much memory, a file written
outside of the folders it may write to, planted code that ran, a wrong checksum accepted, a unit
blamed because of damaged kernels, control characters on the terminal, processes and files left.

A mutation depends on nothing but its name, ``SEED:ARTEFACT:INDEX``. Exits with 1 if something is
wrong. The table counts them; below it is one mutation of each sort, to be run again.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from campaign_child import Limits, Place, scratch_folder
from campaign_model import import_everything, make_originals
from campaign_pool import Pool, mixed_names, run_all
from fuzz_kinds import ARTEFACTS, make_mutation
from fuzz_outcome import ACCEPTED, REFUSED, WRONG, Outcome, judged
from rich.console import Console
from rich.table import Table

from relax_tapml.cores import usable_cores

NEEDS_TORCH = "model.pt2"
# Shown of each sort of what is wrong.
_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One mutation and what came of it."""

    name: str
    artefact: str
    description: str
    outcome: Outcome
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all tries share."""

    originals: Path
    limits: Limits
    keep: Path | None


def names_of(seed: int, chosen: Sequence[str], count: int) -> list[str]:
    """Return the names of mutations of some artefacts, each with its share, well mixed."""
    total = sum(ARTEFACTS[kind].share for kind in chosen)
    counts = {kind: -(-count * ARTEFACTS[kind].share // total) for kind in chosen}
    return mixed_names(seed, counts)[:count]


def tried(setup: Setup, name: str, place: Place) -> Tried:
    """Make a mutation in a place and read it."""
    _add_library(place)
    mutation = make_mutation(name, setup.originals, place)
    before = _copied(place, setup.keep, name)
    ended = place.run(mutation.work, setup.limits)
    outcome = judged(mutation, ended, setup.limits)
    if before is not None:
        if outcome.is_wrong:
            lines = (
                name,
                mutation.description,
                f"{outcome.kind}: {outcome.detail}",
                ended.out,
                ended.err,
            )
            text = "\n".join(lines)
            (before / "report.txt").write_text(text, errors="backslashreplace")
        else:
            shutil.rmtree(before)
    return Tried(
        name=name,
        artefact=name.split(":")[1],
        description=mutation.description,
        outcome=outcome,
        seconds=ended.seconds,
    )


def _add_library(place: Place) -> None:
    """Build a shared object that leaves a mark when it is loaded, once in a place."""
    mark = json.dumps(str(place.marks / "native"))
    place.build_library(
        "#include <fcntl.h>\n"
        f"__attribute__((constructor)) static void loaded(void) {{ creat({mark}, 0600); }}\n"
    )


def _copied(place: Place, keep: Path | None, name: str) -> Path | None:
    """Copy a mutation before it is read, if it is to be kept; pipes and links as they are."""
    if keep is None:
        return None
    folder = keep / name.replace(":", "-")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)  # noqa: PTH103
    for path in sorted(place.case.rglob("*")):
        to = folder / path.relative_to(place.case)
        if path.is_symlink():
            to.symlink_to(os.readlink(path))  # noqa: PTH115
        elif path.is_dir():
            to.mkdir()
        elif path.is_file():
            with contextlib.suppress(OSError):
                shutil.copy2(path, to)
        else:
            os.mkfifo(to)
    return folder


def report(all_tried: list[Tried], console: Console, seconds: float) -> int:
    """Print the table and examples; return how many mutations are wrong."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    examples: dict[tuple[str, str], list[Tried]] = defaultdict(list)
    for one in all_tried:
        counts[one.artefact][one.outcome.kind] += 1
        if one.outcome.is_wrong:
            examples[one.artefact, one.outcome.kind].append(one)
    times: dict[str, list[float]] = defaultdict(list)
    for one in all_tried:
        times[one.artefact].append(one.seconds)
        times["all"].append(one.seconds)
    seen = [kind for kind in WRONG if any(kind in count for count in counts.values())]
    table = Table("artefact", *("tried", "s each", REFUSED, ACCEPTED, "wrong"), *seen)
    for artefact, count in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        wrong = sum(count[kind] for kind in WRONG)
        mean = f"{statistics.mean(times[artefact]):.2f}"
        cells = (count[REFUSED], count[ACCEPTED], wrong, *(count[kind] for kind in seen))
        table.add_row(artefact, str(count.total()), mean, *map(str, cells))
    console.print(table)
    for (artefact, kind), found in sorted(examples.items()):
        console.print(f"{artefact}: {kind}, {len(found)} times", markup=False)
        for one in _different(found)[:_EXAMPLES]:
            console.print(f"  --only {one.name}  {one.description!r:.120}", markup=False)
            console.print(f"    {one.outcome.detail!r:.200}", markup=False)
    wrong = sum(map(len, examples.values()))
    console.print(f"{len(all_tried)} mutations in {seconds:.0f} s, {wrong} of them wrong")
    return wrong


def _different(found: list[Tried]) -> list[Tried]:
    """Return the first of each message, so that examples differ."""
    firsts = {one.outcome.detail[:40]: one for one in reversed(found)}
    return [one for one in found if firsts[one.outcome.detail[:40]] is one]


def main() -> int:
    """Damage, read, and print a table."""
    kinds = list(ARTEFACTS)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add: Callable[..., object] = parser.add_argument
    add("--mutations", type=int, default=3000, help="how many, over all artefacts (3000)")
    add("--seed", type=int, default=1, help="of all of them (1)")
    add("--artefact", action="append", choices=kinds, help="only this kind; may be repeated")
    add("--only", metavar="NAME", help="one mutation again, SEED:ARTEFACT:INDEX, with its output")
    add("--jobs", type=int, default=usable_cores(), help="workers (as many as processors)")
    add("--budget", type=float, default=1800, help="seconds, after which no more are tried (1800)")
    add("--timeout", type=float, default=60, help="seconds after which reading hangs (60)")
    add("--keep", type=Path, metavar="DIR", help="keep what is wrong here, as it was read")
    args = parser.parse_args()
    console = Console(width=140, highlight=False, soft_wrap=True)
    chosen = args.artefact or kinds
    if args.only:
        chosen = [args.only.split(":")[1]]
    has_torch = importlib.util.find_spec("torch") is not None
    if NEEDS_TORCH in chosen and not has_torch:
        console.print(f"{NEEDS_TORCH} is left out: torch is not installed")
        chosen = [kind for kind in chosen if kind != NEEDS_TORCH]
    with scratch_folder("tapml-fuzz-") as scratch:
        originals = scratch / "originals"
        make_originals(originals, has_torch=NEEDS_TORCH in chosen)
        import_everything(has_torch=NEEDS_TORCH in chosen)
        began = time.monotonic()
        limits = Limits(seconds=args.timeout)
        setup = Setup(originals=originals, limits=limits, keep=args.keep)
        if args.only:
            return _again(args.only, setup, Place(scratch / "place"), console)
        names = names_of(args.seed, chosen, args.mutations)
        all_tried = []
        pool = Pool(attempt=partial(tried, setup), scratch=scratch, until=began + args.budget)
        for one in run_all(names, pool, args.jobs):
            all_tried.append(one)
            if one.outcome.is_wrong:
                text = f"{one.description!r:.100} {one.outcome.detail!r:.160}"
                print(f"{one.name} {one.outcome.kind}: {text}", file=sys.stderr)
        wrong = report(all_tried, console, time.monotonic() - began)
    if len(all_tried) < len(names):
        console.print(f"the time is over: {len(names) - len(all_tried)} mutations were not tried")
    return 1 if wrong else 0


def _again(name: str, setup: Setup, place: Place, console: Console) -> int:
    """Try one mutation, and show all that it printed."""
    _add_library(place)
    mutation = make_mutation(name, setup.originals, place)
    if setup.keep is not None:
        kept = _copied(place, setup.keep, name)
        console.print(f"kept in {kept}", markup=False)
    ended = place.run(mutation.work, setup.limits)
    outcome = judged(mutation, ended, setup.limits)
    for title, text in (("stdout", ended.out), ("stderr", ended.err)):
        for line in text.splitlines():
            console.print(f"{title}: {line!r}", markup=False)
    console.print(f"{name}: {mutation.description!r}", markup=False)
    console.print(f"{outcome.kind}: {outcome.detail!r}, {ended.seconds:.1f} s", markup=False)
    return 1 if outcome.is_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
