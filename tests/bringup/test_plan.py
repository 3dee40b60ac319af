"""What a run is expected to take, and the strategy that fits a model's size."""

from __future__ import annotations

import dataclasses
import re

import pytest
from tiny_model import model

from relax_tapml.bringup._fitting_strategy import fitting, step_seconds
from relax_tapml.bringup._measured import Measured
from relax_tapml.bringup._plan import Planner
from relax_tapml.bringup._work import work_of
from relax_tapml.bringup.lowered_model import lower_model
from relax_tapml.bringup.migrate_model import MigrationPlan
from relax_tapml.bringup.side_spec import SideSpec
from relax_tapml.migrate.strategies.registry import BISECT, LINEAR

LLVM = SideSpec.of("llvm")


def ran(run_s, build_s=1.0, kernels_built=0):
    return Measured(run_s=run_s, build_s=build_s, kernels_built=kernels_built)


@pytest.fixture(scope="module")
def planner():
    tiny = model()
    plan = MigrationPlan(bisect_above_s=600.0)
    return Planner(tiny, lower_model(tiny), LLVM, LLVM, plan)


def test_work_is_counted_from_the_kernels():
    """A product of 4 x 8 by 8 x 8 makes 256 iterations, or those of its initial values more."""
    tiny = model()
    lowered = lower_model(tiny)
    work = work_of(tiny, lowered)
    rows, inner = tiny.samples[0].arrays[0].shape
    columns = tiny.params["w"].shape[1]
    assert rows * inner * columns <= work.iterations["matmul"] <= 2 * rows * inner * columns
    assert work.of_a_run >= work.of_each_unit > 0
    assert work.weights_bytes == sum(array.nbytes for array in tiny.params.values())


def test_a_plan_names_every_stage_to_come(planner):
    """Before the source has run its stage is to come, too."""
    first = planner.plan()
    assert list(first.seconds) == ["source", "capture", "carve", "replay", "migrate"]
    assert re.match(r"about \d+ s: ", first.text)
    assert "migrate" in first.text
    assert first.migration.startswith("linear, ")
    assert "source" not in planner.plan(ran(0.1)).seconds


def test_a_measured_run_corrects_the_plan(planner):
    """Ten times the run time, about ten times the steps; slow enough, and the model is bisected."""
    fast, slow, slowest = (planner.plan(ran(run_s)) for run_s in (1.0, 10.0, 100.0))
    assert 8 < slow.seconds["migrate"] / fast.seconds["migrate"] < 10
    assert slow.migration.startswith("linear")
    assert slowest.migration == "bisect, 2 steps"
    assert planner.plan(ran(1.0), is_carved=True).seconds["carve"] == 0


def test_a_slow_machine_is_seen_by_the_kernels_it_has_built(planner):
    """Ten times slower at building, and so at all that does not follow from the run time."""
    usual, slow = (planner.plan(ran(0.0, build_s, 8)) for build_s in (1.0, 10))
    assert slow.seconds["carve"] == pytest.approx(10 * usual.seconds["carve"])


def test_an_isolated_run_has_no_steps():
    tiny = model()
    plan = MigrationPlan(strategy=None)
    assert Planner(tiny, lower_model(tiny), LLVM, LLVM, plan).plan().seconds["migrate"] == 0


def test_the_strategy_follows_from_steps_and_their_time():
    """Told with its reason; not looked at where a strategy was given."""
    step_s = step_seconds(10.0, 100)
    strategy, reason = fitting(LINEAR, 20, step_s, 600.0)
    assert strategy is LINEAR
    assert reason.endswith("21 steps of 15 s each, which is not more than 10 min")
    strategy, reason = fitting(LINEAR, 200, step_s, 600.0)
    assert strategy is BISECT
    assert reason.startswith("linear would take about 44 min, 201 steps of 15 s each")
    assert fitting(LINEAR, 10**6, step_s, None) == (LINEAR, "")


def test_a_resumed_run_goes_on_as_it_began(tmp_path, monkeypatch):
    """Whatever it measures itself; and the result says why."""
    from relax_tapml import bring_up
    from relax_tapml.bringup import options

    tiny = model()
    monkeypatch.setattr(options, "_BISECT_ABOVE_S", 0.0)
    first = bring_up(tiny, session="inline", out=tmp_path / "run")
    assert (first.strategy, len(first.steps)) == ("bisect", 2)
    assert "which is more than" in first.strategy_reason
    assert first.estimate is not None
    assert first.estimate.corrected is not None
    monkeypatch.setattr(options, "_BISECT_ABOVE_S", 600.0)
    again = bring_up(tiny, session="inline", out=tmp_path / "run", resume=True)
    assert (again.strategy, again.strategy_reason) == (first.strategy, first.strategy_reason)
    assert [dataclasses.replace(step, calls=()) for step in first.steps] == list(again.steps)
