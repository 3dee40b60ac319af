"""What fails on the source itself is taken out, and the rest stays as it was."""

from __future__ import annotations

import os

import cache_drives
import numpy as np
import pytest
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812

from relax_tapml import bring_up
from relax_tapml._compat import IS_TVM_026
from relax_tapml.bringup._verified_suite import write_verified_suite
from relax_tapml.capture.store import CaptureStore
from relax_tapml.carve.unit.unit_tolerances import UnitTolerances
from relax_tapml.compare.verdict import Verdict
from relax_tapml.derive.derivation import Derivation
from relax_tapml.frontend.model import Model, Sample
from relax_tapml.replays.replay import replay
from relax_tapml.suite.open_suite import open_suite
from relax_tapml.suite.revise_suite import drop_cases


@I.ir_module
class Two:
    @R.function
    def main(x: R.Tensor((2, 4), "float32")):
        with R.dataflow():
            a = R.nn.softmax(x, axis=-1)
            b = R.sum(a, axis=[0])
            R.output(b)
        return b


X = np.random.default_rng(0).standard_normal((2, 4)).astype("float32")


def two() -> Model:
    return Model(module=Two, params={}, samples=(Sample(name="a", arrays=(X,)),), name="two")


@pytest.fixture(scope="module")
def recording(record_model, tmp_path_factory):
    found = record_model(Two, tmp_path_factory.mktemp("two") / "captures", [(X,)])
    yield found
    found.store.close()


def test_a_probe_is_left_out_with_everything_that_only_it_needed(recording, tmp_path):
    """The suite is whole: it opens, passes, and has no unlisted file."""
    written = recording.write_suite(tmp_path / "tests")
    before = written.manifest
    dropped = next(case for case in before.units["softmax"].cases if case.name.endswith("large"))
    reasons = {f"softmax/{dropped.name}": "the source itself fails this probe: NaN"}
    suite = drop_cases(written, reasons)
    manifest = suite.manifest
    assert open_suite(tmp_path / "tests").manifest == manifest
    assert manifest.dropped_cases == reasons
    assert dropped not in manifest.units["softmax"].cases
    assert manifest.units["sum"] == before.units["sum"]
    assert dropped.inputs[0].tensor in before.tensors.keys() - manifest.tensors.keys()
    files = {p.relative_to(suite.folder).as_posix() for p in suite.folder.rglob("*") if p.is_file()}
    assert files == {"manifest.json", *manifest.sha256}
    assert dropped.name not in (suite.folder / manifest.units["softmax"].test).read_text()
    assert dropped.name in (suite.folder / "test_not_carved.py").read_text()
    assert set(replay(suite.folder, session="inline").units.values()) == {Verdict.PASS}


def test_a_failed_probe_derives_nothing_again(tmp_path, monkeypatch):
    """Each recorded case has its tolerances derived once."""
    derived, count = tmp_path / "derived", UnitTolerances.of

    def counted(self, *args):
        with derived.open("a") as file:  # forks have no other memory in common
            file.write(".")
        return count(self, *args)

    monkeypatch.setattr(UnitTolerances, "of", counted)
    result = bring_up(
        two(),
        out=tmp_path / "out",
        session="inline",
        strategy="isolated",
        host_pipeline="overflowing:pipeline",
        repair=False,
        device_pipeline="overflowing:pipeline",
    )
    assert result.verdict == "pass"
    assert "softmax/main-000-large" in result.document["unproven"]
    assert derived.read_text() == ".."


def test_a_probe_that_crashes_the_source_is_dropped(tmp_path):
    """It is left out like one that the source gets wrong."""
    result = bring_up(
        two(),
        out=tmp_path / "out",
        session="inline",
        strategy="isolated",
        host_pipeline="crashing:aborting_when_large",
    )
    assert result.verdict == "pass"
    reason = result.document["unproven"]["softmax/main-000-large"]
    assert reason.startswith("the source itself fails this probe: ")
    assert reason.endswith(" was terminated by SIGABRT")


