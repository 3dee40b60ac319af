"""Arrays of every dtype, to be sent to a device and back; and whether processes are gone."""

from __future__ import annotations

import os
from contextlib import closing, suppress

import ml_dtypes
import numpy as np
import psutil

from relax_tapml.targets.open_session import open_session

ARRAYS = {
    **{
        np.dtype(code).name: np.array([[0, 1, 2], [3, 1, 0]]).astype(code)
        for code in np.typecodes["AllInteger"] + "?e"
    },
    "float32": np.array([[0.0, -0.0, np.nan], [np.inf, -np.inf, 1e-42]], "float32"),
    "float64": np.array([1e-310, 1e300]),
    **{
        name: np.array([[0.5, 1, 2], [4, 1, 0]]).astype(getattr(ml_dtypes, name))
        for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float4_e2m1fn")
    },
    "scalar": np.float32(2.5).reshape(()),
    "empty": np.zeros((0, 3), "float32"),
    "transposed": np.arange(6, dtype="int32").reshape(2, 3).T,
    "transposed bfloat16": np.arange(6).reshape(2, 3).T.astype(ml_dtypes.bfloat16),
    "big endian": np.arange(6, dtype=">i4"),
    "large": np.random.default_rng(0).standard_normal((300, 400)).astype("float32"),
    "large bfloat16": np.random.default_rng(0).standard_normal(90000).astype(ml_dtypes.bfloat16),
    "large float4": np.random.default_rng(0).standard_normal(200000).astype("float4_e2m1fn"),
}


def check_round_trip(session, array) -> None:
    """Upload and download an array: shape, dtype and every bit come back."""
    back = session.download(session.upload(array))
    assert back.shape == array.shape
    assert back.dtype == array.dtype.newbyteorder("=")
    assert back.tobytes() == array.astype(back.dtype).tobytes()


def check_session(spec, target) -> None:
    """Open a session, and send an array there and back."""
    with closing(open_session(spec, target)) as session:
        check_round_trip(session, ARRAYS["float32"])


def check_gone(processes) -> None:
    """Wait until processes have ended; of those killed with their group some need a moment."""
    _, alive = psutil.wait_procs(processes, timeout=120)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def command_line(process: psutil.Process) -> str:
    """Return the command of a process; nothing if it has ended since it was listed."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # Or one that nobody has collected yet.
        return ""


def led_by(leaders) -> list[psutil.Process]:
    """Return the processes of the sessions of some processes, also those without a parent."""
    led = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError):
            if os.getsid(process.pid) in leaders:
                led.append(process)
    return led
