"""An error that needs company is found, with the company it needs and nobody else."""

from __future__ import annotations

import broken_pipelines
import pytest
from broken_pipelines import breaks
from tiny_model import UNITS
from tiny_runs import all_but, run_again, unit_of

from relax_tapml import read_result

FIRST, SECOND = "softmax", "layer_norm"


def test_two_units_that_are_wrong_together_are_both_named(wrong_together):
    """Found by halves; what other strategies find is tested without devices."""
    result = read_result(wrong_together)
    assert (result.verdict, result.culprits) == ("mismatch", [FIRST, SECOND])
    units = {unit["name"]: unit for unit in result.document["units"]}
    assert {unit["alone"] for unit in units.values()} == {"pass"}
    assert units[FIRST]["together"] == [SECOND]
    assert units[SECOND]["together"] == [FIRST]
    assert units[SECOND]["reason"].startswith(
        f"passes alone, but with it and {FIRST} together on the device the model fails on 'first'"
    )
    steps = result.document["steps"]
    assert (steps[-1]["verdict"], steps[-1]["boundary"]) == (
        "pass",
        all_but(SECOND),
    )
    pair = [step for step in steps if step["boundary"] == sorted([FIRST, SECOND])]
    assert [(step["purpose"], step["verdict"]) for step in pair] == [("reduce", "mismatch")]


def test_a_search_that_was_stopped_goes_on(finished):
    """Resumed it makes the steps that are missing; another search begins anew."""
    first = run_again(finished, strategy="bisect")
    assert [step["purpose"] for step in first.document["steps"]] == ["baseline", "move"]
    again = run_again(finished, strategy="bisect")
    assert again.document["steps"] == first.document["steps"]
    by_kind = run_again(finished, by="kind")
    assert [step["purpose"] for step in by_kind.document["steps"]] == [
        "baseline",
        *["move"] * len(UNITS),
    ]


@pytest.mark.parametrize(
    ("by", "steps"),
    [("unit", 8), ("kind", 8), ("function", 1), ("site", 9)],
)
def test_what_moves_in_a_step_is_chosen(by, steps, finished):
    """All sites get there, whatever moves at once; the steps say what."""
    result = run_again(finished, by=by)
    assert (result.verdict, result.document["by"]) == ("pass", by)
    assert len(result.document["steps"]) == 1 + steps
    assert all(unit["on_device"] for unit in result.document["units"])
    names = [name for step in result.document["steps"] for name in step["moved"]]
    assert len(names) == len(set(names)) == (9 if by in ("function", "site") else 8)


def test_a_boundary_that_was_written_can_be_edited_and_used(finished, tmp_path):
    """Only what it names moves; the rest passes alone and stays on the host."""
    import json

    document = json.loads((finished / "boundaries" / "003.json").read_text())
    assert document["units"] == sorted(UNITS[:3])
    document["units"], document["sites"] = ["cumsum"], ["main/000/matmul"]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(document))
    result = run_again(finished, boundary=path)
    assert result.verdict == "pass"
    assert result.document["steps"][-1]["boundary"] == ["cumsum", "matmul"]
    assert result.document["steps"][-1]["crossing_bytes"] == 4 * (32 + 32 + 16 + 16)
    moved = {unit["name"] for unit in result.document["units"] if unit["on_device"]}
    assert moved == {"cumsum", "matmul"}
    manifest = json.loads((finished / "bundle" / "manifest.json").read_text())
    assert manifest["boundary"]["sites"] == ["main/000/matmul"]


def test_a_unit_that_is_wrong_now_and_then_is_flaky(finished):
    """With its count; nobody else is named, and the bundle leaves it on the host."""
    pipeline = breaks("softmax", broken_pipelines.every_third)
    result = run_again(finished, pipeline, repeat=9)
    assert (result.verdict, result.culprits) == ("flaky", ["softmax"])
    told = unit_of(result, "softmax")
    assert (told["runs"], told["failures"]) == (9, 3)
    assert told["reason"].startswith("fails 3 of 9 times: differs by up to ")
    assert result.document["steps"][-1]["boundary"] == all_but("softmax")
