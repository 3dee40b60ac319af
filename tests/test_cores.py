"""How many cores kernels are compiled on."""

from __future__ import annotations

import os

import pytest

from relax_tapml import cores
from relax_tapml.cores import in_threads, slices, usable_cores


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
    ],
)
def test_the_quota_of_a_container_counts(files, quota, tmp_path, monkeypatch):
    """Of both versions of cgroups."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert usable_cores() == (quota or 64)


def test_the_affinity_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert usable_cores() == 1


@pytest.mark.parametrize("count", [0, 1, 50])
def test_each_item_is_worked_on_once(count, monkeypatch):
    """In threads too; together they are done when the call returns."""
    monkeypatch.setattr(cores, "usable_cores", lambda: 4)
    done = []
    in_threads(done.append, range(count))
    assert sorted(done) == list(range(count))


def test_what_a_thread_raises_is_raised(monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: 4)

    def work(item):
        if item == 7:
            raise ValueError("seven")

    with pytest.raises(ValueError, match="seven"):
        in_threads(work, range(20))


def test_slices_cover_a_range():
    assert [*slices(7, 3)] == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert [*slices(0, 3)] == []
