from dataclasses import replace

import numpy as np
import pytest
import tvm
from broken_pipelines import breaks
from tvm import tirx

from relax_tapml.compare.comparison import compare_all
from relax_tapml.compare.tolerances.rule import RuleTolerance
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceCrash, DeviceError, DeviceTimeout, DeviceUnavailable
from relax_tapml.migrate.driver import outcome_of
from relax_tapml.migrate.strategies.strategy import Outcome, Proposal
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.replays.replay import ReplayReport, UnitReplay
from relax_tapml.results.step_result import Exhaustion, Purpose
from relax_tapml.targets.session.device import Device

LLVM = tvm.target.Target("llvm")


def attempt(tiny, device, *boundary, **trial):
    proposal = Proposal(boundary=frozenset(boundary), moved=boundary[-1:], purpose=Purpose.MOVE)
    return tiny.trial(device, **trial).step(proposal)


def test_a_good_step_builds_no_kernel_and_counts_bytes(tiny, failing_session):
    """What crosses is counted per step: 4 x 8 inputs and 8 x 8 weights go, 4 x 8 values return."""
    device = Device(failing_session)
    step = attempt(tiny, device, "matmul")
    assert (step.verdict, step.unit, step.boundary) == (Verdict.PASS, "matmul", ("matmul",))
    assert (step.error, step.reason, step.kernels_built) == (0.0, "", 0)
    # Two sites and two samples; the weight is sent once.
    assert step.bytes_moved == 4 * (64 + 2 * 2 * (32 + 32))
    assert attempt(tiny, device, "matmul").bytes_moved == 4 * (2 * 2 * (32 + 32))


def test_with_nothing_on_the_device_none_is_opened(tiny):
    """The first step is about the source."""

    def refuse():
        raise AssertionError("opened")

    step = attempt(tiny, Device(refuse))
    assert (step.verdict, step.unit, step.boundary) == (Verdict.PASS, None, ())
    assert step.bytes_moved == 0


def test_outputs_are_compared_once_while_they_stay_the_same(tiny, failing_session, monkeypatch):
    """Not one of other bits; and those of before are compared again after it."""
    compared = []

    def counted(oracles, outputs, tolerances):
        compared.append(outputs)
        return compare_all(oracles, outputs, tolerances)

    monkeypatch.setattr("relax_tapml.migrate.trial.compare_all", counted)

    class Session(failing_session):
        is_wrong = False

        def download(self, tensor):
            return super().download(tensor) + np.float32(self.is_wrong)

    device = Device(Session)
    trial = tiny.trial(device)
    found = []
    for units, is_wrong in (
        (["softmax"], False),
        (["softmax", "matmul"], False),
        (["softmax", "matmul"], True),
        (["softmax"], False),
    ):
        compared.clear()
        Session.is_wrong = is_wrong
        move = Proposal(boundary=frozenset(units), moved=units[-1:], purpose=Purpose.MOVE)
        found.append((trial.step(move).verdict, bool(compared)))
    mismatch, right = Verdict.MISMATCH, Verdict.PASS
    assert found == [(right, True), (right, False), (mismatch, True), (right, True)]


def test_the_first_sample_that_differs_is_named(tiny, failing_session):
    """The reason says which, where and by how much."""
    oracles = [list(outputs) for outputs in tiny.oracles]
    oracles[1][1] = oracles[1][1] + np.float32(1)
    device = Device(failing_session)
    step = attempt(tiny, device, "softmax", oracles=oracles)
    assert step.verdict is Verdict.MISMATCH
    assert step.reason.startswith("on 'second', output 1: ")
    assert "differs by up to 1" in step.reason
    assert step.error == pytest.approx(1, abs=1e-5)


def test_a_step_that_only_blunt_tolerances_judge_is_no_pass(tiny, failing_session):
    """The search goes on: what is beyond them, and what crashes, is found all the same."""
    wide = RuleTolerance(atol=1e3, rtol=0.0, origin="test")
    blunt = [[wide for _ in outputs] for outputs in tiny.oracles]
    device = Device(failing_session)
    step = attempt(tiny, device, "softmax", tolerances=blunt)
    assert (step.verdict, step.runs, step.failures) == (Verdict.INCONCLUSIVE, 1, 0)
    assert "their tolerances are blunt" in step.reason
    assert outcome_of(step).is_good
    oracles = [[output + np.float32(2e3) for output in outputs] for outputs in tiny.oracles]
    step = attempt(tiny, device, "softmax", tolerances=blunt, oracles=oracles)
    assert step.verdict is Verdict.MISMATCH
    # One output of one sample that is judged is enough.
    some = [tiny.tolerances[0], blunt[1]]
    assert attempt(tiny, device, "softmax", tolerances=some).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("fault", "verdict", "sessions"),
    [
        (DeviceCrash("was terminated by SIGSEGV"), Verdict.CRASH, 2),
        (DeviceError("raised"), Verdict.CRASH, 2),
        (DeviceTimeout("did not end"), Verdict.TIMEOUT, 1),
    ],
)
def test_a_fault_is_a_verdict_and_ends_the_session(tiny, failing_session, fault, verdict, sessions):
    """It is seen twice, but for a timeout, which takes long; the next step gets a fresh session."""
    opened = []

    def open_session():
        opened.append(failing_session(fault if len(opened) < sessions else None))
        return opened[-1]

    device = Device(open_session)
    step = attempt(tiny, device, "softmax")
    assert (step.verdict, step.reason, step.error) == (verdict, str(fault), None)
    assert (step.runs, step.failures) == (sessions, sessions)
    assert all(session.is_closed for session in opened)
    assert attempt(tiny, device, "softmax").verdict is Verdict.PASS
    assert len(opened) == sessions + 1


