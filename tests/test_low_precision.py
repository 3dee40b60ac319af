"""Narrow floats are captured bit for bit, replayed bit for bit, and a wrong kernel is found."""

from __future__ import annotations

import narrow_model
import numpy as np
import pytest
from broken_pipelines import breaks, mirror

import relax_tapml
from relax_tapml import bring_up
from relax_tapml.capture.store import CaptureStore

DTYPES = ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]


@pytest.fixture(scope="module", params=DTYPES)
def run(request, tmp_path_factory):
    """A run of right kernels, and the model."""
    model = narrow_model.model(request.param)
    out = tmp_path_factory.mktemp(request.param) / "run"
    return bring_up(model, session="inline", strategy="bisect", out=out), model


def test_a_narrow_float_is_kept_bit_for_bit(run):
    """Weights, inputs and outputs, in the store, on the device, in the bundle."""
    result, model = run
    assert (result.verdict, result.document["skipped"]) == ("pass", [])
    assert [unit["name"] for unit in result.document["units"]] == narrow_model.UNITS
    assert {unit["error"] for unit in result.document["units"]} == {0}
    store = CaptureStore.open(result.out / "captures")
    assert store.parameter("w").dtype == model.params["w"].dtype
    assert store.parameter("w").tobytes() == model.params["w"].tobytes()
    with relax_tapml.load(result.out / "bundle", session="process") as bundle:
        for label, sample in zip(store.samples(), model.samples, strict=True):
            recorded = [store.tensor(value.digest) for value in store.sample_outputs(label)]
            for actual, oracle in zip(bundle["main"](*sample.arrays), recorded, strict=True):
                assert actual.dtype == oracle.dtype == model.params["w"].dtype
                np.testing.assert_array_equal(actual.view(np.uint8), oracle.view(np.uint8))


@pytest.mark.parametrize("unit", ["fused_matmul_cast2", "transpose"])
def test_a_wrong_kernel_of_a_narrow_float_is_named(unit, run):
    """Whether it computes in it or only moves it."""
    result, model = run
    wrong = bring_up(
        model,
        session="inline",
        strategy="bisect",
        out=result.out,
        resume=True,
        repair=False,
        device_pipeline=breaks(unit, mirror),
    )
    assert (wrong.verdict, wrong.culprits) == ("mismatch", [unit])
