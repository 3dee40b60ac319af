"""Units are dealt to processes: large ones alone, each of them once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relax_tapml.carve._unit_jobs import unit_jobs

LARGE = 1 << 28


@given(
    st.dictionaries(st.text(max_size=3), st.sampled_from([0, 5, LARGE, LARGE + 1])),
    st.integers(1, 5),
)
def test_every_unit_is_in_one_job(needs, most):
    jobs = unit_jobs(needs, most)
    assert sorted(unit for job in jobs for unit in job.work) == sorted(needs)
    assert all(job.need_bytes >= max(needs[unit] for unit in job.work) for job in jobs)
    assert all(len(job.work) == 1 for job in jobs if job.need_bytes >= LARGE)
    assert sum(job.need_bytes < LARGE for job in jobs) <= most