@pytest.mark.parametrize(
    ("repeat", "bad", "runs", "failures"),
    [
        (1, {0}, 10, 1),
        (1, {0, 2, 5}, 10, 3),
        (4, {1, 3}, 4, 2),
        (4, {0}, 4, 1),
    ],
)
def test_what_fails_now_and_then_is_flaky(tiny, failing_session, repeat, bad, runs, failures):
    """Not what moved last is wrong then; who it is is put to the vote."""
    opened, asked = [], []

    def open_session():
        number = len(opened)
        opened.append(failing_session(DeviceCrash("died") if number in bad else None))
        return opened[-1]

    class Fresh(Device):
        """A device with a session of its own for each run."""

        @property
        def session(self):
            self.close()
            return super().session

    def rerun_units(units):
        asked.append(units)
        details = {
            "matmul": UnitReplay(
                unit="matmul", verdict=Verdict.FLAKY, reason="", runs=10, failures=3
            ),
            "softmax": UnitReplay(unit="softmax", verdict=Verdict.PASS, reason="", runs=10),
        }
        return ReplayReport(units={}, details=details)

    # Opening it before the step is the first one.
    bad = {number + 1 for number in bad}
    step = attempt(
        tiny, Fresh(open_session), "softmax", "matmul", repeat=repeat, rerun_units=rerun_units
    )
    assert (step.verdict, step.runs, step.failures) == (Verdict.FLAKY, runs, failures)
    assert step.reason == f"in {failures} of {runs} runs died"
    assert asked == [["matmul", "softmax"]]
    assert step.flaky == {"matmul": (3, 10)}
    assert outcome_of(step) == Outcome(is_good=False, is_flaky=True, flaky=frozenset({"matmul"}))


def test_a_vote_that_loses_its_device_accuses_nobody(tiny, failing_session):
    """Nobody knows who is flaky; whoever moved last would be taken for it."""
    faults = [DeviceCrash("died")]

    def rerun_units(units):
        return ReplayReport(units={}, details={}, unavailable="no device is left")

    device = Device(lambda: failing_session(faults.pop() if faults else None))
    with pytest.raises(DeviceUnavailable, match="no device is left"):
        attempt(tiny, device, "softmax", repeat=2, rerun_units=rerun_units)


def test_without_a_failure_a_boundary_is_run_as_often_as_asked(tiny, failing_session):
    """Once, or as often as a device that does not repeat itself needs."""
    assert attempt(tiny, Device(failing_session), "sum").runs == 1
    step = attempt(tiny, Device(failing_session), "sum", repeat=3)
    assert (step.runs, step.failures, step.verdict) == (3, 0, Verdict.PASS)


def test_a_kernel_that_is_missing_bothers_only_who_needs_it(tiny, failing_session):
    """Units without a kernel, scans dispatched per side included, do not keep others from moving.

    The device gets nothing but the units of the boundary.
    """
    kernels = tiny.sides.device_kernels
    missing = {"cumsum", "layer_norm"}
    paths = {unit: files for unit, files in kernels.paths.items() if unit not in missing}
    built = replace(kernels, paths=paths, built=(), failed=dict.fromkeys(missing))
    sides = replace(tiny.sides, device_kernels=built)
    step = attempt(tiny, Device(failing_session), *paths, sides=sides)
    assert (step.verdict, step.reason) == (Verdict.PASS, "")


class Worn:
    """Sessions that fail for good once they have made some calls."""

    def __init__(self, kind, limit):
        self.kind, self.limit, self.opened = kind, limit, 0
        self.device = Device(self.open)

    def open(self):
        self.opened += 1
        session = self.kind()
        made = []
        call = session.call

        def counted(*args):
            made.append(args)
            if len(made) > self.limit:
                raise DeviceCrash("was terminated by old age")
            return call(*args)

        session.call = counted
        return session


