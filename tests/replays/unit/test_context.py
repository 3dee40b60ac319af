"""A unit is judged by what it does alone: others in its session may cause a failure."""

from __future__ import annotations

import pytest
import tvm
from broken_pipelines import breaks, off_by_half
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceCrash
from relax_tapml.replays.replay import replay
from relax_tapml.replays.unit import replayer
from relax_tapml.replays.unit.replayer import Replayer
from relax_tapml.replays.unit.unit_programs import FORGET
from relax_tapml.suite.open_suite import open_suite
from relax_tapml.targets.session.device import Device
from relax_tapml.targets.session.inline import InlineSession

LLVM = tvm.target.Target("llvm")


class FakeSession(InlineSession):
    """In this process, but as isolated as a process of its own; fails from a given moment."""

    is_isolated = True
    is_closed = is_broken = is_wrong = False
    loads = 0

    def load(self, *args):
        self.loads += 1
        return super().load(*args)

    def call(self, *args):
        if self.is_broken:
            raise DeviceCrash("was terminated by something")
        return super().call(*args)

    def download(self, tensor):
        array = super().download(tensor)
        return array + 1 if self.is_wrong and array.dtype.kind == "f" else array

    def close(self):
        self.is_closed = True
        super().close()


class InlineFake(FakeSession):
    """One that another session would not undo."""

    is_isolated = False


class Sessions:
    """A device that keeps a list of its sessions."""

    def __init__(self, kind=FakeSession):
        self.opened = []
        self.kind = kind
        self.device = Device(self.open)

    def open(self, *args, **options):
        self.opened.append(self.kind(LLVM))
        return self.opened[-1]


@pytest.fixture
def opened(suite):
    return open_suite(suite)


def run(replayer, unit, number=0):
    return replayer.run(unit, replayer.suite.manifest.units[unit].cases[number])


def test_a_shared_device_is_used_and_left_open(suite):
    """The session that is open already serves, and others can go on with it."""
    sessions = Sessions()
    before = sessions.device.session
    report = replay(suite, device=sessions.device, session="nowhere", timeout_s=-1)
    assert all(verdict == "pass" for verdict in report.units.values())
    assert sessions.opened == [before]
    assert (sessions.device.session, before.is_closed) == (before, False)


def test_a_device_of_our_own_is_closed(suite, monkeypatch):
    sessions = Sessions()
    monkeypatch.setattr(replayer, "open_device", lambda *_, **__: sessions.device)
    replay(suite, units=["add"])
    assert [session.is_closed for session in sessions.opened] == [True]


def test_a_shared_session_is_fresh_only_if_the_replay_opened_it(suite):
    """Other units may cause a fault in it; a session that was replaced is loaded anew."""
    sessions = Sessions()
    sessions.device.session.is_broken = True
    opened = open_suite(suite)
    case = opened.manifest.units["add"].cases[0]
    target = tvm.target.Target("llvm")
    with Replayer(opened, target=target, session="", device=sessions.device) as replayer:
        result = replayer.run("add", case)
        assert result.verdict is Verdict.PASS
        assert "after what ran before this replay in the same session" in result.reason
        assert [session.is_closed for session in sessions.opened] == [True, False]
        sessions.device.close()
        assert replayer.run("add", case).reason == ""
        assert sessions.opened[2].loads == 1
        sessions.device.session.is_broken = True
        # That one has no context, and a fresh session ends it all the same.
        assert replayer.run("add", case).verdict is Verdict.FLAKY


@pytest.mark.parametrize(
    ("failing", "reason"),
    [("is_broken", "was terminated by something"), ("is_wrong", "differs by up to 1, ")],
)
def test_a_failure_in_context_only_is_not_the_units(opened, failing, reason):
    """Alone in a fresh session it passes: that is the verdict, with a note."""
    sessions = Sessions()
    with Replayer(opened, target=LLVM, session="", device=sessions.device) as replayer:
        for unit in ("add", "cumsum", "add"):
            assert run(replayer, unit).verdict is Verdict.PASS
        setattr(sessions.device.session, failing, True)
        result = run(replayer, "increment")
        assert result.verdict is Verdict.PASS
        note = "it passes alone, but failed after add, cumsum in the same session: "
        assert result.reason.startswith(note + reason)
        assert [session.is_closed for session in sessions.opened] == [True, False]
        # The session that has only seen this unit is good for its other cases.
        assert run(replayer, "increment", 1).reason == ""
    assert len(sessions.opened) == 2


