"""Recording instrumented runs."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import tvm
import tvm_ffi

from relax_tapml.capture.recorder import Recorder
from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import OpaqueValue, ParameterValue, SiteRecord, TensorValue
from relax_tapml.errors import StoreError, UsageError


def raise_after(call_site):
    """A run that ends within its second call."""
    call_site("main/000/f", [1], [2])
    call_site("main/001/g", [2])
    raise ZeroDivisionError


def full(specs, path):
    """A disk without space for a segment."""
    raise OSError(28, "No space left on device")


def call_many(call_site, count, size):
    """A run of distinct tensors."""
    for value in range(count):
        call_site("main/000/f", np.full(size, value))


def test_run_is_recorded(store, instrumented):
    """Sites, values, parameters and the run's own outputs, bit for bit."""
    rng = np.random.default_rng(0)
    x, w = rng.random((2, 8, 8), "float32")
    sites = [
        SiteRecord(site="main/000/matmul", function="main", unit="matmul", kind="call_tir"),
        SiteRecord(site="main/001/add", function="main", unit="add", kind="call_tir"),
    ]
    with Recorder(store, sites=sites) as recorder, recorder.sample("first"):
        recorder.outputs(instrumented["main"](tvm.runtime.tensor(x), tvm.runtime.tensor(w)))
    assert store.is_complete("first")
    assert store.sites() == sites
    matmul, add = store.calls(sample="first")
    assert (matmul.site, matmul.function, matmul.frame, matmul.call) == (
        *("main/000/matmul", "main", 0, 0),
    )
    assert matmul.inputs[1] == ParameterValue(name="w")
    assert add.inputs == (*matmul.outputs, matmul.inputs[0])
    assert store.sample_outputs("first") == (*add.outputs, *matmul.outputs)
    np.testing.assert_array_equal(store.parameter("w", verify=True), w)
    np.testing.assert_array_equal(store.tensor(matmul.inputs[0].digest, verify=True), x)
    np.testing.assert_allclose(store.tensor(matmul.outputs[0].digest), x @ w, rtol=1e-5)
    stats = store.stats()
    assert (stats.calls, stats.tensors, stats.parameters) == (2, 4, 1)
    assert stats.parameter_bytes == 256
    assert stats.activation_bytes == 3 * 256
    assert stats.seen_bytes == 5 * 256  # two outputs of the run are seen again


def test_samples_share_parameters_and_tensors(store, instrumented):
    """A second sample of the same input adds records and no tensor."""
    w = tvm.runtime.tensor(np.eye(8, dtype="float32"))
    with Recorder(store) as recorder:
        for name in "ab":
            with recorder.sample(name):
                instrumented["main"](tvm.runtime.tensor(np.ones((8, 8), "float32")), w)
    assert store.stats().tensors == 3
    assert [call.frame for call in store.calls()] == [0, 0, 0, 0]


def test_outputs_may_be_nested_and_of_any_kind(store):
    """Leaves keep their order and their kind."""
    tensor = tvm.runtime.tensor(np.arange(3))
    opaque = tvm_ffi.Map({})
    with Recorder(store) as recorder:
        with recorder.sample("s"):
            recorder.outputs([tensor, (np.arange(3), 4), tvm_ffi.Shape([2]), None, opaque])
        with recorder.sample("none"):
            pass
    first, second, *others = store.sample_outputs("s")
    assert first == second
    assert isinstance(first, TensorValue)
    assert others == [4, (2,), None, OpaqueValue(type_key="ffi.Map")]
    assert store.sample_outputs("none") == ()


def test_outputs_are_copied_at_once(store):
    """A buffer that is written again after the run does not change the record."""
    array = np.zeros(3)
    with Recorder(store) as recorder, recorder.sample("s"):
        recorder.outputs(array)
        array[:] = 1
    (value,) = store.sample_outputs("s")
    np.testing.assert_array_equal(store.tensor(value.digest), np.zeros(3))


