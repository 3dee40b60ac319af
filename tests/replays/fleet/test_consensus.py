"""How a unit ends that several devices have replayed."""

from __future__ import annotations

import pytest

from relax_tapml.compare.verdict import Verdict
from relax_tapml.replays.fleet._consensus import DeviceOutcome, decide, outvoted_devices
from relax_tapml.replays.unit.unit_replay import UnitReplay

PASS, MISMATCH, CRASH = Verdict.PASS, Verdict.MISMATCH, Verdict.CRASH
BUILD_ERROR = Verdict.BUILD_ERROR
TIMEOUT, FLAKY, OPEN = Verdict.TIMEOUT, Verdict.FLAKY, Verdict.INCONCLUSIVE


def ended(device, verdict, *, context=(), is_lost=False, ran=True):
    reason = "" if verdict is PASS else f"{verdict} there"
    detail = UnitReplay(
        unit="unit",
        verdict=verdict,
        reason=reason,
        device=device if ran else "",
        context=tuple(context),
    )
    return DeviceOutcome(device=device, detail=detail, is_lost=is_lost)


@pytest.mark.parametrize(
    ("outcomes", "with_others", "at_last"),
    [
        ([], None, None),
        ([ended("a", PASS)], PASS, PASS),
        ([ended("a", MISMATCH)], None, MISMATCH),
        ([ended("a", MISMATCH), ended("b", MISMATCH)], MISMATCH, MISMATCH),
        ([ended("a", MISMATCH), ended("b", CRASH)], CRASH, CRASH),
        ([ended("a", MISMATCH), ended("b", PASS)], None, OPEN),
        ([ended("a", MISMATCH), ended("b", PASS), ended("c", PASS)], PASS, PASS),
        ([ended("a", MISMATCH), ended("b", PASS), ended("c", MISMATCH)], MISMATCH, MISMATCH),
        # What one device cannot load, another may; what was not built is nowhere.
        ([ended("a", BUILD_ERROR)], None, BUILD_ERROR),
        ([ended("a", BUILD_ERROR, ran=False)], BUILD_ERROR, BUILD_ERROR),
        # A fault is finished_devices about twice, on one device if there is no other.
        ([ended("a", CRASH)], None, None),
        ([ended("a", CRASH), ended("a", CRASH)], None, CRASH),
        ([ended("a", CRASH), ended("b", TIMEOUT)], CRASH, CRASH),
        ([ended("a", CRASH), ended("a", PASS)], None, FLAKY),
        # What failed in the context of others proves nothing, but a third crash is not risked.
        ([ended("a", MISMATCH, context=["x"])], None, None),
        ([ended("a", MISMATCH, context=["x"]), ended("a", PASS)], PASS, PASS),
        ([ended("a", CRASH, context=["x"]), ended("b", CRASH)], CRASH, CRASH),
        # A lost server proves nothing about a kernel, but two in a row are enough.
        ([ended("a", CRASH, is_lost=True)], None, None),
        ([ended("a", CRASH, is_lost=True), ended("b", PASS)], PASS, PASS),
        ([ended("a", CRASH, is_lost=True), ended("b", CRASH, is_lost=True)], CRASH, CRASH),
    ],
)
def test_the_verdict_follows_from_what_devices_say(outcomes, with_others, at_last):
    """A failure needs two devices if there are two, a contradiction three."""
    for has_others, verdict in ((True, with_others), (False, at_last)):
        detail = decide(outcomes, has_others=has_others)
        assert (detail and detail.verdict) == verdict


def test_a_device_that_most_others_contradict_lies():
    assert outvoted_devices([ended("a", MISMATCH), ended("b", PASS), ended("c", PASS)]) == ["a"]
    assert outvoted_devices([ended("a", MISMATCH), ended("b", PASS)]) == []
    assert outvoted_devices([ended("a", MISMATCH), ended("b", PASS), ended("c", MISMATCH)]) == []
    lost = [ended("a", CRASH, is_lost=True), ended("b", PASS), ended("c", PASS)]
    assert outvoted_devices(lost) == []


def test_the_reason_names_the_devices():
    """The reason names who fails and who passes wherever they differ, or where servers fell."""
    both = decide([ended("a", MISMATCH), ended("b", PASS)], has_others=False)
    assert both.reason == (
        "mismatch on a, but it passes on b: one of two devices is wrong, and a third would tell "
        "which. mismatch there"
    )
    most = decide([ended("a", MISMATCH), ended("b", PASS), ended("c", MISMATCH)], has_others=False)
    assert most.reason == "mismatch there; so on a, c, but it passes on b"
    fell = decide([ended("a", CRASH), ended("b", CRASH)], has_others=True)
    assert fell.reason == "crash there; so on a and b"
    context = decide([ended("a", CRASH, context=["x"]), ended("b", PASS)], has_others=True)
    assert context.reason == (
        "it passes alone, but failed after x in the same session: crash there"
    )