def two_steps(tiny, worn, **trial):
    """Move softmax, two device calls a run, then sum, two more; sessions last for five calls."""
    tried = tiny.trial(worn.device, **trial)
    tried.step(Proposal(boundary=frozenset({"softmax"}), moved=("softmax",), purpose=Purpose.MOVE))
    both = Proposal(boundary=frozenset({"softmax", "sum"}), moved=("sum",), purpose=Purpose.MOVE)
    return tried, both


def test_a_session_that_wears_out_accuses_nobody(tiny, failing_session):
    """The last good boundary fails as well when it is called as often; what moved is accepted."""
    asked = []
    worn = Worn(failing_session, 5)
    tried, both = two_steps(tiny, worn, exhaust=asked.append)
    step = tried.step(both)
    assert asked == [{"softmax": 4, "sum": 2}]
    assert step.verdict is Verdict.FLAKY
    assert step.session.startswith("a session fails after")
    assert step.session.endswith("each run now has a session of its own")
    assert outcome_of(step) == Outcome(is_good=True)
    # Every run has a session of its own from now on.
    before = worn.opened
    assert [tried.step(both).verdict for _ in range(3)] == [Verdict.PASS] * 3
    assert worn.opened == before + 3


def test_what_fails_in_the_session_of_others_counts_if_it_fails_in_a_fresh_one(
    tiny, failing_session
):
    """A replay has used up what a session has; the boundary is right."""
    faults = [DeviceCrash("was used up")]
    device = Device(lambda: failing_session(faults.pop() if faults else None))
    assert device.session.fault is not None
    step = attempt(tiny, device, "softmax")
    assert (step.verdict, step.runs, step.failures) == (Verdict.PASS, 1, 0)
    assert device.opened == 2


def test_a_unit_that_wears_a_session_out_is_named(tiny, failing_session):
    """Not what moved last; the step is tried again without it."""
    found = Exhaustion(calls=6, verdict=Verdict.CRASH, reason="died")
    worn = Worn(failing_session, 5)
    tried, both = two_steps(tiny, worn, exhaust=lambda _calls: ("softmax", found))
    step = tried.step(both)
    assert step.exhausting == {"softmax": found}
    assert outcome_of(step) == Outcome(is_good=False, is_flaky=True, flaky=frozenset({"softmax"}))


@pytest.mark.parametrize(
    ("ends_at", "told"),
    [
        (1, "died (one site after another, it ends in main/001/softmax)"),
        (99, "died (one site after another, all of them return)"),
    ],
)
def test_a_fault_of_several_sites_is_looked_for_site_by_site(tiny, failing_session, ends_at, told):
    """Each is a device call of its own then; the verdict stays that of the whole."""
    opened = []

    class Dying(failing_session):
        """The first two sessions fail at once, the third after some calls."""

        left = 0

        def call(self, *args):
            self.left -= 1
            if self.left < 0:
                raise DeviceCrash("died")
            return super().call(*args)

    def open_session():
        opened.append(Dying())
        opened[-1].left = ends_at if len(opened) == 3 else 0
        return opened[-1]

    step = attempt(tiny, Device(open_session), "matmul", "softmax")
    assert (step.verdict, step.reason) == (Verdict.CRASH, told)
    assert len(opened) == 3
    assert all(session.is_closed for session in opened)


def test_a_device_that_cannot_load_is_a_verdict_too(tiny, failing_session):
    """Then no site begins, whichever comes first."""

    class Unloadable(failing_session):
        """Dies before any call."""

        def load(self, *_args):
            raise DeviceCrash("died loading")

    step = attempt(tiny, Device(Unloadable), "matmul", "softmax")
    assert (step.verdict, step.reason) == (
        Verdict.CRASH,
        "died loading (one site after another, none of them begins: died loading)",
    )


def test_a_kernel_that_writes_nothing_does_not_live_on_old_answers(tiny, failing_session, tmp_path):
    """The memory of the same step, run before in the same session, held the right ones."""
    library = KernelLibrary(tmp_path)
    idle = breaks("sum", lambda kernel: kernel.with_body(tirx.Evaluate(0)))
    units = lower_for_target(tiny.lowered, LLVM, idle)
    broken = library.build(units, LLVM)
    device = Device(failing_session)
    right = replace(tiny.sides, poisoned=frozenset({"sum"}))
    for _ in range(3):
        assert attempt(tiny, device, "sum", sides=right).verdict is Verdict.PASS
    wrong = replace(right, device_units=units, device_kernels=broken)
    step = attempt(tiny, device, "sum", sides=wrong)
    assert (step.verdict, step.runs, step.failures) == (Verdict.MISMATCH, 2, 2)
    assert "NaN where the oracle is finite, 4 of 4 values" in step.reason
