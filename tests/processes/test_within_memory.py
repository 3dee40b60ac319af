"""Jobs run beside each other within a limit of memory, and all of them are done."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_tapml.processes.within_memory import Job, WithinMemory


@given(st.lists(st.integers(0, 12), max_size=12), st.integers(1, 4), st.data())
def test_all_jobs_are_done_within_the_limit(needs, most, data):
    again = set(data.draw(st.lists(st.sampled_from(range(12)), unique=True)))
    lock = threading.Lock()
    running: list[int] = []
    done: list[int] = []
    wrong: list[str] = []

    def do(number: int) -> bool:
        with lock:
            running.append(number)
            held = sum(needs[n] for n in running)
            if len(running) > most or (len(running) > 1 and held > 10):
                wrong.append(f"{running} at once")
        with lock:
            running.remove(number)
            if number in again:
                again.discard(number)
                return False
            done.append(number)
            return True

    jobs = [Job(work=n, need_bytes=need) for n, need in enumerate(needs)]
    WithinMemory[int](most=most, limit_bytes=10).run(jobs, do)
    assert sorted(done) == list(range(len(needs)))
    assert not wrong


def test_jobs_run_beside_each_other_and_one_done_again_runs_alone():
    both = threading.Barrier(2)
    running: list[str] = []
    seen: list[tuple[str, ...]] = []

    def do(name: str) -> bool:
        running.append(name)
        seen.append(tuple(running))
        is_first = seen.count(tuple(running)) == 1 and name == "b" and len(seen) <= 2
        if len(seen) <= 2:
            both.wait(timeout=60)
        running.remove(name)
        return not is_first

    jobs = [Job(work=name, need_bytes=1) for name in "ab"]
    WithinMemory[str](most=2, limit_bytes=2).run(jobs, do)
    assert seen[-1] == ("b",)
    assert len(seen) == 3


def test_an_error_ends_the_others():
    ended = threading.Event()

    def do(name: str) -> bool:
        if name == "wrong":
            raise ValueError(name)
        assert ended.wait(timeout=60)
        return True

    jobs = [Job(work=name, need_bytes=1) for name in ("endless", "wrong", "late")]
    with pytest.raises(ValueError, match="wrong"):
        WithinMemory[str](most=2, limit_bytes=9).run(jobs, do, stop=ended.set)
