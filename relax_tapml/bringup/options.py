"""What a run is to do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import tvm

from relax_tapml.bringup.alone import DeviceSpec
from relax_tapml.bringup.capture_plan import CapturePlan
from relax_tapml.bringup.carved_suite import CarvePlan
from relax_tapml.bringup.migrate_model import MigrationPlan
from relax_tapml.bringup.side_spec import SideSpec
from relax_tapml.errors import UsageError
from relax_tapml.migrate.move_groups import By
from relax_tapml.migrate.strategies.registry import LINEAR, strategy_named
from relax_tapml.partition.boundary import Boundary, read_boundary
from relax_tapml.repair.search import BUDGET_S
from relax_tapml.targets.open_session import check_session
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.platforms.registry import platform_of

_BISECT_ABOVE_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run is to do.

    Parameters
    ----------
    source, target
        TVM targets: a kind, a tag or JSON. A ``tvm.target.Target`` is kept as its JSON.
    session
        Where the device runs, as for ``open_session``.
    host_pipeline, device_pipeline
        A Relax pass for that side's lowered module, or ``MODULE:ATTR``.
    strategy
        The name of one of ``STRATEGIES``, or ``isolated``, which stops after replaying each unit
        alone. None for ``linear``, and for ``bisect`` where that would take more than ten minutes.
    by
        What moves in one step.
    boundary
        Only these sites may move; None for all that can.
    migrate
        How many moves to make in this run: ``all``, ``next`` or a number.
    repeat
        How often each case and each boundary is run, for devices that do not repeat themselves.
    capture_calls
        Which operator calls are captured: ``all``, a number of calls of each unit, or a size such
        as ``2GB``; each may end with ``/K``. See ``CapturePlan``.
    cases_per_unit
        At most this many recorded cases are carved for a unit.
    is_probed
        Whether units also get probes: cases with inputs that were not recorded.
    timeout_s
        How long one call on the device may take.
    repair
        Whether other kernels are looked for where units fail.
    repair_budget_s
        How long that may take, for all units; the migration with what is found not counted.
    is_import_checked
        Whether a source that disagrees with the framework ends the run; otherwise it goes on, and
        its result has a warning.
    trust
        Whether a model that is a file comes from somebody who may run any code here.
    dump_ir
        Folder for the module after each pass of each phase; None for none. It must be empty or new.
    """

    source: str = "llvm"
    target: str = "llvm"
    session: str = "process"
    host_pipeline: str | tvm.transform.Pass | None = None
    device_pipeline: str | tvm.transform.Pass | None = None
    strategy: str | None = None
    by: By = By.UNIT
    boundary: Boundary | None = None
    migrate: str | int = "all"
    repeat: int = 1
    capture_calls: str | int = "all"
    cases_per_unit: int = 3
    is_probed: bool = True
    timeout_s: float = 60.0
    repair: bool = True
    repair_budget_s: float = BUDGET_S
    is_import_checked: bool = True
    trust: bool = False
    dump_ir: Path | None = None

    def __post_init__(self) -> None:
        for name in ("source", "target"):
            if isinstance(getattr(self, name), tvm.target.Target):
                object.__setattr__(self, name, str(getattr(self, name)))
        # From Python they may be plain strings.
        strategy = LINEAR if self.strategy is None else strategy_named(self.strategy)
        object.__setattr__(self, "by", _one_of(By, "--by", self.by))
        check_session(self.session, parse_target(self.target))
        if self.migrate not in ("all", "next") and not str(self.migrate).isdecimal():
            raise UsageError(f"--migrate {self.migrate}: expected all, next or a number")
        if strategy is not None and strategy.moves_all_first and self.migrate != "all":
            raise UsageError(
                f"--migrate {self.migrate}: {strategy.name} begins with all at once; use "
                "--strategy linear, or name what may move with --boundary"
            )
        CapturePlan.parse(str(self.capture_calls))
        if self.repeat < 1:
            raise UsageError(f"--repeat {self.repeat}: expected at least 1")
        if self.cases_per_unit < 1:
            raise UsageError(f"--cases-per-unit {self.cases_per_unit}: expected at least 1")
        if self.timeout_s <= 0:
            raise UsageError(f"--timeout {self.timeout_s:g}: expected more than 0 seconds")
        if not self.repair_budget_s > 0:
            raise UsageError(
                f"--repair-budget {self.repair_budget_s:g}: expected more than 0 seconds; "
                "--no-repair looks for none"
            )

    def changed(self, fields: OptionFields) -> Options:
        """Return these options with other values of some fields; a boundary may be a file."""
        values: dict[str, Any] = dict(fields)
        if isinstance(values.get("boundary"), Path | str):
            values["boundary"] = read_boundary(values["boundary"])
        return replace(self, **values)

    def sides(self) -> tuple[SideSpec, SideSpec]:
        """Return source and target; the target's platform has what it needs on this machine."""
        source = SideSpec.of(self.source, self.host_pipeline, "inline")
        target = SideSpec.of(self.target, self.device_pipeline, self.session)
        # What is not installed is reported before minutes are spent.
        platform_of(target.target).check()
        return source, target

    @property
    def built_for(self) -> dict[str, str]:
        """The exact targets of both sides, as JSON, with the CPU where code runs here."""
        return {
            "source": str(parse_target(self.source, "inline")),
            "target": str(parse_target(self.target, self.session)),
        }

    @property
    def capturing(self) -> CapturePlan:
        """Which calls are captured."""
        return CapturePlan.parse(str(self.capture_calls))

    @property
    def carving(self) -> CarvePlan:
        """What is carved."""
        return CarvePlan(cases_per_unit=self.cases_per_unit, is_probed=self.is_probed)

    @property
    def judging(self) -> dict[str, str]:
        """What verdicts depend on, beside the kernels."""
        return {
            "session": self.session,
            "repeat": str(self.repeat),
            "cases_per_unit": str(self.cases_per_unit),
            "is_probed": str(self.is_probed),
        }

    @property
    def plan(self) -> MigrationPlan:
        """How the boundary moves."""
        named: dict[str | int, int | None] = {"all": None, "next": 1}
        limit = named[self.migrate] if self.migrate in named else int(self.migrate)
        # A number of moves is one of single groups.
        is_free = self.strategy is None and limit is None
        return MigrationPlan(
            strategy=LINEAR if self.strategy is None else strategy_named(self.strategy),
            by=self.by,
            boundary=self.boundary,
            limit=limit,
            bisect_above_s=_BISECT_ABOVE_S if is_free else None,
        )

    @property
    def device(self) -> DeviceSpec:
        """Where the device is."""
        return DeviceSpec(session=self.session, timeout_s=self.timeout_s, repeat=self.repeat)


class OptionFields(TypedDict, total=False):
    """The fields of ``Options``, for functions that take them one by one."""

    source: str
    target: str
    session: str
    host_pipeline: str | tvm.transform.Pass | None
    device_pipeline: str | tvm.transform.Pass | None
    strategy: str | None
    by: By | str
    boundary: Boundary | Path | str | None
    migrate: str | int
    repeat: int
    capture_calls: str | int
    cases_per_unit: int
    is_probed: bool
    timeout_s: float
    repair: bool
    repair_budget_s: float
    is_import_checked: bool
    trust: bool
    dump_ir: Path | None


_Choice = TypeVar("_Choice", bound=StrEnum)


def _one_of(choices: type[_Choice], option: str, given: str) -> _Choice:
    try:
        return choices(given)
    except ValueError:
        raise UsageError(f"{option} {given}: expected one of {', '.join(choices)}") from None
