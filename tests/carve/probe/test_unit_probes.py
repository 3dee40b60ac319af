"""Cases that were not recorded."""

from __future__ import annotations

import numpy as np
import pytest
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812

from relax_tapml import bring_up
from relax_tapml.compare.verdict import Verdict
from relax_tapml.frontend.model import Model, Sample
from relax_tapml.replays.replay import replay


@I.ir_module
class Attention:
    @R.function
    def main(
        x: R.Tensor((4, 8), "float32"),
        y: R.Tensor((4, 8), "float32"),
        mask: R.Tensor((4, 8), "bool"),
        i: R.Tensor((3,), "int64"),
        w: R.Tensor((8, 8), "float32"),
    ):
        R.func_attr({"num_input": 4})
        with R.dataflow():
            a = R.matmul(y, w)
            b = R.nn.softmax(a, axis=-1)
            c = R.where(mask, y, x)
            d = R.take(b, i, axis=0)
            e = R.permute_dims(w)
            R.output(c, d, e)
        return c, d, e


@pytest.fixture(scope="module")
def attention(record_model, tmp_path_factory):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 4, 8), "float32")
    x[0, 0] = -np.inf
    x[1:3, 6] = -1e9
    mask = np.zeros((4, 8), bool)
    mask[:, :3] = True
    sample = (x, y, mask, np.array([3, 0, 1]), rng.standard_normal((8, 8), "float32"))
    recording = record_model(Attention, tmp_path_factory.mktemp("probes") / "captures", [sample])
    folder = tmp_path_factory.mktemp("probed") / "tests"
    yield recording, recording.write_suite(folder), sample
    recording.store.close()


def probes_of(suite, unit):
    return [case for case in suite.manifest.units[unit].cases if case.is_probe]


def inputs_of(suite, case):
    return [suite.tensor(item.tensor) for item in case.inputs]


def test_a_unit_gets_a_few_probes(attention):
    """Beside its recorded cases, each with the reason; and none that only reads weights."""
    _, suite, _ = attention
    names = [case.name for case in probes_of(suite, "softmax")]
    assert names == ["main-001-large", "main-001-small", "main-001-rows"]
    for case in probes_of(suite, "softmax"):
        assert case.reason.startswith("probe: inputs of main-001-case0, shuffled and ")
        assert case.name in (suite.folder / "test_softmax.py").read_text()
    (transposed,) = (unit for unit in suite.manifest.units if "transpose" in unit)
    assert not probes_of(suite, transposed)


def test_values_are_shuffled_and_scaled_and_weights_are_not(attention):
    """Mask values and infinities stay what they are, wherever they come to lie."""
    _, suite, (x, _, _, _, w) = attention
    for case in probes_of(suite, "matmul"):
        changed, weight = inputs_of(suite, case)
        np.testing.assert_array_equal(weight, w)
        assert [item.weight for item in case.inputs] == [None, "w"]
        (before, _) = inputs_of(suite, suite.manifest.units["matmul"].cases[0])
        factor = float(case.reason.rpartition(" ")[2])
        assert (changed != (before * factor).astype("float32")).any()
        np.testing.assert_allclose(np.sort(changed, None), np.sort(before * factor, None), 1e-6)
    found = probes_of(suite, "where")
    assert len(found) == 2
    for case in found:
        (changed,) = (a for a in inputs_of(suite, case) if (a == -np.inf).any())
        assert (changed <= -1e9).sum() == (x <= -1e9).sum() == 3
        assert not np.array_equal(changed <= -1e9, x <= -1e9)


def test_indices_are_drawn_and_bool_is_shuffled(attention):
    """Indices stay inside their axis; rows of a mask that are all alike hide wrong rows."""
    _, suite, (_, _, mask, i, _) = attention
    unit = next(unit for unit in suite.manifest.units if "where" in unit)
    found = [
        array
        for case in probes_of(suite, unit)
        for array in inputs_of(suite, case)
        if array.dtype == bool
    ]
    assert found
    for array in found:
        assert array.sum() == mask.sum()
        assert (array != array[0]).any()
    gather = next(unit for unit in suite.manifest.units if "take" in unit)
    permuted, drawn = (inputs_of(suite, case)[1] for case in probes_of(suite, gather))
    np.testing.assert_array_equal(np.sort(permuted), np.sort(i))
    assert not np.array_equal(permuted, i)
    assert (drawn.min(), drawn.max()) == (0, 3)


def test_probes_pass_on_the_source(attention):
    """Their oracle is the unit in float64, which no kernel has computed."""
    _, suite, _ = attention
    report = replay(suite.folder, session="inline")
    assert set(report.units.values()) == {Verdict.PASS}
    assert sum(item.case.is_probe for unit in report.details.values() for item in unit.cases) > 4


def test_the_same_recording_gives_the_same_probes(attention, tmp_path):
    """They are not random."""
    recording, suite, _ = attention
    again = recording.write_suite(tmp_path / "tests").manifest
    assert again.units == suite.manifest.units


def test_probes_can_be_left_out(attention, tmp_path):
    """All of them."""
    recording, _, _ = attention
    manifest = recording.write_suite(tmp_path / "none", is_probed=False).manifest
    assert not any(case.is_probe for unit in manifest.units.values() for case in unit.cases)


@I.ir_module
class Softmax:
    @R.function
    def main(x: R.Tensor((2, 4), "float32")):
        with R.dataflow():
            b = R.nn.softmax(x, axis=-1)
            R.output(b)
        return b


def test_a_probe_that_the_source_fails_is_dropped(tmp_path):
    """A source whose softmax overflows for large values is right for the recorded ones."""
    x = np.random.default_rng(0).standard_normal((2, 4)).astype("float32")
    model = Model(
        module=Softmax, params={}, samples=(Sample(name="a", arrays=(x,)),), name="softmax"
    )
    result = bring_up(
        model,
        out=tmp_path / "out",
        session="inline",
        strategy="isolated",
        host_pipeline="overflowing:pipeline",
        repair=False,
        device_pipeline="overflowing:pipeline",
    )
    assert result.verdict == "pass"
    unproven = result.document["unproven"]
    assert list(unproven) == ["softmax/main-000-large", "softmax/main-000-rows"]
    for reason in unproven.values():
        start = "the source itself fails this probe: NaN where the oracle is finite"
        assert reason.startswith(start)
    right = bring_up(
        model,
        out=tmp_path / "right",
        session="inline",
        strategy="isolated",
        repair=False,
        device_pipeline="overflowing:pipeline",
    )
    assert right.culprits == ["softmax"]
    [unit] = right.document["units"]
    assert "(probe: inputs of main-000-case0, shuffled and times" in unit["reason"]
