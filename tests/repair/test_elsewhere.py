"""The same kernel on another device tells whether its code is right."""

from __future__ import annotations

from contextlib import closing

import broken_pipelines
import pytest

from relax_tapml.compare.verdict import Verdict
from relax_tapml.partition.device_side import device_side
from relax_tapml.repair.alternative import Layer
from relax_tapml.repair.alternatives.registry import ALTERNATIVES
from relax_tapml.repair.blame import blamed
from relax_tapml.repair.elsewhere import judge_elsewhere
from relax_tapml.repair.search import Failing, repair_unit
from relax_tapml.suite.model_beside import model_beside
from relax_tapml.suite.open_suite import open_suite
from relax_tapml.targets.open_session import open_device
from relax_tapml.targets.platforms.parse_target import parse_target

UNIT = "layer_norm"


@pytest.mark.parametrize(
    ("is_ill_there", "layer", "words"),
    [
        (False, Layer.DRIVER, "the same code is right on process"),
        (True, Layer.UNKNOWN, "the same code is wrong on process"),
    ],
)
def test_code_that_is_right_on_another_device_is_not_to_blame(
    finished, tmp_path, monkeypatch, is_ill_there, layer, words
):
    """Its kernel is wrong in every process that has a mark: what the driver is to a kernel."""
    target = parse_target("llvm", "inline")
    suite = open_suite(finished, target, trust=True)
    pipeline = broken_pipelines.breaks(UNIT, broken_pipelines.minds_mark)
    units = device_side(model_beside(suite), target, pipeline).units
    few = [one for one in ALTERNATIVES if one.name in ("unscheduled", "compensated-sums")]
    with (
        closing(open_device("inline", target)) as ill,
        closing(open_device("process", target)) as other,
    ):
        if not is_ill_there:
            assert other.session
        monkeypatch.setenv(broken_pipelines._MARK, "1")
        failing = Failing(
            suite=suite, units=units, lowered=units, target=target, device=ill, kernels=tmp_path
        )
        found = repair_unit(failing, UNIT, alternatives=few)
        assert (found.verdict, found.chosen) == (Verdict.MISMATCH, "")
        there = judge_elsewhere(suite, UNIT, units, target, other, tmp_path, is_same_code=True)
    assert blamed(found.tried)[0] is Layer.UNKNOWN
    found_layer, text = blamed(found.tried, [there])
    assert found_layer is layer
    assert words in text
