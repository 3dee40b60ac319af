"""Among equal scores any choice is right: alone, in the model and against the framework."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from broken_pipelines import breaks
from choosing_models import (
    ROUTES,
    TABLE,
    inside,
    last_of_equals,
    logits,
    lowest,
    pick,
    route,
    row_before,
    second_best,
    sums_backwards,
)
from tiny_runs import unit_of

from relax_tapml import bring_up
from relax_tapml.errors import SourceError

PICK, LOWEST = "fused_argmax_less_add_where", "fused_argmin_multiply"


def run(model, out, *passes):
    pipeline = tvm.transform.Sequential(list(passes)) if passes else None
    return bring_up(
        model, out=out / "run", session="inline", repair=False, device_pipeline=pipeline
    )


@pytest.mark.parametrize(
    ("make", "unit", "count"),
    [(pick, PICK, "2 of 3"), (lowest, LOWEST, "2 of 3"), (inside, "choose", "6 of 18")],
    ids=["a wrapped index", "an index as output", "a row in one kernel"],
)
def test_the_last_of_equal_scores_is_right_and_reported(make, unit, count, tmp_path):
    """The unit passes alone; the model is compared after its choices were replaced."""
    result = run(make(), tmp_path, breaks(unit, last_of_equals))
    assert (result.verdict, result.culprits) == ("pass", [])
    moved = [step for step in result.document["steps"] if step["moved"]]
    ties = [tie for step in moved for tie in step["ties"]]
    assert len(ties) == len(moved)
    assert all(f"main/000/{unit}: {count} values" in tie for tie in ties)
    own = unit_of(result, unit)
    assert own["metrics"]["ties"] == int(count.split()[0])
    assert own["on_device"]


@pytest.mark.parametrize(
    ("make", "unit", "wrong"),
    [
        (pick, PICK, second_best),
        (lowest, LOWEST, second_best),
        (inside, "choose", second_best),
        (inside, "choose", row_before),
    ],
)
def test_a_choice_that_is_worse_is_wrong(make, unit, wrong, tmp_path):
    """Also in a kernel that takes the last of equal scores."""
    result = run(make(), tmp_path, breaks(unit, last_of_equals), breaks(unit, wrong))
    assert (result.verdict, result.culprits) == ("mismatch", [unit])


def test_scores_that_rounding_swaps_are_ties(tmp_path):
    """A sum in another order may lead to another token and another row: no unit is wrong."""
    result = run(logits(), tmp_path, breaks("matmul", sums_backwards))
    assert (result.verdict, result.culprits) == ("pass", [])
    ties = [tie for step in result.document["steps"] for tie in step["ties"]]
    assert any("main/001/argmax" in tie for tie in ties)


def test_scores_that_are_wrong_are_no_ties(tmp_path):
    """What the choice hides in the outputs, the unit itself shows."""
    from broken_pipelines import mirror

    result = run(logits(), tmp_path, breaks("matmul", mirror))
    assert result.culprits == ["matmul"]


def framework(places, shift=0.0):
    """Return the outputs of a framework that routes to these experts."""

    def outputs(_sample):
        weights = np.take_along_axis(ROUTES, np.array(places), 1)[..., None]
        return [((TABLE[places] + np.float32(shift)) * weights).sum(1, dtype="float32")]

    return outputs


@pytest.mark.parametrize("second", [1, 2, 3])
def test_a_framework_may_choose_any_of_equal_scores(second, tmp_path):
    """The import is right whichever expert it was."""
    model = route(framework([[1, 2], [0, second], [0, 1]]))
    assert run(model, tmp_path).verdict == "pass"


@pytest.mark.parametrize(
    ("places", "shift"), [([[1, 2], [0, 1], [0, 3]], 0.0), ([[1, 2], [0, 2], [0, 1]], 0.01)]
)
def test_a_framework_that_computes_something_else_is_an_error(places, shift, tmp_path):
    """Another expert where scores differ; other numbers everywhere."""
    with pytest.raises(SourceError, match="framework"):
        run(route(framework(places, shift)), tmp_path)
