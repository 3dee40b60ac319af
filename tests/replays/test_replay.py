import pytest
import tvm
from broken_pipelines import abort, breaks, loop, off_by_half, unbuildable

from relax_tapml.carve.select.choose_cases import choose_cases
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceUnavailable, ExitCode, StoreError, UsageError
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.replays.replay import replay
from relax_tapml.replays.unit import unit_programs
from relax_tapml.replays.unit.unit_replay import UnitReplay

# Registered in the recording process only: no other device has it.
SINE = "test_carve.sine"


def _expected(**others):
    units = dict.fromkeys(
        ["increment", "cumsum", "add_and_subtract", "vm.builtin.reshape", SINE, "add"],
        Verdict.PASS,
    )
    return {**units, "double_inplace": Verdict.PASS, **others}


def test_every_unit_passes_on_the_platform_it_was_recorded_on(suite):
    report = replay(suite, target="llvm", session="inline")
    assert report.units == _expected()
    assert report.exit_code is ExitCode.PASS
    for detail in report.details.values():
        assert all(case.comparisons for case in detail.cases)
        assert detail.worst.max_abs == 0


def test_a_wrong_kernel_fails_its_unit_and_no_other(suite):
    report = replay(suite, session="inline", device_pipeline=breaks("increment", off_by_half))
    assert report.units == _expected(increment=Verdict.MISMATCH)
    assert report.exit_code is ExitCode.MISMATCH
    detail = report.details["increment"]
    assert detail.worst.error == pytest.approx(0.5, rel=1e-4)
    assert detail.reason.startswith("differs by up to 0.5, ")


def test_a_device_process_gives_the_same_results(suite):
    """The sine is a function of this process, so the device cannot load its unit."""
    report = replay(suite, session="process")
    assert report.units == _expected(**{SINE: Verdict.BUILD_ERROR})
    assert report.details[SINE].reason.startswith("the device cannot load it: ")
    assert SINE in report.details[SINE].reason


@pytest.mark.parametrize(
    ("fault", "verdict", "reason", "timeout_s"),
    # A timeout must leave a device process the time to start.
    [(abort, Verdict.CRASH, "SIGABRT", 60), (loop, Verdict.TIMEOUT, "5 s", 5)],
    ids=["crash", "timeout"],
)
def test_a_fault_is_the_verdict_of_its_unit_and_the_rest_goes_on(
    suite, fault, verdict, reason, timeout_s
):
    units = ["add", "increment", "double_inplace"]
    report = replay(
        suite, device_pipeline=breaks("increment", fault), timeout_s=timeout_s, units=units
    )
    assert report.units == {"add": "pass", "increment": verdict, "double_inplace": "pass"}
    detail = report.details["increment"]
    assert reason in detail.reason
    assert [case.verdict for case in detail.cases[1:]] == [Verdict.SKIPPED] * 2
    assert f"not run: main-000-case0 ended with {verdict}" in detail.cases[1].reason


def test_a_kernel_that_does_not_build_is_the_verdict_of_its_unit(suite):
    report = replay(suite, session="inline", device_pipeline=breaks("increment", unbuildable))
    assert report.units == _expected(increment=Verdict.BUILD_ERROR)
    assert report.details["increment"].reason.startswith("increment does not build for llvm: ")


def test_what_a_device_refused_is_reported_although_it_was_lost(suite, monkeypatch):
    """It has been judged there; the rest is open."""

    def refused_then_lost(_replayer, unit, _repeat):
        if unit == "cumsum":
            raise DeviceUnavailable("gone")
        return UnitReplay(
            unit=unit, verdict=Verdict.BUILD_ERROR, reason="it cannot be loaded", device="inline"
        )

    monkeypatch.setattr("relax_tapml.replays.replay.replay_unit", refused_then_lost)
    report = replay(suite, session="inline", units=["increment", "cumsum"])
    assert report.units == {"increment": Verdict.BUILD_ERROR, "cumsum": Verdict.INCONCLUSIVE}
    assert (report.exit_code, report.unjudged) == (ExitCode.MISMATCH, ["cumsum"])


