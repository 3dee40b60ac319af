# ruff: noqa: N812 - TVMScript
"""What a run is expected to take, and the strategy that fits a model's size."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import model
from tvm.script import ir as I
from tvm.script import relax as R

from relax_tapml.bringup._costs import Costs, step_seconds
from relax_tapml.bringup._fitting_strategy import fitting
from relax_tapml.bringup._machine_speed import MachineSpeed, machine_speed
from relax_tapml.bringup._measured import Measured
from relax_tapml.bringup._plan import Planner
from relax_tapml.bringup._work import LoopKind, UnitLoad, Work, work_of
from relax_tapml.bringup.lowered_model import lower_model
from relax_tapml.bringup.migrate_model import MigrationPlan
from relax_tapml.bringup.side_spec import SideSpec
from relax_tapml.frontend.model import Model, Sample
from relax_tapml.migrate.strategies.registry import BISECT, LINEAR

LLVM = SideSpec.of("llvm")
SPEED = MachineSpeed()


def ran(run_s, build_s=1.0, kernels_built=0):
    return Measured(run_s=run_s, derive_s=0.0, build_s=build_s, kernels_built=kernels_built)


def planner_of(model, speed=SPEED, **fields):
    plan = MigrationPlan(**{"bisect_above_s": 600.0, **fields})
    return Planner(model, lower_model(model), LLVM, LLVM, plan, speed=speed)


@pytest.fixture(scope="module")
def planner():
    return planner_of(model())


def test_work_is_counted_from_the_kernels():
    """A product of 4 x 8 by 8 x 8 makes 256 iterations, or those of its initial values more."""
    tiny = model()
    work = work_of(tiny, lower_model(tiny))
    rows, inner = tiny.samples[0].arrays[0].shape
    columns = tiny.params["w"].shape[1]
    product = work.units["matmul"]
    assert rows * inner * columns <= product.iterations <= 2 * rows * inner * columns
    assert (product.values, product.taken) == (rows * columns, rows * inner + inner * columns)
    assert work.weights_bytes == sum(array.nbytes for array in tiny.params.values())


@I.ir_module
class Projection:
    """Two products with one weight, which is transposed for each of them."""

    @R.function
    def main(x: R.Tensor((64, 256), "float32"), w: R.Tensor((128, 256), "float32")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            first = R.matmul(x, R.permute_dims(w))
            back = R.matmul(R.nn.relu(first), w)
            out = R.nn.softmax(R.matmul(R.exp(back), R.permute_dims(w)))
            R.output(out)
        return out


def test_what_derives_weights_is_done_once():
    """Not in every run of a sample: its calls are counted apart."""
    sample = Sample(name="one", arrays=(np.zeros((64, 256), "float32"),))
    model = Model(
        name="projection",
        module=Projection,
        params={"w": np.zeros((128, 256), "float32")},
        samples=(sample, sample),
    )
    work = work_of(model, lower_model(model))
    [transpose] = [unit for unit in work.units.values() if unit.derivations]
    assert (transpose.calls, transpose.derivations) == (0, 2)
    assert work.derived_bytes == 2 * 4 * 128 * 256
    costs = Costs(work=work, speed=SPEED)
    once = Costs(work=dataclasses.replace(work, samples=1), speed=SPEED)
    assert costs.run_s("cpu") == pytest.approx(2 * once.run_s("cpu"))
    assert costs.derive_s("cpu") == once.derive_s("cpu") > 0
    kinds = {unit.kind for unit in work.units.values() if unit.calls and unit.iterations > 1 << 20}
    assert kinds == {LoopKind.PRODUCT}
    assert work.units["softmax"].kind is LoopKind.EACH


UNITS = st.builds(
    UnitLoad,
    iterations=st.integers(0, 10**12),
    kind=st.sampled_from(LoopKind),
    values=st.integers(0, 10**9),
    taken=st.integers(0, 10**9),
    dtype=st.sampled_from(["float16", "float32", "int64", ""]),
    calls=st.integers(0, 100),
    derivations=st.integers(0, 100),
)


@given(
    unit=UNITS,
    more=UNITS,
    samples=st.integers(1, 9),
    slower=st.floats(1, 100),
    gpu=st.sampled_from(["cpu", "cuda"]),
)
def test_costs_grow_with_the_work_and_with_a_slower_machine(unit, more, samples, slower, gpu):
    """More calls, units or samples never take less time, and nothing takes less than none."""

    def costs(units, samples, busy=1.0):
        work = Work(
            units=units,
            activation_bytes=1 << 20,
            weights_bytes=1 << 20,
            derived_bytes=0,
            samples=samples,
            has_framework=True,
        )
        found = Costs(work=work, speed=dataclasses.replace(SPEED, busy=busy))
        return [
            found.run_s(gpu), found.derive_s(gpu), found.framework_s, found.carve_s,
            found.replay_s(1.0, gpu), found.build_s(len(units), gpu),
        ]  # fmt: skip

    few = costs({"one": unit}, samples)
    often = dataclasses.replace(unit, calls=unit.calls + 1, derivations=unit.derivations + 1)
    assert all(value >= 0 for value in few)
    for many in (
        costs({"one": unit, "other": more}, samples),
        costs({"one": unit}, samples + 1),
        costs({"one": unit}, samples, slower),
        costs({"one": often}, samples)[:3] + few[3:],
    ):
        assert all(a <= b * (1 + 1e-9) for a, b in zip(few, many, strict=True))


def test_the_speed_of_this_machine_is_measured():
    """Whatever the dtype of the model is; every number of it is one that work can be divided by."""
    for dtype in ("float16", "int8"):
        speed = machine_speed(dtype)
        assert 1e-3 <= speed.build_s < 60
        assert 0 < speed.product_s < 1
        assert speed.copy_bytes_per_s > 0
        assert speed.busy >= 1


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


def test_a_slow_machine_is_seen_by_what_it_has_built(planner):
    """Ten times slower at building is slower at all else, too, but not more than that."""
    usual, slow = (planner.plan(ran(1e-6, build_s, 8)) for build_s in (1.0, 10.0))
    assert 1 < slow.seconds["carve"] / usual.seconds["carve"] <= 10
    busy = planner_of(model(), dataclasses.replace(SPEED, busy=5.0)).plan()
    assert busy.total_s == pytest.approx(5 * planner.plan().total_s, rel=0.2)


def test_an_isolated_run_has_no_steps():
    assert planner_of(model(), strategy=None).plan().seconds["migrate"] == 0


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