@pytest.mark.needs_forks
def test_an_evaluation_that_crashes_costs_a_probe_and_not_the_tool(
    recording, tmp_path, monkeypatch
):
    """The unit is carved again without it; others are not, and the reason is listed."""
    carved, evaluated = tmp_path / "carved", Derivation.evaluated

    def crashing(self, arguments, scalars, like, **options):
        if any(np.abs(array).max() > 100 for array in arguments.values()):
            os.abort()
        return evaluated(self, arguments, scalars, like, **options)

    def counted(self, function, inputs, oracles, count=UnitTolerances.of):
        with carved.open("a") as file:
            file.write(f"{inputs[0].ndim}{oracles[0].ndim} ")
        return count(self, function, inputs, oracles)

    monkeypatch.setattr(Derivation, "evaluated", crashing)
    monkeypatch.setattr(UnitTolerances, "of", counted)
    # Both units in one fork, one after the other.
    monkeypatch.setattr("relax_tapml.carve.write_suite.usable_cores", lambda: 1)
    manifest = recording.write_suite(tmp_path / "tests").manifest
    assert manifest.units.keys() == {"softmax", "sum"}
    assert set(manifest.dropped_cases.values()) == {
        "its float64 evaluation was terminated by SIGABRT"
    }
    assert "softmax/large" in manifest.dropped_cases
    assert all(case.reason for unit in manifest.units.values() for case in unit.cases)
    # softmax is carved until it does not crash, and not again for what sum does.
    order = carved.read_text().split()
    assert order == sorted(order, reverse=True)
    assert set(replay(tmp_path / "tests", session="inline").units.values()) == {Verdict.PASS}


def test_probes_that_cannot_be_made_say_why(record_model, tmp_path, monkeypatch):
    """By name, or for all of them."""
    x = np.array([[3, 1], [2, 7]], "int64")
    recording = record_model(Doubled, tmp_path / "captures", [(x,)])
    monkeypatch.setattr(Derivation, "evaluated", lambda *_args, **_options: None)
    manifest = recording.write_suite(tmp_path / "tests").manifest
    recording.store.close()
    (reason,) = set(manifest.dropped_cases.values())
    assert "cannot be evaluated in float64" in reason
    assert all(name.startswith("add/") for name in manifest.dropped_cases)


@I.ir_module
class Doubled:
    @R.function
    def main(x: R.Tensor((2, 2), "int64")):
        with R.dataflow():
            a = R.add(x, x)
            R.output(a)
        return a


@pytest.mark.needs_forks
def test_tolerances_that_cannot_be_derived_without_a_crash_say_so(recording, tmp_path, monkeypatch):
    """What the dtype allows is used, and the origin has the reason."""
    monkeypatch.setattr(Derivation, "tolerances", lambda *_args, **_options: os.abort())
    manifest = recording.write_suite(tmp_path / "tests").manifest
    for unit in manifest.units.values():
        origin = unit.cases[0].outputs[0].tolerance.origin
        assert origin.endswith("because its float64 evaluation was terminated by SIGABRT")


@pytest.mark.skipif(IS_TVM_026, reason="caches of TVM 0.26 tell no lengths")
@pytest.mark.parametrize("most", [1, 4])
def test_a_state_that_gives_other_results_is_not_judged(most, clean_paged, tmp_path, monkeypatch):
    """Not even where a tolerance allows for it; what is left of the unit stays, if anything is."""
    steps = (("add", 0), ("forward", {0: 9}), ("forward", {0: 1}))
    kernels = clean_paged.out / "kernels"
    recorded = cache_drives.Recorded.of(cache_drives.driven([steps]), tmp_path, kernels)
    cases = recorded.cases(most)
    wrong, stored = cases[0].record.outputs[0].digest, CaptureStore.tensor

    def moved(self, digest, **options):
        array = stored(self, digest, **options)
        return np.nextafter(array, np.float32(9)) if digest == wrong else array

    monkeypatch.setattr(CaptureStore, "tensor", moved)
    suite = write_verified_suite(
        tmp_path / "tests",
        cases,
        lowered=recorded.lowered,
        store=recorded.store,
        source=cache_drives.LLVM.target,
        pipeline=None,
        kernels=kernels,
        is_probed=False,
    )
    manifest = open_suite(suite.folder).manifest
    unit = manifest.units.get(cache_drives.ATTENTION)
    reasons = manifest.skipped if unit is None else manifest.dropped_cases
    assert len(unit.cases if unit else ()) == len(cases) - 1
    told = "its KV cache, brought into the recorded state, does not give the recorded results: "
    why = next(reason for reason in reasons.values() if reason.startswith(told))
    assert why.startswith(f"{told}its results differ by up to ")
    files = {p.relative_to(suite.folder).as_posix() for p in suite.folder.rglob("*") if p.is_file()}
    assert files == {"manifest.json", *manifest.sha256}
