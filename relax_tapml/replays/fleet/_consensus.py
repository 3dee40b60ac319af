"""How a unit ends that several devices of one kind have replayed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from relax_tapml.compare.repeat import is_failure
from relax_tapml.compare.verdict import FAULTS, Verdict
from relax_tapml.replays.unit.unit_replay import UnitReplay

_FAULTS_AT_MOST = 3


@dataclass(frozen=True, kw_only=True)
class DeviceOutcome:
    """How a unit ended on one device.

    Parameters
    ----------
    device
        Its name.
    detail
        How the unit ended there.
    is_lost
        Whether the device's server was lost afterwards.
    """

    device: str
    detail: UnitReplay
    is_lost: bool = False

    @property
    def is_fault(self) -> bool:
        """Whether the unit crashed or timed out there."""
        return self.detail.verdict in FAULTS

    @property
    def is_unbuilt(self) -> bool:
        """Whether no device can run it, because its kernel does not build."""
        return self.detail.verdict is Verdict.BUILD_ERROR and not self.detail.device

    @property
    def is_pass(self) -> bool:
        """Whether nothing failed; a unit that was skipped counts, too."""
        return not is_failure(self.detail.verdict)

    @property
    def is_failure(self) -> bool:
        """Whether either the unit or the device is wrong.

        A failure after other units in a session, or with a lost server, proves neither.
        """
        return not self.is_pass and not self.detail.context and not self.is_lost


def outvoted_devices(outcomes: Sequence[DeviceOutcome]) -> list[str]:
    """Return the devices that fail a unit which most of the others pass."""
    passing = [item for item in outcomes if item.is_pass]
    failing = [item for item in outcomes if item.is_failure]
    return [item.device for item in failing] if len(passing) > len(failing) else []


def decide(outcomes: Sequence[DeviceOutcome], *, has_others: bool) -> UnitReplay | None:
    """Return how a unit ends, or None if one more device is needed.

    A pass is a comparison with the oracle, so one is enough where no device differs. A failure
    needs two devices if there are two, unless no kernel was built. A unit that ended two sessions
    with a fault, on different devices, is not sent to a third.

    Parameters
    ----------
    outcomes
        So far, in order; without those on devices that are not trusted.
    has_others
        Whether a device is there that has not finished the unit. Where none is and None is
        returned, the unit is to be run again on one that has, first in its session.
    """
    unbuilt = [item for item in outcomes if item.is_unbuilt]
    if unbuilt:
        return unbuilt[0].detail
    passing = [item for item in outcomes if item.is_pass]
    failing = [item for item in outcomes if item.is_failure]
    faults = [item for item in outcomes if item.is_fault]
    if passing:
        return _weighed(outcomes, passing, failing, has_others=has_others)
    if len({item.device for item in faults}) >= 2 or len(faults) >= _FAULTS_AT_MOST:
        return _failed(faults, failing)
    if len({item.device for item in failing}) >= 2:
        return _failed(failing, failing)
    if failing and not has_others and (len(faults) >= 2 or not failing[0].is_fault):
        return _failed(failing, failing)
    return None


def _weighed(
    outcomes: Sequence[DeviceOutcome],
    passing: Sequence[DeviceOutcome],
    failing: Sequence[DeviceOutcome],
    *,
    has_others: bool,
) -> UnitReplay | None:
    """Return what follows where the unit passes on some devices."""
    right = passing[0].detail
    if len(passing) > len(failing):
        together = [item.detail for item in outcomes if item.detail.context]
        if not together or right.reason:
            return right
        context = ", ".join(together[0].context)
        note = f"it passes alone, but failed after {context} in the same session"
        return replace(right, reason=f"{note}: {together[0].reason}")
    names = ", ".join(item.device for item in passing)
    wrong = _gravest(failing)
    if len(passing) < len(failing):
        devices = ", ".join(item.device for item in failing)
        return replace(wrong, reason=f"{wrong.reason}; so on {devices}, but it passes on {names}")
    if has_others:
        return None
    if wrong.device == right.device:
        reason = f"fails 1 of 2 times: {wrong.reason}"
        return replace(wrong, verdict=Verdict.FLAKY, reason=reason, runs=2, failures=1)
    reason = (
        f"{wrong.verdict} on {wrong.device}, but it passes on {names}: one of two devices is "
        f"wrong, and a third would tell which. {wrong.reason}"
    )
    return replace(wrong, verdict=Verdict.INCONCLUSIVE, reason=reason)


def _failed(outcomes: Sequence[DeviceOutcome], alone: Sequence[DeviceOutcome]) -> UnitReplay:
    """Return the failure, as one device that ran it alone describes it if there is one."""
    wrong = _gravest([item for item in outcomes if item in alone] or outcomes)
    devices = list(dict.fromkeys(item.device for item in outcomes))
    if wrong.verdict in FAULTS and len(devices) > 1:
        return replace(wrong, reason=f"{wrong.reason}; so on {' and '.join(devices)}", context=())
    return replace(wrong, context=())


def _gravest(outcomes: Sequence[DeviceOutcome]) -> UnitReplay:
    found = min(outcomes, key=lambda item: item.detail.verdict.severity)
    return found.detail


def trusted(outcomes: Sequence[DeviceOutcome], suspects: Collection[str]) -> list[DeviceOutcome]:
    """Return the outcomes on devices that are trusted."""
    return [item for item in outcomes if item.device not in suspects]
