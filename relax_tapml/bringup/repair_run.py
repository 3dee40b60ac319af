"""Repair the failing units of a run, from its output folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from relax_tapml.bringup.run_folder import read_device_side
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import UsageError
from relax_tapml.partition.device_side import device_side
from relax_tapml.repair.repairs_folder import write_repairs
from relax_tapml.repair.reproducers import reproducers
from relax_tapml.repair.search import BUDGET_S, Failing, repair_units
from relax_tapml.repair.tried import Tried, UnitRepair
from relax_tapml.results.result_file import read_result
from relax_tapml.suite.model_beside import model_beside
from relax_tapml.suite.open_suite import open_suite
from relax_tapml.targets.open_session import open_device
from relax_tapml.targets.platforms.parse_target import parse_target


def repair_run(
    out: Path,
    repairs: Path,
    *,
    units: Sequence[str] | None = None,
    session: str | None = None,
    timeout_s: float = 60.0,
    budget_s: float = BUDGET_S,
    trust: bool = False,
    on_tried: Callable[[str, Tried], None] = lambda _unit, _tried: None,
) -> list[UnitRepair]:
    """Look for kernels that are right in the place of those that failed in a run.

    Parameters
    ----------
    out
        The run's output folder.
    repairs
        Where what was found is written; nothing is written if nothing was found.
    units
        Which units; by default those that the run found to be wrong.
    session
        Where the device is; by default as in the run.
    timeout_s
        How long one call on the device may take.
    budget_s
        For the alternatives of all units.
    trust
        As for ``open_suite``.
    on_tried
        Called with the unit and each alternative that was judged.

    Returns
    -------
    list
        One for each unit. A repair that is wrong beside the other repairs is not chosen.

    Raises
    ------
    UsageError
        The folder is not that of a run with units, or a unit is not known.
    StoreError
        A file is damaged, or calls what is not known to be harmless and ``trust`` is false.
    DeviceUnavailable, MachineError
        As for ``replay``.
    """
    result = read_result(out)
    where = session or result.session
    target = parse_target(result.target, where)
    suite = open_suite(out, target, trust=trust)
    lowered = model_beside(suite)
    if lowered is None:
        raise UsageError(f"{out} has no lowered.json that fits its suite: run the build again")
    before = device_side(lowered, target, None, suite.target_kernels()).units
    own = read_device_side(out, trust=trust) or before
    for unit in units or ():
        suite.unit(unit)
    culprits = units or result.culprits
    chosen = [unit for unit in culprits if unit in suite.manifest.units]
    alone = [_not_alone(unit) for unit in culprits if unit not in suite.manifest.units]
    with closing(open_device(where, target, timeout_s=timeout_s)) as device:
        failing = Failing(
            suite=suite,
            units=own,
            lowered=before,
            target=target,
            device=device,
            kernels=out / "kernels",
        )
        found = repair_units(failing, dict.fromkeys(chosen), budget_s=budget_s, on_tried=on_tried)
    cases = {unit.name: unit.case or "" for unit in result.units}
    write_repairs(repairs, found, own, reproducers(failing, found, cases))
    return [*found, *alone]


def _not_alone(culprit: str) -> UnitRepair:
    """Return what is said of a culprit that no case of the suite runs alone."""
    why = "the suite has no case of it, so no other kernel can be judged in its place"
    return UnitRepair(unit=culprit, verdict=Verdict.SKIPPED, reason=why)
