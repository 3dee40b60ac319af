"""What follows from what several devices say of a unit."""

from __future__ import annotations

import pytest

from relax_tapml.compare.verdict import Verdict
from relax_tapml.replays.fleet._consensus import DeviceOutcome, decide, outvoted_devices
from relax_tapml.replays.unit.unit_replay import UnitReplay

PASS, MISMATCH, CRASH = Verdict.PASS, Verdict.MISMATCH, Verdict.CRASH
BUILD_ERROR = Verdict.BUILD_ERROR
TIMEOUT, FLAKY, OPEN = Verdict.TIMEOUT, Verdict.FLAKY, Verdict.INCONCLUSIVE


def said(device, verdict, *, context=(), is_gone=False, ran=True):
    reason = "" if verdict is PASS else f"{verdict} there"
    detail = UnitReplay(
        unit="unit",
        verdict=verdict,
        reason=reason,
        device=device if ran else "",
        context=tuple(context),
    )
    return DeviceOutcome(device=device, detail=detail, is_gone=is_gone)


@pytest.mark.parametrize(
    ("outcomes", "with_others", "at_last"),
    [
        ([], None, None),
        ([said("a", PASS)], PASS, PASS),
        ([said("a", MISMATCH)], None, MISMATCH),
        ([said("a", MISMATCH), said("b", MISMATCH)], MISMATCH, MISMATCH),
        ([said("a", MISMATCH), said("b", CRASH)], CRASH, CRASH),
        ([said("a", MISMATCH), said("b", PASS)], None, OPEN),
        ([said("a", MISMATCH), said("b", PASS), said("c", PASS)], PASS, PASS),
        ([said("a", MISMATCH), said("b", PASS), said("c", MISMATCH)], MISMATCH, MISMATCH),
        # What one device cannot load, another may; what was not built is nowhere.
        ([said("a", BUILD_ERROR)], None, BUILD_ERROR),
        ([said("a", BUILD_ERROR, ran=False)], BUILD_ERROR, BUILD_ERROR),
        # A fault is asked about twice, on one device if there is no other.
        ([said("a", CRASH)], None, None),
        ([said("a", CRASH), said("a", CRASH)], None, CRASH),
        ([said("a", CRASH), said("b", TIMEOUT)], CRASH, CRASH),
        ([said("a", CRASH), said("a", PASS)], None, FLAKY),
        # What failed in company proves nothing, but a third crash is not risked.
        ([said("a", MISMATCH, context=["x"])], None, None),
        ([said("a", MISMATCH, context=["x"]), said("a", PASS)], PASS, PASS),
        ([said("a", CRASH, context=["x"]), said("b", CRASH)], CRASH, CRASH),
        # A server that is gone is no judge of a kernel, but two in a row are enough.
        ([said("a", CRASH, is_gone=True)], None, None),
        ([said("a", CRASH, is_gone=True), said("b", PASS)], PASS, PASS),
        ([said("a", CRASH, is_gone=True), said("b", CRASH, is_gone=True)], CRASH, CRASH),
    ],
)
def test_the_verdict_follows_from_what_devices_say(outcomes, with_others, at_last):
    """A failure needs two devices if there are two, a contradiction three."""
    for has_others, verdict in ((True, with_others), (False, at_last)):
        detail = decide(outcomes, has_others=has_others)
        assert (detail and detail.verdict) == verdict


def test_a_device_that_most_others_contradict_lies():
    assert outvoted_devices([said("a", MISMATCH), said("b", PASS), said("c", PASS)]) == ["a"]
    assert outvoted_devices([said("a", MISMATCH), said("b", PASS)]) == []
    assert outvoted_devices([said("a", MISMATCH), said("b", PASS), said("c", MISMATCH)]) == []
    lost = [said("a", CRASH, is_gone=True), said("b", PASS), said("c", PASS)]
    assert outvoted_devices(lost) == []


def test_the_reason_names_the_devices():
    """Who fails and who passes is told wherever they differ, or where servers fell."""
    both = decide([said("a", MISMATCH), said("b", PASS)], has_others=False)
    assert both.reason == (
        "mismatch on a, but it passes on b: one of two devices is wrong, and a third would tell "
        "which. mismatch there"
    )
    most = decide([said("a", MISMATCH), said("b", PASS), said("c", MISMATCH)], has_others=False)
    assert most.reason == "mismatch there; so on a, c, but it passes on b"
    fell = decide([said("a", CRASH), said("b", CRASH)], has_others=True)
    assert fell.reason == "crash there; so on a and b"
    context = decide([said("a", CRASH, context=["x"]), said("b", PASS)], has_others=True)
    assert context.reason == (
        "it passes alone, but failed after x in the same session: crash there"
    )
