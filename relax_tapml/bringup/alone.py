"""Run each unit alone on the target's device."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from relax_tapml.bringup.lowered_model import Lowered
from relax_tapml.bringup.target_build import TargetBuild
from relax_tapml.compare.verdict import Verdict
from relax_tapml.progress import SILENT, Stage, showing
from relax_tapml.replays.replay import ReplayReport, replay
from relax_tapml.replays.results import unit_result
from relax_tapml.report.findings import unjudged_text
from relax_tapml.report.quantities import count_text
from relax_tapml.results.device_result import DeviceResult
from relax_tapml.results.unit_result import UnitResult
from relax_tapml.suite.open_suite import Suite
from relax_tapml.targets.fleet.tracker import TrackerKey
from relax_tapml.targets.open_session import open_device
from relax_tapml.targets.session.device import Device


@dataclass(frozen=True, kw_only=True)
class DeviceSpec:
    """Where the target's device is, and how it is used.

    Parameters
    ----------
    session
        As for ``open_session``.
    timeout_s
        How long one call on it may take.
    repeat
        How often each case and each boundary is run.
    avoided
        Names of devices of a fleet that are not used.
    """

    session: str = "process"
    timeout_s: float = 60.0
    repeat: int = 1
    avoided: tuple[str, ...] = ()

    def open(self, build: TargetBuild) -> Device:
        """Return the device; its session is opened when it is first used."""
        return open_device(
            self.session, build.spec.target, timeout_s=self.timeout_s, avoided=self.avoided
        )

    @contextmanager
    def shared(self, build: TargetBuild) -> Iterator[Device | None]:
        """Provide one device for replay and migration, whose process then starts once.

        None for a tracker, whose devices share the work of a replay and then go back.
        """
        if TrackerKey.parse(self.session) is not None:
            yield None
            return
        device = self.open(build)
        try:
            yield device
        finally:
            device.close()


@dataclass(frozen=True, kw_only=True)
class Alone:
    """How the units did alone, on recorded inputs and probes.

    Parameters
    ----------
    units
        By name.
    devices
        What each device did, by its name.
    lost
        Why some units were not judged; empty if all were.
    """

    units: Mapping[str, UnitResult]
    devices: Mapping[str, DeviceResult] = field(default_factory=dict)
    lost: str = ""

    @property
    def passed(self) -> int:
        """How many units pass."""
        return sum(unit.verdict is Verdict.PASS for unit in self.units.values())

    @property
    def suspects(self) -> tuple[str, ...]:
        """Devices whose results are not trusted."""
        return tuple(name for name, device in self.devices.items() if device.suspect)

    @property
    def passing(self) -> frozenset[str]:
        """The units that pass, which may move."""
        return frozenset(n for n, unit in self.units.items() if unit.verdict is Verdict.PASS)


def replay_alone(
    suite: Suite,
    build: TargetBuild,
    device: DeviceSpec,
    stage: Stage = SILENT,
    shared: Device | None = None,
) -> Alone:
    """Replay a suite on the target's device; units of a fleet are spread over all free devices.

    Parameters
    ----------
    suite
        Carved from the module that ``build`` was built from.
    build
        The units.
    device
        Where they run.
    stage
        Shows the progress.
    shared
        The device of ``device.shared``; None for one of its own. A session in which nothing failed
        is left open, without the tensors of the cases.

    Raises
    ------
    DeviceUnavailable, MachineError
        As ``replay``: nothing is known of any unit.
    """
    stage.say(f"replaying {count_text(len(suite.manifest.units), 'unit')}")
    report = replayed(suite, build, device, repeat=device.repeat, device=shared, stage=stage)
    if shared is not None:
        shared.release()
    return Alone(
        units={name: unit_result(detail) for name, detail in report.details.items()},
        devices=report.devices,
        lost=unjudged_text(report.unjudged, report.unavailable),
    )


def movable(
    lowered: Lowered, passing: Collection[str], boundary: Collection[str] | None
) -> set[str]:
    """Return the ids of the sites that may and shall leave the host.

    Parameters
    ----------
    lowered
        The module.
    passing
        Units that pass alone.
    boundary
        Sites that shall; None for all.
    """
    return {
        entry.site.id
        for entry in lowered.table
        if entry.site.unit in passing
        and entry.site.id not in lowered.host_only
        and (boundary is None or entry.site.id in boundary)
    }


def alone_text(alone: Alone, build: TargetBuild) -> str:
    """Return the number of units that pass, for people."""
    count = len(alone.devices)
    spread = f" ({count} devices)" if count > 1 else ""
    return f"{alone.passed} of {len(alone.units)} units pass alone on {build.spec.name}{spread}"


def replayed(
    suite: Suite,
    build: TargetBuild,
    spec: DeviceSpec,
    *,
    repeat: int,
    units: Sequence[str] | None = None,
    device: Device | None = None,
    stage: Stage = SILENT,
) -> ReplayReport:
    """Replay units of a suite, on a device that is shared with others if one is given."""
    prepared = build.prepared
    return replay(
        suite.for_target(build.spec.target),
        target=build.spec.target,
        session=spec.session,
        timeout_s=spec.timeout_s,
        device_pipeline=prepared.spec.pipeline,
        side=None if prepared.spec.pipeline is None else prepared.side,
        kernels=build.library.folder,
        units=units,
        repeat=repeat,
        device=device,
        on_unit=showing(stage, "units replayed"),
    )
