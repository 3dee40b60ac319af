"""Large results that should be the same are compared where they are, and cross if they are not."""

from __future__ import annotations

import numpy as np
import pytest
from broken_pipelines import breaks, storing
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812

from relax_tapml.replays.replay import replay
from relax_tapml.targets.session._vm_session import VMSession


@I.ir_module
class Turned:
    @R.function
    def main(x: R.Tensor((48, 64), "float16")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            y = R.permute_dims(x)
            z = R.nn.softmax(x)
            R.output(y, z)
        return y, z


@pytest.fixture(scope="module")
def folder(record_model, tmp_path_factory):
    rng = np.random.default_rng(0)
    samples = [(rng.standard_normal((48, 64)).astype("float16"),) for _ in range(2)]
    recording = record_model(Turned, tmp_path_factory.mktemp("turned") / "captures", samples)
    folder = tmp_path_factory.mktemp("turned_suite") / "tests"
    recording.write_suite(folder)
    recording.store.close()
    return folder


@pytest.fixture
def fetched(monkeypatch):
    """The shapes of the results that crossed, where all results are large."""
    monkeypatch.setattr("relax_tapml.suite.open_suite.SHARED_BYTES", 0)
    shapes, download = [], VMSession.download

    def noted(session, tensor):
        shapes.append(tuple(tensor.shape))
        return download(session, tensor)

    monkeypatch.setattr(VMSession, "download", noted)
    return shapes


def test_what_is_the_same_does_not_cross(folder, fetched):
    """It is judged as if it did."""
    report = replay(folder, target="llvm", session="inline", seed=1)
    assert set(report.units.values()) == {"pass"}
    assert (48, 64) in fetched  # a softmax has a tolerance
    assert (64, 48) not in fetched
    for case in report.details["transpose"].cases:
        [comparison] = case.comparisons
        assert (comparison.total, comparison.cosine, comparison.snr_db) == (3072, 1.0, np.inf)


def test_what_is_not_the_same_crosses_and_is_judged(folder, fetched):
    """With the value that is wrong."""
    pipeline = breaks("transpose", storing(lambda value: value + value))
    report = replay(
        folder, target="llvm", session="inline", device_pipeline=pipeline, units=["transpose"]
    )
    assert report.units == {"transpose": "mismatch"}
    assert (64, 48) in fetched
    worst = report.details["transpose"].worst
    assert worst.first_actual == 2 * worst.first_expected
