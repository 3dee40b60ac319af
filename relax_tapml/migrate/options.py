"""What a run is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

import tvm

from relax_tapml.errors import UsageError
from relax_tapml.migrate.strategy import StrategyName
from relax_tapml.targets.open import check_session


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run is asked to do.

    Parameters
    ----------
    source, target
        TVM targets: a kind, a tag or JSON.
    session
        Where the device runs, as for ``open_session``.
    host_pipeline, device_pipeline
        A Relax pass for that side's lowered module, or ``MODULE:ATTR``.
    strategy
        ``linear`` moves unit by unit; ``isolated`` stops after replaying each unit alone.
    migrate
        How many units to move in this run: ``all``, ``next`` or a number.
    cases_per_unit
        At most this many recorded cases are carved for a unit.
    is_probed
        Whether units also get probes: cases with inputs that were not recorded.
    timeout_s
        How long one call on the device may take.
    """

    source: str = "llvm"
    target: str = "llvm"
    session: str = "process"
    host_pipeline: str | tvm.transform.Pass | None = None
    device_pipeline: str | tvm.transform.Pass | None = None
    strategy: StrategyName = StrategyName.LINEAR
    migrate: str | int = "all"
    cases_per_unit: int = 3
    is_probed: bool = True
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if self.strategy not in list(StrategyName):
            raise UsageError(
                f"--strategy {self.strategy}: expected one of {', '.join(StrategyName)}"
            )
        # From Python it may be a plain string.
        object.__setattr__(self, "strategy", StrategyName(self.strategy))
        check_session(self.session)
        if self.migrate not in ("all", "next") and not str(self.migrate).isdecimal():
            raise UsageError(f"--migrate {self.migrate}: expected all, next or a number")
        if self.cases_per_unit < 1:
            raise UsageError(f"--cases-per-unit {self.cases_per_unit}: expected at least 1")
        if self.timeout_s <= 0:
            raise UsageError(f"--timeout {self.timeout_s:g}: expected more than 0 seconds")

    @property
    def move_limit(self) -> int | None:
        """How many units may be moved, None for all."""
        named: dict[str | int, int | None] = {"all": None, "next": 1}
        return named[self.migrate] if self.migrate in named else int(self.migrate)