def test_changed_parameter_is_recorded_by_content(store, intrinsics):
    """The name keeps its first content; calls that got another one refer to that."""
    with Recorder(store) as recorder, recorder.sample("s"):
        for value in (0, 0, 1, 0):
            frame = intrinsics.begin_frame("main")
            w = tvm.runtime.tensor(np.full(3, value))
            intrinsics.inputs(frame, "main/000/f", "@w", w)
    inputs = [call.inputs[0] for call in store.calls()]
    name = ParameterValue(name="w")
    assert [inputs[0], inputs[1], inputs[3]] == [name, name, name]
    np.testing.assert_array_equal(store.parameter("w"), np.zeros(3))
    np.testing.assert_array_equal(store.tensor(inputs[2].digest), np.ones(3))


def test_raising_run_leaves_its_sample_incomplete(store, call_site):
    """What happened before is kept, the exception is the run's own, and the next sample works."""
    with Recorder(store) as recorder:
        with pytest.raises(ZeroDivisionError), recorder.sample("bad"):
            raise_after(call_site)
        with recorder.sample("good"):
            call_site("main/000/f", [1], [2])
    assert store.incomplete_samples() == ["bad"]
    assert [call.outputs is None for call in store.calls(sample="bad")] == [False, True]
    assert len(list(store.calls(sample="good"))) == 1


def test_incomplete_sample_is_replaced_and_complete_one_is_kept(store, call_site):
    """Recording again is for samples that did not end."""
    with Recorder(store) as recorder:
        with pytest.raises(ZeroDivisionError), recorder.sample("s"):
            raise_after(call_site)
        with recorder.sample("s"):
            call_site("main/001/g", [2], [3])
        with pytest.raises(StoreError, match="'s' is complete"), recorder.sample("s"):
            pytest.fail("must not run")
        with recorder.sample("t"):
            call_site("main/000/f", [1], [2])
    assert [call.site for call in store.calls()] == ["main/001/g", "main/000/f"]
    assert store.incomplete_samples() == []


def test_writing_failure_is_raised_at_the_end_of_the_sample(store, call_site, monkeypatch):
    """A full disk neither hangs the run nor goes unnoticed, and the store stays sound."""
    with Recorder(store, budget_bytes=100_000) as recorder:
        with recorder.sample("before"):
            call_site("main/000/f", [1], [2])
        with monkeypatch.context() as patch:
            patch.setattr("relax_tapml.capture._segment.write_tensors", full)
            with (
                pytest.raises(StoreError, match=r"Recording stopped: .*No space left"),
                recorder.sample("during"),
            ):
                call_many(call_site, 50, 5000)
        with pytest.raises(StoreError, match="No space left"), recorder.sample("after"):
            pytest.fail("must not run")
    assert store.incomplete_samples() == ["during"]
    with Recorder(store) as recorder, recorder.sample("during"):
        call_site("main/000/f", [1], [2])
    assert store.incomplete_samples() == []


def test_failure_during_a_raising_run_is_noted(store, call_site, monkeypatch):
    """The run's exception is raised, with a note about the capture."""
    monkeypatch.setattr("relax_tapml.capture._segment.write_tensors", full)
    with (
        Recorder(store) as recorder,
        pytest.raises(ZeroDivisionError) as raised,
        recorder.sample("s"),
    ):
        raise_after(call_site)
    assert "No space left" in raised.value.__notes__[0]


def test_call_outside_of_a_sample_is_an_error(store, call_site):
    """Nothing is dropped silently: a run that belongs to no sample is reported."""
    with pytest.raises(StoreError, match="main/000/f outside of a sample"), Recorder(store):
        call_site("main/000/f", [1], [2])


@pytest.mark.parametrize(("name", "arguments"), [("mark", ["unknown"]), ("stop", [])])
def test_foreign_calls_of_the_queue_are_an_error_at_once(store, call_site, name, arguments):
    """Code of a model can call the functions; the recorder does not block or end then."""

    def run():
        call_site("main/000/f", [1], [2])
        tvm_ffi.get_global_func(f"relax_tapml.capture.{name}")(*arguments)

    with (
        pytest.raises(StoreError, match="Recording stopped"),
        Recorder(store) as recorder,
        recorder.sample("s"),
    ):
        run()
    assert store.incomplete_samples() == ["s"]
    with Recorder(store) as recorder, recorder.sample("s"):
        call_site("main/000/f", [1], [2])
    assert store.incomplete_samples() == []