def test_what_a_unit_did_before_is_no_context(opened):
    """Its own earlier cases count."""
    sessions = Sessions()
    with Replayer(opened, target=LLVM, session="", device=sessions.device) as replayer:
        assert run(replayer, "increment").verdict is Verdict.PASS
        sessions.device.session.is_wrong = True
        assert run(replayer, "increment", 1).verdict is Verdict.MISMATCH
    assert len(sessions.opened) == 1


def test_a_session_that_cannot_be_renewed_is_not(opened):
    """Another session in the same process has the same past."""
    sessions = Sessions(InlineFake)
    with Replayer(opened, target=LLVM, session="", device=sessions.device) as replayer:
        assert run(replayer, "add").verdict is Verdict.PASS
        sessions.device.session.is_wrong = True
        assert run(replayer, "increment").verdict is Verdict.MISMATCH
    assert len(sessions.opened) == 1


@T.prim_func(private=True, s_tir=True)
def scribbling(x: T.handle, y: T.handle):
    n = T.int64()
    X = T.match_buffer(x, (n, 4))
    Y = T.match_buffer(y, (n, 4))
    for i, j in T.grid(n, 4):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = X[vi, vj] + T.float32(1)
            X[vi, vj] = T.float32(0)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (off_by_half, "differs by up to 0.5, "),
        (lambda _: scribbling, "it writes to its input 0, which it may only read"),
    ],
)
def test_a_unit_that_fails_alone_costs_one_session(suite, fault, reason):
    """However many cases it has; and the rest goes on."""
    sessions = Sessions()
    units = ["add", "increment", "cumsum"]
    pipeline = breaks("increment", fault)
    report = replay(suite, device=sessions.device, device_pipeline=pipeline, units=units)
    assert report.units == {"add": "pass", "increment": "mismatch", "cumsum": "pass"}
    assert report.details["increment"].reason.startswith(reason)
    assert [case.verdict for case in report.details["increment"].cases] == ["mismatch"] * 3
    assert len(sessions.opened) == 2


@pytest.mark.parametrize(("kept_bytes", "is_freed"), [(0, True), (1 << 28, False)])
def test_weights_of_earlier_units_are_freed(opened, monkeypatch, kept_bytes, is_freed):
    """When another unit begins, if they are many; what is needed again is uploaded again."""
    monkeypatch.setattr("relax_tapml.replays.unit._case_call._KEPT_BYTES", kept_bytes)
    released = []
    release = FakeSession.release
    monkeypatch.setattr(FakeSession, "release", lambda self: (released.append(1), release(self)))
    units = opened.manifest.units
    weighted = [
        name
        for name, unit in units.items()
        if any(item.weight is not None for item in unit.cases[0].inputs)
    ]
    [unit, *_] = weighted
    other = next(name for name in units if name != unit)
    sessions = Sessions()
    with Replayer(opened, target=LLVM, session="", device=sessions.device) as replayer:
        for name in (unit, unit, other, unit):
            assert run(replayer, name).verdict is Verdict.PASS
    assert bool(released) == is_freed
    assert len(sessions.opened) == 1


def test_large_inputs_and_results_follow_one_another(opened, monkeypatch):
    """Weights are freed before results are fetched, and then what the VM returned."""
    monkeypatch.setattr("relax_tapml.replays.unit._case_call._KEPT_BYTES", 0)
    done = []

    class Session(FakeSession):
        def call(self, module, function, args):
            done.append(function)
            return super().call(module, function, args)

        def download(self, tensor):
            done.append(len(self._parameters))
            return super().download(tensor)

        def free_kept(self):
            done.append("freed")
            super().free_kept()

    sessions = Sessions(Session)
    with Replayer(opened, target=LLVM, session="", device=sessions.device) as replayer:
        for unit in opened.manifest.units:
            done.clear()
            assert run(replayer, unit).verdict is Verdict.PASS
            called, freed, *fetched, forgot, freed_again = done
            assert called.startswith("replay_")
            assert {*fetched} == {0}
            assert (freed, forgot, freed_again) == ("freed", FORGET, "freed")
