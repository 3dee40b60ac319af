import json
import math

import numpy as np
import pytest

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceCrash, DeviceError, DeviceTimeout
from relax_tapml.migrate.step import Device, Step, try_step
from relax_tapml.migrate.strategy import Proposal


def attempt(tiny, device, *boundary, oracles=None):
    moved = boundary[-1] if boundary else None
    return try_step(
        tiny.sides,
        Proposal(boundary=frozenset(boundary), moved=moved),
        device,
        tiny.model.samples,
        oracles or tiny.oracles,
        tiny.tolerances,
    )


def test_a_good_step_builds_no_kernel_and_counts_bytes(tiny, failing_session):
    """What crosses is counted per step: 4 x 8 inputs and 8 x 8 weights go, 4 x 8 values return."""
    device = Device(failing_session)
    step = attempt(tiny, device, "matmul")
    assert (step.verdict, step.unit, step.boundary) == (Verdict.PASS, "matmul", ["matmul"])
    assert (step.error, step.reason, step.kernels_built) == (0.0, "", 0)
    # Two sites and two samples; the weight is sent once.
    assert step.bytes_moved == 4 * (64 + 2 * 2 * (32 + 32))
    assert attempt(tiny, device, "matmul").bytes_moved == 4 * (2 * 2 * (32 + 32))


def test_with_nothing_on_the_device_none_is_opened(tiny):
    """The first step is about the source."""

    def refuse():
        raise AssertionError("opened")

    step = attempt(tiny, Device(refuse))
    assert (step.verdict, step.unit, step.boundary) == (Verdict.PASS, None, [])
    assert step.bytes_moved == 0


def test_the_first_sample_that_differs_is_named(tiny, failing_session):
    """The reason says which, where and by how much; the session is good for more."""
    oracles = [list(outputs) for outputs in tiny.oracles]
    oracles[1][1] = oracles[1][1] + np.float32(1)
    device = Device(failing_session)
    step = attempt(tiny, device, "softmax", oracles=oracles)
    assert step.verdict is Verdict.MISMATCH
    assert step.reason.startswith("on 'second', output 1: ")
    assert "differs by up to 1" in step.reason
    assert step.error == pytest.approx(1, abs=1e-5)
    assert not device.session.is_closed


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (DeviceCrash("died of SIGSEGV"), Verdict.CRASH),
        (DeviceError("raised"), Verdict.CRASH),
        (DeviceTimeout("did not end"), Verdict.TIMEOUT),
    ],
)
def test_a_fault_is_a_verdict_and_ends_the_session(tiny, failing_session, fault, verdict):
    """What was on the device is gone, so the next step gets a fresh one."""
    opened = []

    def open_session():
        opened.append(failing_session(None if opened else fault))
        return opened[-1]

    device = Device(open_session)
    step = attempt(tiny, device, "softmax")
    assert (step.verdict, step.reason, step.error) == (verdict, str(fault), None)
    assert opened[0].is_closed
    assert attempt(tiny, device, "softmax").verdict is Verdict.PASS
    assert len(opened) == 2


def test_a_kernel_that_is_missing_bothers_only_who_needs_it(tiny, failing_session):
    """Units without a kernel, scans dispatched per side included, do not keep others from moving.

    The device gets nothing but the units of the boundary.
    """
    kernels = tiny.sides.device_kernels
    missing = {"cumsum", "layer_norm"}
    paths = {unit: files for unit, files in kernels.paths.items() if unit not in missing}
    sides = type(tiny.sides)(
        **{
            **vars(tiny.sides),
            "device_kernels": type(kernels)(paths=paths, built=(), failed=dict.fromkeys(missing)),
        }
    )
    proposal = Proposal(boundary=frozenset(paths), moved="matmul")
    device = Device(failing_session)
    step = try_step(sides, proposal, device, tiny.model.samples, tiny.oracles, tiny.tolerances)
    assert (step.verdict, step.reason) == (Verdict.PASS, "")


@pytest.mark.parametrize("error", [0.0, 1.5, math.nan, math.inf, None])
def test_a_step_survives_its_document(error):
    """Whatever the error is, through strict JSON."""
    step = Step(
        boundary=["a", "b"],
        unit="b",
        verdict=Verdict.MISMATCH,
        reason="on 'x': NaN",
        error=error,
        shift_s=0.25,
        run_s=0.5,
        kernels_built=0,
        bytes_moved=12,
    )
    document = json.loads(json.dumps(step.document(), allow_nan=False))
    assert document["seconds"] == {"shift": 0.25, "run": 0.5}
    # As text: NaN is not equal to itself.
    assert repr(Step.from_document(document)) == repr(step)