def test_what_does_not_build_is_reported_although_there_is_no_device(suite, monkeypatch):
    """Whichever unit comes first; without such a unit nothing is known, which is an error."""
    monkeypatch.setattr("sys.executable", "/no/such/python")
    for units in (["add", "increment"], ["increment", "add"]):
        report = replay(suite, device_pipeline=breaks("increment", unbuildable), units=units)
        assert report.units == {"add": "inconclusive", "increment": "build_error"}
        assert (report.exit_code, report.unjudged) == (ExitCode.MISMATCH, ["add"])
        assert "the device process cannot be started" in report.unavailable
    with pytest.raises(DeviceUnavailable):
        replay(suite, device_pipeline=breaks("increment", unbuildable), units=["add"])


def test_what_does_not_build_is_reported_although_no_tracker_answers(suite):
    """A fleet is looked up before its devices."""
    session = "tracker:127.0.0.1:9:none"
    pipeline = breaks("increment", unbuildable)
    report = replay(suite, session=session, device_pipeline=pipeline, timeout_s=1)
    assert report.units["increment"] == "build_error"
    assert set(report.units.values()) == {"build_error", "inconclusive"}
    assert report.exit_code == ExitCode.MISMATCH


def test_a_pipeline_that_raises_for_one_unit_fails_that_unit(suite):
    @tvm.transform.module_pass(opt_level=0, name="Picky")
    def picky(module, _ctx):
        if "increment" in [gvar.name_hint for gvar in module.functions]:
            raise ValueError("no schedule for increment")
        return module

    report = replay(suite, session="inline", device_pipeline=picky)
    assert report.units == _expected(increment=Verdict.BUILD_ERROR)
    assert "no schedule for increment" in report.details["increment"].reason


def test_bytecode_that_does_not_compile_is_the_verdict_of_its_unit(suite, monkeypatch):
    def picky(module, target, library):
        if "increment" in [gvar.name_hint for gvar in module.functions]:
            raise ValueError("unknown operator")
        return compile_functions(module, target, library)

    monkeypatch.setattr(unit_programs, "compile_functions", picky)
    report = replay(suite, session="inline")
    assert report.units == _expected(increment=Verdict.BUILD_ERROR)
    reason = "its bytecode does not compile: unknown operator"
    assert report.details["increment"].reason == reason


def test_kernels_are_built_once_and_kept(suite, tmp_path):
    replay(suite, session="inline", kernels=tmp_path / "kernels")
    built = {file: file.stat().st_mtime_ns for file in (tmp_path / "kernels").iterdir()}
    assert built
    replay(suite, session="inline", kernels=tmp_path / "kernels")
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "kernels").iterdir()} == built


def test_a_unit_that_could_not_be_carved_is_reported_as_skipped(recording, tmp_path):
    cases = choose_cases(recording.store, recording.sites)
    recording.write_suite(tmp_path / "tests", [case for case in cases if case.unit == "add"])
    report = replay(tmp_path, session="inline")
    assert report.units == dict.fromkeys(report.units, Verdict.SKIPPED) | {"add": Verdict.PASS}
    assert len(report.units) == 7
    assert report.details["cumsum"].reason == "no call of it that returned was recorded"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": ["incremnt"]}, "no case of unit 'incremnt'; it has increment"),
        ({"target": "lvm"}, "target 'lvm' is not known to TVM"),
        ({"session": "nowhere"}, "session 'nowhere' of target llvm: expected inline, process"),
        ({"device_pipeline": "no_such_module:x"}, "'no_such_module:x' cannot be imported"),
    ],
)
def test_a_wrong_request_is_refused(suite, options, message):
    with pytest.raises(UsageError, match=message):
        replay(suite, **options)


def test_a_folder_without_a_suite_is_refused(tmp_path):
    with pytest.raises(StoreError, match="is not a suite"):
        replay(tmp_path)