def test_a_thread_that_ends_fails_whoever_waits(store, call_site, monkeypatch):
    """For any cause: samples raise, and runs that wait for the budget continue."""

    def end(*_arguments):
        raise SystemExit("gone")

    monkeypatch.setattr("relax_tapml.capture._events.EventWriter.apply", end)
    with Recorder(store, budget_bytes=100_000) as recorder:
        for name in ("s", "t"):
            with pytest.raises(StoreError, match="stopped: gone"), recorder.sample(name):
                call_many(call_site, 50, 5000)


def test_misuse_is_refused(store):
    """Samples do not nest; outputs belong to a sample, once, and are values."""
    with pytest.raises(UsageError, match="positive budget_bytes, got 0"):
        Recorder(store, budget_bytes=0)
    with Recorder(store) as recorder:
        with pytest.raises(UsageError, match="expected to be within"):
            recorder.outputs([])
        with recorder.sample("s"):
            with (
                pytest.raises(UsageError, match="'t' begins before sample 's'"),
                recorder.sample("t"),
            ):
                pytest.fail("must not run")
            with pytest.raises(UsageError, match="expected what a Relax function returns"):
                recorder.outputs(object())
            recorder.outputs([])
            with pytest.raises(UsageError, match="recorded already"):
                recorder.outputs([])


def test_one_recorder_at_a_time(store, tmp_path):
    """The second one of a process or of a store is refused, and harms nothing."""
    with Recorder(store):
        with pytest.raises(StoreError, match="by another recorder"), Recorder(store):
            pytest.fail("must not run")
        with (
            CaptureStore.create(tmp_path / "other", {}) as other,
            pytest.raises(RuntimeError, match="active in this process already"),
            Recorder(other),
        ):
            pytest.fail("must not run")
    with Recorder(store):
        pass


def test_budget_bounds_memory_of_a_recording(store, call_site, intrinsics):
    """Much more than the budget is recorded, in memory that stays within it."""
    budget = 1 << 20
    with Recorder(store, budget_bytes=budget) as recorder, recorder.sample("s"):
        for value in range(100):
            call_site("main/000/f", np.full(100_000, value, "uint8"))
        stats = intrinsics.stats()
        assert stats["peak_in_flight_bytes"] <= budget
        assert stats["allocated_bytes"] <= budget
        assert stats["captured_bytes"] == 10_000_000
    assert store.stats().activation_bytes == 10_000_000


def test_tensor_above_the_budget_is_recorded(store, call_site):
    """One tensor larger than the whole budget is captured alone."""
    with Recorder(store, budget_bytes=1000) as recorder, recorder.sample("s"):
        for value in range(3):
            call_site("main/000/f", np.full(100_000, value, "uint8"))
    assert store.stats().activation_bytes == 300_000


def test_threads_of_one_sample(store, call_site):
    """Runs of several threads belong to the sample they run in; none is lost."""
    with Recorder(store, budget_bytes=1 << 16) as recorder, recorder.sample("s"):
        threads = [
            threading.Thread(
                target=lambda k=k: [call_site(f"f{k}/{i:03d}/f", [k, i], [i]) for i in range(50)]
            )
            for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    calls = list(store.calls())
    assert len(calls) == 200
    for call in calls:
        function, ordinal, _ = call.site.split("/")
        expected = [int(function[1:]), int(ordinal)]
        np.testing.assert_array_equal(store.tensor(call.inputs[0].digest), expected)


def test_parameters_are_written_without_the_queue(tmp_path):
    """Aligned, from their own memory; the runs do not copy them again."""
    weights = {n: tvm.runtime.tensor(np.full(k, k, "float32")) for n, k in (("a", 3), ("b", 64))}
    with CaptureStore.create(tmp_path / "s", {}) as store:
        with Recorder(store) as recorder:
            recorder.parameters(weights)
            seen = tvm_ffi.get_global_func("relax_tapml.capture.stats")()
            assert seen["tensors"] == 0
        for name, tensor in weights.items():
            np.testing.assert_array_equal(store.parameter(name), tensor.numpy())
        assert store.parameter("b").ctypes.data % 64 == 0
