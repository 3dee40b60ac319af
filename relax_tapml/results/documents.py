"""What ``result.json`` holds, as types: what the program relies on when it reads one.

A field that is not here may be there, and be anything. Those that a reader can do without need
not be there.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from relax_tapml.compare.verdict import Verdict

Number = float | Literal["nan", "inf", "-inf"] | None
"""Of ``json_number``."""

Count = Annotated[int, Meta(ge=0, le=2**62)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]


class First(TypedDict):
    """Where the first mismatch is."""

    index: list[int]
    expected: float | str | bool | None
    actual: float | str | bool | None


class Power(TypedDict):
    """What the tolerance of one output sees."""

    case: NotRequired[str]
    sample: NotRequired[str]
    output: Count
    share: Number
    terms: Count | None
    sees: list[str]
    blunt: bool


class Dim(TypedDict):
    """A symbolic dimension that had one value only."""

    name: str
    value: int
    probed: list[int]
    reason: str


class Alone(TypedDict):
    """What a unit did alone, of ``unit_summary``."""

    verdict: Verdict
    reason: NotRequired[str]
    runs: NotRequired[Count]
    failures: NotRequired[Count]
    device: NotRequired[str | None]
    precision: NotRequired[str | None]
    precision_reason: NotRequired[str | None]
    error: NotRequired[Number]
    tolerance: NotRequired[Number]
    tolerance_origin: NotRequired[str | None]
    case: NotRequired[str | None]
    cases: Count
    probes: NotRequired[Count]
    first: NotRequired[First | None]
    power: NotRequired[list[Power] | None]
    blunt: NotRequired[list[Any]]


class Unit(Alone):
    """One unit of a result."""

    name: str
    sites: Count
    alone: NotRequired[Verdict]
    origin: NotRequired[str]
    on_device: NotRequired[bool]
    together: NotRequired[list[str] | None]
    right_calls: NotRequired[Count | None]
    constant_inputs: NotRequired[list[str]]
    inexact: NotRequired[str]
    dims_seen_once: NotRequired[list[Dim]]


class StepSeconds(TypedDict):
    """How long the parts of a step took."""

    shift: NotRequired[Seconds | None]
    run: NotRequired[Seconds | None]


class Agreed(TypedDict):
    """Whether the model says the same, of ``Agreement.document``."""

    meaning: str
    total: Count
    same: Count
    ties: Count
    diverged: Count
    best: Count | None
    cosine: float | None


class Exhausting(TypedDict):
    """A part that uses something up, of ``Exhaustion.document``."""

    calls: Count
    verdict: Verdict
    reason: str


class Step(TypedDict):
    """One step of a result, of ``Step.document``."""

    boundary: list[str]
    moved: NotRequired[list[str]]
    unit: NotRequired[str | None]
    purpose: NotRequired[str]
    verdict: Verdict
    reason: NotRequired[str | None]
    error: NotRequired[Number]
    seconds: StepSeconds
    kernels_built: Count
    regions: NotRequired[Count]
    crossings: NotRequired[Count]
    bytes_moved: Count
    bytes_to_device: NotRequired[Count]
    agreement: NotRequired[Agreed | None]
    ties: NotRequired[list[str]]


class WholeStepSeconds(TypedDict):
    """How long the parts of a step took."""

    shift: Seconds
    run: Seconds


class WholeStep(TypedDict):
    """A step that a run goes on from: all that ``Step.document`` returns."""

    boundary: list[str]
    moved: list[str]
    unit: str | None
    purpose: str
    verdict: Verdict
    reason: str
    error: Number
    runs: Count
    failures: Count
    flaky: dict[str, tuple[Count, Count]]
    seconds: WholeStepSeconds
    kernels_built: Count
    regions: Count
    crossings: Count
    crossing_bytes: Count | None
    bytes_moved: Count
    bytes_to_device: NotRequired[Count]
    agreement: NotRequired[Agreed | None]
    exhausting: NotRequired[dict[str, Exhausting]]
    session: NotRequired[str]
    ties: NotRequired[list[str]]


class Finding(TypedDict):
    """What is known of a pipeline that changed Relax functions, of ``PipelineFinding.document``."""

    verdict: Verdict
    reason: str
    passes: list[str]
    functions: NotRequired[list[str]]
    changed: list[str]
    kernels: list[str]
    restored: list[str]


class Moved(TypedDict):
    """Bytes that crossed."""

    to_device: Count
    to_host: Count


class Device(TypedDict):
    """What one device did, of ``DeviceRecord``."""

    suspect: str
    seconds: NotRequired[Seconds]
    traffic: NotRequired[Moved]


class Model(TypedDict):
    """The model of a run."""

    name: str
    units: Count
    sites: Count
    parameters_bytes: Count


class ImportCheck(TypedDict):
    """How far the source is from the framework."""

    max_abs: Number
    tolerance: Number
    verdict: Verdict


class Import(TypedDict):
    """How the import was judged."""

    warning: NotRequired[str]


class Skip(TypedDict):
    """A site that was not compared."""

    site: str
    reason: str


_Result = TypedDict("_Result", {"import": NotRequired[Import | None]})


class Result(_Result):
    """The whole of ``result.json``."""

    schema: int
    verdict: Verdict
    culprits: list[str]
    reason: NotRequired[str | None]
    units: list[Unit]
    outputs: NotRequired[list[Power] | None]
    steps: list[Step]
    pipeline: NotRequired[Finding | None]
    skipped: list[Skip]
    versions: dict[str, str]
    seconds: dict[str, Seconds]
    model: NotRequired[Model]
    source: str
    target: str
    session: str
    devices: NotRequired[dict[str, Device] | None]
    by: NotRequired[str]
    device_pipeline: NotRequired[str | None]
    captures: NotRequired[dict[str, Count]]
    import_check: NotRequired[ImportCheck | None]
    lowering_notes: NotRequired[list[str] | None]
