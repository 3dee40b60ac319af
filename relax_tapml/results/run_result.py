"""What a run found: ``result.json``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relax_tapml.compare.verdict import Verdict, exit_code_of
from relax_tapml.errors import ExitCode
from relax_tapml.results.cache_result import CacheResult
from relax_tapml.results.device_result import DeviceResult
from relax_tapml.results.import_result import ImportDistance, ImportResult
from relax_tapml.results.json_codec import NOT_IN_JSON, Count, Seconds, encode
from relax_tapml.results.pipeline_result import PipelineResult
from relax_tapml.results.repair_result import RepairedRun
from relax_tapml.results.step_result import StepResult
from relax_tapml.results.unit_result import PowerResult, UnitResult

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class SkippedSite:
    """A site that was not compared, or cannot leave the host, and why."""

    site: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class UnjudgedUnit:
    """A unit of a run that ended before any was judged.

    Parameters
    ----------
    name
        Of the unit.
    origins
        Where in the model it comes from, by site, as in ``UnitResult``.
    """

    name: str
    origins: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StageSeconds:
    """How long each stage took in this run, and all of it.

    ``load`` is the part of ``lower`` in which the model was loaded: its framework was imported, and
    its program exported.
    """

    load: Seconds = 0.0
    lower: Seconds = 0.0
    build_kernels: Seconds = 0.0
    capture: Seconds = 0.0
    carve: Seconds = 0.0
    replay: Seconds = 0.0
    migrate: Seconds = 0.0
    repair: Seconds = 0.0
    total: Seconds = 0.0


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run was expected to take, to be compared with ``seconds``.

    Parameters
    ----------
    first
        After lowering, from counts alone.
    corrected
        After the source had run once; None if that was not reached. Stages before have what they
        took.
    """

    first: StageSeconds
    corrected: StageSeconds | None = None


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """The model of a run."""

    name: str
    units: Count
    sites: Count
    parameters_bytes: Count
    samples: Count = 0


@dataclass(frozen=True, kw_only=True)
class CaptureResult:
    """What was captured.

    Parameters
    ----------
    calls
        Calls of operators.
    sites
        Sites that have a captured call.
    bytes_stored
        On the disk.
    bytes_seen
        Of all activations captured, equal ones counted again.
    bytes_expected
        What was expected to be stored at most: weights, and activations whose shapes were known.
    capture_calls
        Which calls were captured, as given to ``--capture-calls``.
    waited
        Why a GPU waited for the copy of each tensor, which is slow; empty where it did not.
    """

    calls: Count = 0
    sites: Count = 0
    bytes_stored: Count = 0
    bytes_seen: Count = 0
    bytes_expected: Count = 0
    capture_calls: str = "all"
    waited: str = ""


@dataclass(frozen=True, kw_only=True)
class DiskBytes:
    """What each part of the output folder takes on the disk: the sizes of its files."""

    captures: Count = 0
    tests: Count = 0
    kernels: Count = 0
    bundle: Count = 0


@dataclass(frozen=True, kw_only=True)
class OutputPower(PowerResult):
    """What the tolerance of one output of the model sees, for one sample.

    Parameters
    ----------
    sample
        Its name.
    output
        Its position.
    """

    sample: str
    output: Count


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The end of a run, as it stands in ``result.json``.

    Parameters
    ----------
    schema
        Of the document.
    verdict
        ``pass``, the most severe verdict of the culprits, or ``inconclusive``.
    reason
        Why the run does not pass, or did not come to its end, or with what reservation it passes;
        empty otherwise.
    culprits
        Names of the units that are wrong on the target, and ``pass:NAME`` of a wrong pass.
    units
        In the order of the model.
    unjudged
        All units of the model, in its order, where the run ended before any was judged.
    outputs
        What the tolerances of the model's outputs see.
    steps
        The boundaries that were tried, in order.
    pipeline
        About a device's pipeline that changes Relax functions; None without one.
    cache
        About the model with its KV cache on the device; None for a model without one.
    repair
        About the model with other kernels for the units that failed; None where none was looked
        for.
    skipped
        Sites about which nothing is claimed.
    unproven
        Dropped probes, ``UNIT/CASE``: those that could not be made, and those that the source
        itself fails; each with the reason.
    versions
        Distribution name to version, of what made the run; and the machine's architecture.
    seconds
        Of each stage.
    peak_bytes
        The most memory that the run's own process had, its children not counted; None if that is
        not known.
    estimate
        What they were expected to take; None if the run did not get that far.
    model
        The model.
    source, target, session
        As they were given.
    built_for
        The targets that ``source`` and ``target`` stand for, as JSON, with this machine's CPU where
        code runs here.
    source_options
        How the source's kernels were compiled, where that is not TVM's default; empty otherwise.
    devices
        What each device did in the replay, by its name.
    strategy, by
        How the migration proceeded, or was to.
    strategy_reason
        Why the strategy was chosen; empty where it was given.
    device_pipeline, host_pipeline
        As they were given, or their names; None without one.
    captures
        What was captured.
    bytes
        What the parts of the output folder take on the disk.
    import_check, import_
        How the source compares with the framework; None without a framework's output.
    lowering_notes
        Passes that failed while the model was lowered, where the run went on without them.
    out
        The output folder; it is not in the document.
    """

    schema: int = SCHEMA
    verdict: Verdict
    reason: str = ""
    culprits: list[str]
    units: tuple[UnitResult, ...]
    unjudged: tuple[UnjudgedUnit, ...] = ()
    outputs: tuple[OutputPower, ...] = ()
    steps: tuple[StepResult, ...]
    pipeline: PipelineResult | None = None
    cache: CacheResult | None = None
    repair: RepairedRun | None = None
    skipped: tuple[SkippedSite, ...]
    unproven: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str]
    seconds: StageSeconds
    peak_bytes: Count | None = None
    estimate: Estimate | None = None
    model: ModelResult | None = None
    source: str
    target: str
    session: str
    built_for: dict[str, str] = field(default_factory=dict)
    source_options: str = ""
    devices: dict[str, DeviceResult] = field(default_factory=dict)
    strategy: str = "linear"
    strategy_reason: str = ""
    by: str = "unit"
    device_pipeline: str | None = None
    host_pipeline: str | None = None
    captures: CaptureResult = field(default_factory=CaptureResult)
    bytes: DiskBytes = field(default_factory=DiskBytes)
    import_check: ImportDistance | None = None
    import_: ImportResult | None = None
    lowering_notes: tuple[str, ...] = ()
    out: Path = field(default=Path(), compare=False, metadata=NOT_IN_JSON)

    @property
    def exit_code(self) -> ExitCode:
        """0 pass, 1 culprits found, 3 inconclusive."""
        return exit_code_of([self.verdict])

    @property
    def document(self) -> dict[str, Any]:
        """What ``result.json`` holds."""
        document: dict[str, Any] = encode(self)
        return document
