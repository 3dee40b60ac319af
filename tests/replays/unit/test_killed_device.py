"""Whoever kills the process of a device does not make a unit wrong by it."""

from __future__ import annotations

import pytest
from tiny_model import model

from relax_tapml import bring_up, replay
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceUnavailable
from relax_tapml.targets.session.rpc_session import RPCSession


@pytest.fixture
def kill_at(monkeypatch):
    """A function that has the process killed before some uses of a session, counted from one."""

    def prepare(method: str, *numbers: int) -> list[int]:
        seen: list[int] = []
        used = getattr(RPCSession, method)

        def killing(self, *args):
            seen.append(len(seen) + 1)
            if len(seen) in numbers:
                self._server.interrupt()
            return used(self, *args)

        monkeypatch.setattr(RPCSession, method, killing)
        return seen

    return prepare


@pytest.mark.parametrize("method", ["call", "load", "download"])
def test_one_kill_in_a_replay_fails_no_unit(finished, kill_at, method):
    """All units pass, as if nothing had been."""
    seen = kill_at(method, 2)
    report = replay(finished / "tests", target="llvm", units=["softmax", "matmul", "sum"])
    assert len(seen) > 2 or method == "load"
    assert set(report.units.values()) == {Verdict.PASS}


def test_kills_in_a_migration_name_no_culprit(tmp_path, kill_at):
    kill_at("call", 60, 75)
    result = bring_up(model(), target="llvm", out=tmp_path / "out", strategy="bisect")
    assert (result.verdict, result.culprits) == ("pass", [])
    assert all(step["failures"] == 0 for step in result.document["steps"])


def test_a_process_that_is_always_killed_is_a_crash_of_the_unit(finished, kill_at):
    """Where memory is short it is the doing of what runs there."""
    kill_at("call", *range(1000))
    report = replay(finished / "tests", target="llvm", units=["sum"])
    assert report.units == {"sum": Verdict.CRASH}


def test_a_device_without_room_judges_nothing(finished, monkeypatch):
    """What it was sent cannot be kept, which proves nothing about a kernel."""

    def full(self, *args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RPCSession, "_load_kernels", full)
    with pytest.raises(DeviceUnavailable, match="No space left on device"):
        replay(finished / "tests", target="llvm", units=["softmax", "sum"])
    monkeypatch.undo()
    sent: list[int] = []
    send = RPCSession._to_device

    def full_later(self, *args):
        sent.append(1)
        if len(sent) > 12:
            raise OSError(28, "No space left on device")
        return send(self, *args)

    monkeypatch.setattr(RPCSession, "_to_device", full_later)
    report = replay(finished / "tests", target="llvm")
    assert set(report.units.values()) == {Verdict.PASS, Verdict.INCONCLUSIVE}
    assert "No space left on device" in report.unavailable
    assert report.exit_code == 3
