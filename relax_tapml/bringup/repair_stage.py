"""Look for other kernels where units failed, and go on with the migration with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import tvm

from relax_tapml.bringup.alone import Alone, DeviceSpec, replayed
from relax_tapml.bringup.migrate_model import Migrated, MigrationPlan, migrate
from relax_tapml.bringup.run_folder import RunFolder
from relax_tapml.bringup.target_build import TargetBuild, build_target, prepare_target
from relax_tapml.bringup.trusted_source import Trusted
from relax_tapml.crossings import DeviceCall
from relax_tapml.errors import DeviceUnavailable, MachineError
from relax_tapml.migrate.in_context import in_context
from relax_tapml.migrate.migration import NoLog
from relax_tapml.migrate.strategies.registry import BISECT
from relax_tapml.partition.device_side import device_side
from relax_tapml.progress import SILENT, Stage
from relax_tapml.repair.repairs_folder import repairs_pass, write_repairs
from relax_tapml.repair.reproducers import reproducers
from relax_tapml.repair.search import Failing, kernels_by, repair_units
from relax_tapml.repair.tried import Tried, UnitRepair
from relax_tapml.replays.results import unit_result
from relax_tapml.report.quantities import count_text
from relax_tapml.results.repair_result import SearchResult
from relax_tapml.results.unit_result import UnitResult
from relax_tapml.suite.open_suite import Suite
from relax_tapml.targets.session.device import Device


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """What repairs of the failing units gave.

    Parameters
    ----------
    found
        Of each failing unit, in order.
    alone
        How all units do on the target, those that have a repair with it.
    migrated
        The migration with the repairs; None where there is none, or nothing was moved.
    has_bundle
        Whether the bundle is that of this migration.
    lost
        Why the search did not come to its end; empty if it did.
    """

    found: tuple[UnitRepair, ...] = ()
    alone: Alone
    migrated: Migrated | None = None
    has_bundle: bool = False
    lost: str = ""

    @property
    def has_kernels(self) -> bool:
        """Whether a unit has a repair."""
        return any(one.chosen for one in self.found)


def repair_failing(
    trusted: Trusted,
    suite: Suite,
    build: TargetBuild,
    alone: Alone,
    migrated: Migrated,
    failing: Sequence[str],
    device: DeviceSpec,
    plan: MigrationPlan,
    budget_s: float,
    folder: RunFolder,
    stage: Stage = SILENT,
    shared: Device | None = None,
) -> Repaired:
    """Look for a kernel that is right for each failing unit, and migrate the model with them.

    What is found is written to ``folder.repairs``. The bundle is replaced where more units are on
    the device with the repairs.

    Parameters
    ----------
    trusted, suite, build, alone, migrated
        Of the stages before.
    failing
        Units that are wrong on the target, in order.
    device, plan
        Of the run. All units are moved at once, and halved if that is wrong, whatever the plan's
        strategy is: most are known to be right.
    budget_s
        For the search; not for the migration.
    folder
        Of the run. What an earlier run has found there with the same kernels is not looked for
        again.
    stage
        Shows the progress.
    shared
        The device of ``device.shared``, which is closed; None for one of its own.

    Returns
    -------
    Repaired
        With ``lost`` where the device or the machine did not let it come to its end.
    """
    outcomes = {
        name: in_context(unit, migrated.contexts.get(name)) for name, unit in alone.units.items()
    }
    before = dataclasses.replace(alone, units=outcomes)
    found: list[UnitRepair] = []
    try:
        with closing(shared or device.open(build)) as used:
            looked = _Search(trusted, suite, build, alone, used, folder, stage)
            found = looked.units(failing, budget_s)
            kernels = {name: one for unit in found for name, one in unit.kernels.items()}
            if not kernels:
                stage.say(_text(found))
                return Repaired(found=tuple(found), alone=before)
            repaired = _rebuilt(build, trusted, kernels, folder, stage)
            after = _replayed_with(suite, repaired, before, alone, found, device, used, stage)
            if plan.strategy is None or plan.limit is not None:
                stage.say(_text(found))
                return Repaired(found=tuple(found), alone=after)
            on_device = sum(one.on_device for one in migrated.contexts.values())
            log = _BundleLog(folder)
            moved = migrate(
                trusted,
                suite,
                repaired,
                after,
                device,
                dataclasses.replace(plan, strategy=BISECT, bisect_above_s=None),
                folder.bundle,
                log,
                stage=stage,
                shared=used,
                more_than=on_device,
            )
    except (DeviceUnavailable, MachineError) as error:
        lost = f"the search for repairs stopped: {error}"
        return Repaired(found=tuple(found), alone=before, lost=lost)
    stage.say(_text(found))
    return Repaired(found=tuple(found), alone=after, migrated=moved, has_bundle=log.is_written)


class _BundleLog(NoLog):
    """Knows whether the bundle was written; the search for repairs is not continued."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self.is_written = False

    def keep_last_good(self, calls: Sequence[DeviceCall]) -> None:
        """Keep the device calls of the bundle."""
        self._folder.keep_last_good(calls)
        self.is_written = True


