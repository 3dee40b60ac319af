"""A kernel that uses up what its session has is named, and not what moved last."""

from __future__ import annotations

import dataclasses
import shutil

import broken_pipelines
import pytest
from broken_pipelines import breaks
from tiny_model import UNITS, model

from relax_tapml import bring_up

# So many handles that a replay does not need them, nor ten of it, and a few steps do.
LIMIT = 90


def often():
    """The model, run twelve times in each step."""
    small = model()
    samples = tuple(
        dataclasses.replace(sample, name=f"{sample.name} {number}")
        for number in range(6)
        for sample in small.samples
    )
    return dataclasses.replace(small, samples=samples)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    """A finished run on a right target."""
    out = tmp_path_factory.mktemp("often") / "tiny"
    bring_up(often(), session="inline", out=out, is_probed=False, cases_per_unit=1)
    return out


@pytest.mark.parametrize(("aborts", "verdict"), [(False, "mismatch"), (True, "crash")])
def test_a_kernel_that_leaks_is_named_alone(aborts, verdict, migrated, tmp_path):
    """It is right in the step that moves it, and in a fresh session; all others move."""
    out = shutil.copytree(migrated, tmp_path / "tiny")
    pipeline = breaks("matmul", broken_pipelines.leaks(LIMIT, aborts=aborts))
    result = bring_up(
        often(),
        session="process",
        out=out,
        resume=True,
        repair=False,
        device_pipeline=pipeline,
        is_probed=False,
        cases_per_unit=1,
    )
    found = {unit["name"]: unit for unit in result.document["units"]}
    assert (result.culprits, result.verdict) == (["matmul"], verdict)
    assert {name: unit["verdict"] for name, unit in found.items()} == {
        **dict.fromkeys(UNITS, "pass"),
        "matmul": verdict,
    }
    wrong = found["matmul"]
    assert 60 < wrong["right_calls"] <= LIMIT
    assert f"right at first, but wrong after {wrong['right_calls']} calls" in wrong["reason"]
    assert result.document["steps"][-1]["boundary"] == sorted(set(UNITS) - {"matmul"})
    # It was not what moved when it first failed.
    (step,) = (step for step in result.document["steps"] if step["exhausting"])
    assert step["moved"] != ["matmul"]
