"""A capture killed at any moment leaves a sound store, and can be resumed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from relax_tapml.capture.index import INDEX_FILE
from relax_tapml.capture.store import CaptureStore

# Records what is not complete yet; prints when it begins, and which samples it has finished.
CHILD = """
import sys
import numpy as np
import tvm
import tvm_ffi
from pathlib import Path
from relax_tapml.capture.recorder import Recorder
from relax_tapml.capture.store import CaptureStore
from relax_tapml.passes import native

native.load()
begin, inputs, outputs = (
    tvm_ffi.get_global_func(f"relax_tapml.capture.{name}")
    for name in ("begin_frame", "inputs", "outputs")
)
print("begins", flush=True)
folder = Path(sys.argv[1])
is_new = not (folder / "index.sqlite").exists()
store = CaptureStore.create(folder, {}) if is_new else CaptureStore.open(folder)
w = tvm.runtime.tensor(np.arange(50_000))
with Recorder(store, budget_bytes=1 << 20) as recorder:
    for number in range(12):
        if store.is_complete(f"sample {number}"):
            continue
        with recorder.sample(f"sample {number}"):
            for function in ("main", "sub"):
                frame = begin(function)
                x = np.random.default_rng(number).random(20_000)
                for call in range(6):
                    site = f"{function}/{call:03d}/f"
                    inputs(frame, site, "+0", tvm.runtime.tensor(x), "@w", w)
                    x = x * 2
                    outputs(frame, site, "+1", tvm.runtime.tensor(x))
            recorder.outputs(x)
        print(f"sample {number}", flush=True)
"""


def start(folder):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, folder], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "begins\n"
    return child


def records(folder):
    """All records and tensors of a store, verified."""
    with CaptureStore.open(folder) as store:
        calls = list(store.calls())
        for call in calls:
            for value in (*call.inputs, *(call.outputs or ())):
                if hasattr(value, "digest"):
                    store.tensor(value.digest, verify=True)
        complete = [name for name in store.samples() if store.is_complete(name)]
        parameters = {
            name: store.parameter(name, verify=True).tobytes() for name in store.parameters()
        }
        outputs = [store.sample_outputs(name) for name in complete]
        assert len(store.incomplete_samples()) <= 1
        return complete, calls, parameters, outputs, store.stats().seen_bytes


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A capture that was not killed: its records, and the seconds it took."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "store"
    child = start(folder)
    begin = time.monotonic()
    child.communicate()
    assert child.returncode == 0
    return records(folder), time.monotonic() - begin


@pytest.mark.parametrize("seed", range(3))
def test_killed_capture_is_sound_and_resumes(tmp_path, uninterrupted, seed):
    """At most the sample in progress is lost; recording again gives the uninterrupted capture."""
    expected, seconds = uninterrupted
    folder = tmp_path / "store"
    child = start(folder)
    time.sleep(random.Random(seed).uniform(0, seconds))
    child.send_signal(signal.SIGKILL)
    finished = child.communicate()[0].splitlines()
    if (folder / INDEX_FILE).exists():
        complete, calls, *_ = records(folder)
        assert complete[: len(finished)] == finished
        assert len(complete) <= len(finished) + 1
        whole = [call for call in calls if call.sample in finished]
        assert whole == [call for call in expected[1] if call.sample in finished]
    child = start(folder)
    child.communicate()
    assert child.returncode == 0
    assert records(folder) == expected
