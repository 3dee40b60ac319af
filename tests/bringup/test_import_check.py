"""Whether the source computes what the framework does."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from tiny_model import in_numpy
from tiny_model import model as tiny_model

from relax_tapml.bringup._import_check import check_import, import_distance, import_result
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import SourceError
from relax_tapml.results.import_result import ImportResult
from relax_tapml.results.json_codec import encode


def judged(mine, theirs, accurate=None, **changes):
    """Judge one output of a model that has one sample."""
    model = dataclasses.replace(
        tiny_model(),
        samples=tiny_model().samples[:1],
        reference=lambda _: [theirs],
        accurate=None if accurate is None else lambda _: [accurate],
        **changes,
    )
    return check_import(model, [[mine]])


EXACT = np.random.default_rng(0).standard_normal((8, 200))
NOISE = 0.004 * np.random.default_rng(1).standard_normal((2, 8, 200))
FRAMEWORK, SOURCE = ((EXACT + noise).astype("float16") for noise in NOISE)


def test_the_framework_is_run_more_accurately_only_where_that_decides():
    """Most models agree at once."""
    model = tiny_model()

    def unwanted(sample):
        raise AssertionError(f"asked for {sample.name}")

    weights = model.params
    outputs = [in_numpy(*sample.arrays, **weights) for sample in model.samples]
    check = check_import(dataclasses.replace(model, accurate=unwanted), outputs)
    assert (check.verdict, check.precision, check.note) == (Verdict.PASS, None, "")
    assert check.share < 1e-3
    assert check.agreement == "agrees with the framework"


def test_a_source_off_by_what_the_framework_is_off_by_agrees():
    """It does not by the framework's output alone."""
    check = judged(SOURCE, FRAMEWORK)
    assert check.verdict is Verdict.MISMATCH
    assert "there is no more accurate run of the framework" in check.reason
    check = judged(SOURCE, FRAMEWORK, EXACT)
    assert (check.verdict, check.precision) == (Verdict.PASS, "float64")
    assert check.apart == pytest.approx(np.abs(SOURCE - FRAMEWORK).max(), rel=1)
    assert 0.01 < check.share < 0.1


@pytest.mark.parametrize("wrong", ["zeros", "negative", "scaled", "rows", "one value"])
def test_a_wrong_import_is_found_all_the_same(wrong):
    """Also by the more accurate run; the message has tolerance and origin."""
    mine = {
        "zeros": np.zeros_like(SOURCE),
        "negative": -SOURCE,
        "scaled": (SOURCE * np.float16(1.1)).astype("float16"),
        "rows": SOURCE[[1, 0, *range(2, 8)]],
        "one value": np.where(np.arange(1600).reshape(8, 200) == 77, SOURCE + 1, SOURCE),
    }[wrong].astype("float16")
    check = judged(mine, FRAMEWORK, EXACT)
    assert check.verdict is Verdict.MISMATCH
    assert check.reason.startswith("differs from the framework's more accurate run by up to ")
    assert f"; tolerance {check.decisive.allowed:.3g}: 16 times the error of the" in check.reason


def test_a_framework_that_is_far_off_itself_says_nothing():
    """It accepts everything, which is no agreement."""
    rng = np.random.default_rng(2)
    check = judged(rng.standard_normal((8, 200)), rng.standard_normal((8, 200)), EXACT)
    assert check.verdict is Verdict.MISMATCH  # Not wider than float64.
    theirs, mine = (rng.standard_normal((8, 200)).astype("float32") for _ in range(2))
    check = judged(mine, theirs, EXACT)
    assert check.verdict is Verdict.INCONCLUSIVE
    assert check.blunt == ("sample 'first', output 0",)
    assert check.reason.startswith("what the output may be off by would also accept 1.1 times")


def test_a_more_accurate_run_that_fails_is_told():
    """And the framework's output decides."""

    def failing(sample):
        raise RuntimeError("no kernel for double\nmore")

    model = dataclasses.replace(
        tiny_model(), samples=tiny_model().samples[:1], reference=lambda _: [FRAMEWORK]
    )
    check = check_import(dataclasses.replace(model, accurate=failing), [[SOURCE]])
    assert check.verdict is Verdict.MISMATCH
    assert "a more accurate run of the framework failed: no kernel for double" in check.reason


def test_another_count_or_shape_of_outputs_is_a_mismatch():
    """Nothing is broadcast, and no output is left out."""
    check = judged(SOURCE[:4], FRAMEWORK, EXACT)
    assert (check.verdict, check.decisive.reason) == (
        Verdict.MISMATCH,
        "expected shape [8, 200], got [4, 200]",
    )
    model = dataclasses.replace(
        tiny_model(), samples=tiny_model().samples[:1], reference=lambda _: [FRAMEWORK, FRAMEWORK]
    )
    check = check_import(model, [[FRAMEWORK]])
    assert check.decisive.reason == "output 1 is missing: expected 2 outputs, got 1"


def test_a_framework_that_raises_is_named():
    """With what it says."""
    model = tiny_model()

    def raising(sample):
        raise ValueError("index out of range")

    with pytest.raises(SourceError, match="own run of sample 'first' failed: ValueError: index o"):
        check_import(dataclasses.replace(model, reference=raising), [[SOURCE]] * 2)


def test_its_documents_are_strict_json():
    """Also where the source has NaN, and where nothing was compared."""
    nan = np.full_like(SOURCE, np.nan)
    check = judged(nan, FRAMEWORK, EXACT)
    assert math.isnan(check.apart)
    old, new = import_distance(check), import_result(check, "went on")
    json.dumps([encode(old), encode(new)], allow_nan=False)
    assert (old.verdict, new.warning) == (Verdict.MISMATCH, "went on")
    assert math.isnan(old.max_abs)
    assert new.judged_by == "float64 run"
    assert import_distance(None) is None
    assert import_result(None, "") is None
    assert import_result(None, "failed") == ImportResult(warning="failed")
