"""A model that derives weights: each is computed once, and a wrong kernel that does so is named."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from broken_pipelines import breaks, scale, storing
from tvm import tirx
from weighted import DEQUANTIZE, LAYERS, TRANSPOSE, model, weights

from relax_tapml import bring_up, load
from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import ParameterValue
from relax_tapml.suite.open_suite import open_suite


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    """A finished run on a right target."""
    out = tmp_path_factory.mktemp("weighted") / "out"
    return bring_up(model(), session="inline", out=out)


def run_again(migrated, folder, pipeline):
    """Continue a copy of the run with another kernel."""
    out = shutil.copytree(migrated.out, folder / "out")
    return bring_up(
        model(), session="inline", out=out, resume=True, repair=False, device_pipeline=pipeline
    )


def test_every_unit_is_judged_and_moves(migrated):
    """Those that derive weights, too; the model has as many sites as before."""
    assert (migrated.verdict, migrated.culprits) == ("pass", [])
    units = {unit["name"]: unit for unit in migrated.document["units"]}
    assert {unit["verdict"] for unit in units.values()} == {"pass"}
    assert all(unit["on_device"] and unit["cases"] for unit in units.values())
    assert (units[TRANSPOSE]["sites"], units[DEQUANTIZE]["sites"]) == (LAYERS + 1, 1)
    assert migrated.document["skipped"] == []


def test_a_derived_weight_is_captured_once(migrated):
    """It is a parameter, named after what it comes from, and its bytes are stored once."""
    with CaptureStore.open(migrated.out / "captures") as store:
        calls = {site.site: list(store.calls(site.site)) for site in store.sites()}
        (transposed,) = calls["prefill/000/transpose"]
        assert transposed.inputs == (ParameterValue(name="w0"),)
        # In the order of their names, decode is first.
        assert transposed.outputs == (ParameterValue(name="transpose(w0)#2"),)
        assert transposed.function == "prefill"
        derived = [site for site in calls if TRANSPOSE in site or DEQUANTIZE in site]
        assert {site: len(calls[site]) for site in derived} == dict.fromkeys(derived, 1)
        products = [site for site in calls if site.startswith("prefill/") and "matmul" in site]
        assert {len(calls[site]) for site in products} == {3}
        assert calls["prefill/001/matmul1"][2].inputs[1] == ParameterValue(name="transpose(w0)#2")
        np.testing.assert_array_equal(store.parameter("transpose(w0)"), weights()["w0"].T)
        # Both functions transpose w0, and its bytes are there once.
        names = {f"transpose(w{number})" for number in range(LAYERS)}
        names |= {"transpose(w0)#2", f"{DEQUANTIZE}(q, s)"}
        assert set(store.parameters()) == names | weights().keys()
        derived_bytes = sum(store.parameter(n).nbytes for n in names) - weights()["w0"].nbytes
        own_bytes = sum(array.nbytes for array in weights().values())
        assert store.stats().parameter_bytes == own_bytes + derived_bytes


def test_a_bundle_derives_what_it_needs(migrated):
    """It has the weights of the model, and gives its outputs."""
    sample = model().samples[0]
    with load(migrated.out / "bundle") as bundle:
        outputs = [model().run(bundle, sample) for _ in range(2)]
    _, transposed, *_ = outputs[0]
    np.testing.assert_array_equal(transposed, weights()["w0"].T)
    assert [a.tobytes() for a in outputs[0]] == [a.tobytes() for a in outputs[1]]


@pytest.mark.parametrize("unit", [TRANSPOSE, DEQUANTIZE])
def test_a_wrong_kernel_that_derives_weights_is_named(unit, migrated, tmp_path):
    """Alone, and nothing else is."""
    result = run_again(migrated, tmp_path, breaks(unit, scale))
    assert (result.verdict, result.culprits) == ("mismatch", [unit])
    assert result.document["steps"][-1]["verdict"] == "pass"


def test_a_kernel_that_is_wrong_for_one_weight_is_named_in_context(migrated, tmp_path):
    """No case has the weight, so that only the model shows it."""
    suite = open_suite(migrated.out / "tests")
    tested = [
        suite.tensor(value.tensor).tobytes()
        for case in suite.manifest.units[TRANSPOSE].cases
        for value in case.inputs
    ]
    untested = next(w for name, w in weights().items() if w.tobytes() not in tested and name != "q")
    value = tirx.const(float(untested[2, 3]), "float32")

    def change(stored):
        return tirx.Select(stored == value, tirx.const(9.0, "float32"), stored)

    result = run_again(migrated, tmp_path, breaks(TRANSPOSE, storing(change)))
    assert (result.verdict, result.culprits) == ("mismatch", [TRANSPOSE])
    units = {unit["name"]: unit for unit in result.document["units"]}
    assert units[TRANSPOSE]["alone"] == "pass"
    assert "passes alone, but with it on the device" in units[TRANSPOSE]["reason"]


def test_a_kernel_that_rounds_otherwise_is_not_blamed(migrated, tmp_path):
    """The tolerances of the model's outputs allow for noise in dequantised weights."""
    third = tirx.const(3.0, "float32")

    def change(stored):
        return stored * third / third

    result = run_again(migrated, tmp_path, breaks(DEQUANTIZE, storing(change)))
    assert (result.verdict, result.culprits) == ("pass", [])
