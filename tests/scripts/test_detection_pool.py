"""What ``bench_detection.py`` makes of what its workers send, crashes included."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def pool(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("detection_pool")


class FakeWorker:
    """Sends what is prepared for each task that it gets, and keeps the tasks."""

    def __init__(self, *sessions):
        self.sessions = list(sessions)
        self.tasks = []

    def messages(self, task):
        self.tasks.append(task)
        yield from self.sessions.pop(0)


def a_task(pool):
    return pool.Task(
        suite=Path("suite"), unit="unit", first=0, mutants_per_kind=1, variants_per_kind=1, seed=0
    )


def begin(number, role="mutant"):
    return "begin", number, role, "kind", f"place {number}"


def test_a_crash_counts_as_caught_and_the_rest_goes_on(pool):
    """By every way of comparing, because the kernel did not return; the next one comes next."""
    worker = FakeWorker(
        [begin(0), ("carved", 0, {"suite": "x"}), ("random", 0, {}), begin(1), ("fault", "crash")],
        [begin(2), ("carved", 2, {}), ("random", 2, {}), ("wide", 2, None)],
    )
    found = pool.examine_unit(worker, a_task(pool))
    assert [task.first for task in worker.tasks] == [0, 2]
    caught, crashed, equivalent = found.attempts
    assert set(caught.found) == {"suite"}
    assert set(crashed.found) == set(pool.WAYS)
    assert equivalent.is_equivalent
    assert not crashed.is_equivalent


def test_a_crash_on_other_inputs_is_a_miss(pool):
    """The carved cases let it pass, so the suite does not get the credit."""
    worker = FakeWorker(
        [begin(0), ("carved", 0, {}), ("fault", "crash")],
        [begin(1, "variant"), ("carved", 1, {}), ("random", 1, {})],
    )
    missed, _ = pool.examine_unit(worker, a_task(pool)).attempts
    assert "suite" not in missed.found
    assert pool.RANDOM in missed.found
    assert missed.difference.text == "crash on other inputs"


def test_a_crash_between_attempts_is_blamed_on_nobody(pool):
    """It is the compiler's: kernels are then built one by one, to find which it is."""
    whole = [("carved", 0, {"suite": "x"}), ("random", 0, {})]
    worker = FakeWorker(
        [begin(0), *whole, ("fault", "crash")],
        [begin(1), ("fault", "crash")],
        [],
    )
    found = pool.examine_unit(worker, a_task(pool))
    assert [task.is_careful for task in worker.tasks] == [False, True, False]
    assert [set(attempt.found) for attempt in found.attempts] == [{"suite"}, set(pool.WAYS)]


def test_a_worker_that_cannot_begin_is_given_up(pool):
    """And the report states it."""
    worker = FakeWorker([("fault", "crash")], [("fault", "crash")])
    assert pool.examine_unit(worker, a_task(pool)).skipped == "worker: crash"


def test_numbers_are_counted_by_what_they_mean(pool):
    """Equivalent mutants are neither caught nor missed; what does not build counts nowhere."""
    report = importlib.import_module("detection_report")
    difference = importlib.import_module("mutation.detection").Difference

    def attempt(role, **values):
        return pool.Attempt(unit="m/u", role=role, kind="k", where="w", **values)

    counts = report.count(
        [
            attempt("mutant", found={"suite": "x", "1e-5, 1e-5": "x"}),
            attempt("mutant"),
            attempt("mutant", difference=difference(text="t", is_near=True)),
            attempt("mutant", difference=difference(text="t", is_near=False)),
            attempt("mutant", unbuilt="no"),
            attempt("variant", found={"1e-5, 1e-5": "x"}),
        ]
    )
    assert (counts.mutants, counts.equivalent, counts.missed, counts.far) == (4, 1, 1, 1)
    assert (counts.variants, counts.unbuilt) == (1, 1)
    assert (counts.caught["suite"], counts.alarms["suite"]) == (1, 0)
    assert counts.alarms["1e-5, 1e-5"] == 1
    assert counts.share == pytest.approx(1 / 3)
