"""The numbers of ``bench_detection.py``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from detection_pool import WAYS, Attempt
from detection_worker import MUTANT, VARIANT
from rich.console import Console
from rich.table import Table

from mutation.detection import SUITE
from mutation.operator_kind import operator_kind


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Attempts of one kind of operator, counted.

    Parameters
    ----------
    mutants
        Those that build.
    equivalent
        Those of them that compute the same.
    far
        Those that differ only for inputs unlike the recorded ones, and that the suite misses.
    caught
        Way of comparing to how many of the others it finds.
    variants
        Correct kernels that build, the unchanged one included.
    alarms
        Way of comparing to how many of these it calls wrong.
    unbuilt
        Mutants and variants that do not build.
    """

    mutants: int
    equivalent: int
    far: int
    caught: dict[str, int]
    variants: int
    alarms: dict[str, int]
    unbuilt: int

    @property
    def faulty(self) -> int:
        """How many mutants are wrong."""
        return self.mutants - self.equivalent

    @property
    def missed(self) -> int:
        """How many of them the suite does not find although inputs like the recorded ones do."""
        return self.faulty - self.caught[SUITE] - self.far

    @property
    def share(self) -> float:
        """How many of the wrong mutants the suite finds, of 1."""
        return self.caught[SUITE] / self.faulty if self.faulty else 0.0


def count(attempts: Iterable[Attempt]) -> Counts:
    """Count attempts."""
    attempts = list(attempts)
    built = [a for a in attempts if not a.unbuilt]
    mutants = [a for a in built if a.role == MUTANT]
    faulty = [a for a in mutants if not a.is_equivalent]
    variants = [a for a in built if a.role == VARIANT]
    return Counts(
        mutants=len(mutants),
        equivalent=len(mutants) - len(faulty),
        far=sum(is_far(a) for a in faulty),
        caught={way: sum(way in a.found for a in faulty) for way in WAYS},
        variants=len(variants),
        alarms={way: sum(way in a.found for a in variants) for way in WAYS},
        unbuilt=len(attempts) - len(built),
    )


def is_far(attempt: Attempt) -> bool:
    """Return whether only inputs unlike the recorded ones show that a mutant is wrong."""
    return attempt.difference is not None and not attempt.difference.is_near


def missed(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Return the mutants that are wrong and were not found."""
    return [a for a in attempts if a.role == MUTANT and not a.unbuilt and SUITE not in a.found
            and not a.is_equivalent]  # fmt: skip


def false_alarms(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Return the correct kernels that the suite calls wrong."""
    return [a for a in attempts if a.role == VARIANT and SUITE in a.found]


def print_report(console: Console, attempts: Sequence[Attempt]) -> None:
    """Print one row for each kind of operator, then what is equivalent, missed or blamed."""
    operators: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        name = operator_kind(attempt.unit.partition("/")[2])
        operators.setdefault(name, []).append(attempt)
    counts = {name: count(group) for name, group in sorted(operators.items())}
    counts["all"] = count(attempts)
    console.print(_suite_table(counts))
    console.print(_ways_table(counts))
    equivalent = [a for a in attempts if a.is_equivalent and not a.unbuilt]
    for title, chosen in (
        ("equivalent", equivalent),
        ("missed", missed(attempts)),
        ("false alarm", false_alarms(attempts)),
    ):
        for a in chosen:
            why = a.difference.text if a.difference else a.found.get(SUITE, "")
            far = " far from the recorded inputs" if is_far(a) else ""
            text = f"{title}{far}: {a.unit}: {a.kind}: {a.where} ({why})"
            console.print(text, soft_wrap=True, markup=False, highlight=False)


def _suite_table(counts: Mapping[str, Counts]) -> Table:
    table = Table("operator", "mutants", "equivalent", "caught", "missed", "missed far", "variants",
                  "false alarms", title="the carved suite")  # fmt: skip
    for name, of in counts.items():
        numbers = (of.mutants, of.equivalent, of.caught[SUITE], of.missed, of.far, of.variants,
                   of.alarms[SUITE])  # fmt: skip
        table.add_row(name, *map(str, numbers))
    return table


def _ways_table(counts: Mapping[str, Counts]) -> Table:
    table = Table("operator", *WAYS, title="caught in % / false alarms")
    for name, of in counts.items():
        shares = [f"{100 * of.caught[w] / of.faulty:.1f}" if of.faulty else "-" for w in WAYS]
        cells = (f"{share} / {of.alarms[way]}" for way, share in zip(WAYS, shares, strict=True))
        table.add_row(name, *cells)
    return table