class _Search:
    """The search for other kernels of a run's failing units."""

    def __init__(
        self,
        trusted: Trusted,
        suite: Suite,
        build: TargetBuild,
        alone: Alone,
        device: Device,
        folder: RunFolder,
        stage: Stage,
    ) -> None:
        prepared, target = build.prepared, build.spec.target
        lowered = trusted.built.lowered.module
        plain = prepared.side
        if build.spec.pipeline is not None:
            plain = device_side(lowered, target, None, prepared.kernels)
        self._failing = Failing(
            suite=suite.for_target(target),
            units=prepared.units,
            lowered=plain.units,
            target=target,
            device=device,
            kernels=build.library.folder,
        )
        self._alone = alone
        self._folder = folder
        self._stage = stage

    def units(self, failing: Sequence[str], budget_s: float) -> list[UnitRepair]:
        """Return what is found for each failing unit, and keep it in the folder."""
        searched = [name for name in failing if self._alone.units[name].verdict.is_wrong]
        kept = self._folder.earlier_search(searched, budget_s)
        if kept is not None:
            found = {one.unit: self._as_kept(one) for one in kept}
        else:
            known = {name: self._alone.units[name] for name in searched}
            found = {
                one.unit: one
                for one in repair_units(
                    self._failing, known, budget_s=budget_s, on_tried=self._show
                )
            }
            self._folder.keep_search([one.result for one in found.values()], budget_s)
        repairs = [found.get(name) or self._right_alone(name) for name in failing]
        cases = {name: unit.case or "" for name, unit in self._alone.units.items()}
        scripts = reproducers(self._failing, repairs, cases)
        write_repairs(self._folder.repairs, repairs, self._failing.units, scripts)
        return repairs

    def _as_kept(self, kept: SearchResult) -> UnitRepair:
        kernels = kernels_by(self._failing, kept.unit, kept.chosen) if kept.chosen else {}
        return UnitRepair.of(kept, kernels)

    def _right_alone(self, unit: str) -> UnitRepair:
        alone = self._alone.units[unit]
        why = "it passes alone, so no other kernel can be judged alone"
        return UnitRepair(unit=unit, verdict=alone.verdict, reason=alone.reason or why)

    def _show(self, unit: str, tried: Tried) -> None:
        self._stage.say(f"{unit}: {tried.verdict} {tried.text}")


def _rebuilt(
    build: TargetBuild,
    trusted: Trusted,
    kernels: Mapping[str, tvm.tirx.PrimFunc],
    folder: RunFolder,
    stage: Stage,
) -> TargetBuild:
    """Build the target with repairs: the pass that is shipped with them, after its own pipeline."""
    prepared = build.prepared
    repairs = repairs_pass(kernels, prepared.units)
    own = build.spec.pipeline
    passes = [repairs] if own is None else [own, repairs]
    pipeline = tvm.transform.Sequential(passes, name=build.spec.pipeline_name or "repairs")
    spec = dataclasses.replace(build.spec, pipeline=pipeline)
    changed = prepare_target(trusted.built.lowered, spec, kernels=prepared.kernels)
    return build_target(changed, folder.kernels, stage)


def _replayed_with(
    suite: Suite,
    repaired: TargetBuild,
    before: Alone,
    alone: Alone,
    found: Sequence[UnitRepair],
    device: DeviceSpec,
    shared: Device,
    stage: Stage,
) -> Alone:
    """Return how all units do with the repairs: those that failed alone are judged once more."""
    unrepaired = {one.unit for one in found if not one.chosen}
    # Among them units that run a kernel of another one that is repaired.
    again = [
        name
        for name, unit in alone.units.items()
        if unit.verdict.is_wrong and name not in unrepaired
    ]
    report = replayed(
        suite, repaired, device, repeat=device.repeat, units=again, device=shared, stage=stage
    )
    shared.release()
    judged: dict[str, UnitResult] = {
        name: unit_result(detail) for name, detail in report.details.items()
    }
    return dataclasses.replace(before, units={**before.units, **judged})


def _text(found: Sequence[UnitRepair]) -> str:
    count = sum(bool(one.chosen) for one in found)
    return f"{count} of {count_text(len(found), 'failing unit')} repaired"
