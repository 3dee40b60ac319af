"""What a run goes on from: ``state.json``."""

from __future__ import annotations

from dataclasses import dataclass

from relax_tapml.bringup.carved_suite import CarvePlan
from relax_tapml.results.device_result import DeviceResult
from relax_tapml.results.pipeline_result import PipelineRun
from relax_tapml.results.repair_result import SearchResult
from relax_tapml.results.step_result import StepResult
from relax_tapml.results.unit_result import UnitResult


@dataclass(frozen=True, kw_only=True)
class SearchState:
    """A search over boundaries.

    Parameters
    ----------
    strategy, batches
        What decides which steps are made.
    reason
        Why the strategy was chosen; empty where it was given.
    steps
        Those made so far.
    """

    strategy: str
    batches: tuple[tuple[str, ...], ...]
    reason: str = ""
    steps: tuple[StepResult, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RepairState:
    """A search for repairs that came to its end.

    Parameters
    ----------
    budget_s
        How long it was allowed to take.
    found
        Of each unit that failed alone.
    """

    budget_s: float
    found: tuple[SearchResult, ...]


@dataclass(frozen=True, kw_only=True)
class DeviceState:
    """What is known of the target's kernels.

    Parameters
    ----------
    identity
        Digests of what verdicts depend on.
    alone
        How each unit did alone; None before all were judged.
    devices
        What each device did meanwhile.
    search
        The migration; None before it began.
    pipeline
        About a pipeline that changes Relax functions; None before it was judged.
    repairs
        Of units that failed; None before they were looked for.
    """

    identity: dict[str, str]
    alone: dict[str, UnitResult] | None = None
    devices: dict[str, DeviceResult] | None = None
    search: SearchState | None = None
    pipeline: PipelineRun | None = None
    repairs: RepairState | None = None


@dataclass(frozen=True, kw_only=True)
class RunState:
    """The whole document.

    Parameters
    ----------
    kind, schema
        Of the document.
    source
        Digests of what captures depend on; None before the source was built.
    carved
        None before the suite was carved.
    device
        None before the target was built.
    """

    kind: str
    schema: int
    source: dict[str, str] | None = None
    carved: CarvePlan | None = None
    device: DeviceState | None = None
