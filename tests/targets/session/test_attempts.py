"""A device that is killed from outside blames no unit, and is started again."""

from __future__ import annotations

import os
import signal
from contextlib import closing

import numpy as np
import psutil
import pytest
from transferred import check_session

from relax_tapml.errors import DeviceCrash, DeviceUnavailable
from relax_tapml.targets.open_session import open_session
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.platforms.platform import Platform
from relax_tapml.targets.session.attempts import ATTEMPTS

LLVM = parse_target("llvm")
X = np.ones((4, 8), "float32")


@pytest.fixture
def kill_first(monkeypatch):
    """A function that has the first device processes killed before they are up."""

    def prepare(count: int) -> list[int]:
        killed: list[int] = []
        start = Platform.start

        def starting(self):
            server = start(self)
            if len(killed) < count:
                killed.append(server.pid)
                os.kill(server.pid, signal.SIGKILL)
            return server

        monkeypatch.setattr(Platform, "start", starting)
        return killed

    return prepare


def test_a_process_that_is_killed_at_its_start_is_started_again(kill_first, caplog):
    killed = kill_first(1)
    check_session("process", LLVM)
    assert len(killed) == 1
    assert "SIGKILL" in caplog.text


def test_attempts_end_and_all_are_reported(kill_first):
    killed = kill_first(100)
    with pytest.raises(DeviceUnavailable, match=rf"after {ATTEMPTS} attempts") as caught:
        open_session("process", LLVM)
    assert len(killed) == ATTEMPTS
    assert str(caught.value).count("was terminated by SIGKILL") == ATTEMPTS


def test_a_kill_is_not_a_crash(units):
    with closing(open_session("process", LLVM)) as session:
        module, x = session.load(units.bytecode, units.kernels), session.upload(X)
        with pytest.raises(DeviceCrash) as caught:
            session.call(module, "crashes", [x])
        assert not caught.value.is_killed
    with closing(open_session("process", LLVM)) as session:
        psutil.Process(session._server.pid).kill()
        with pytest.raises(DeviceCrash, match="SIGKILL") as caught:
            session.upload(X)
        assert caught.value.is_killed
