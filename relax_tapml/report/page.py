"""``report.html``: one page about one run, with everything it needs inside."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2

from relax_tapml.compare.verdict import Verdict
from relax_tapml.files.replace import write_file
from relax_tapml.passes.origin import Origin, unit_text
from relax_tapml.report import quantities
from relax_tapml.report._boundary_path import BoundaryPath, lay_out_path
from relax_tapml.report._error_picture import ErrorPicture, lay_out_errors
from relax_tapml.report._log_scale import LogScale
from relax_tapml.report._model_picture import lay_out_model
from relax_tapml.report._stage_times import stage_times
from relax_tapml.report._step_timings import lay_out_timings
from relax_tapml.report.dims import dim_rows
from relax_tapml.report.findings import (
    cache_text,
    explain,
    headline,
    import_text,
    moved_text,
    notes,
    open_end,
    pipeline_text,
    precision_text,
    repair_text,
    skipped_by_reason,
    verdict_text,
)
from relax_tapml.report.next_commands import culprit_units, next_commands, reproduce_command
from relax_tapml.report.power import power_rows, power_sentences
from relax_tapml.results.failing_kernels import FAILING, FailingKernel, read_failing_kernel
from relax_tapml.results.run_result import RunResult
from relax_tapml.results.step_result import StepResult
from relax_tapml.results.unit_result import UnitResult

_EXPLAINED_AT_MOST = 5
# What bounds the page of a large model.
_DETAILED_AT_MOST = 150
_CHARTED_AT_MOST = 300
_STEPS_AT_MOST = 300
_SKIPPED_AT_MOST = 200
_KERNEL_BYTES = 80_000
# No value may be further off than a denormal is from zero, in float32 or bfloat16, and in float64.
_EQUAL = (0.0, 2.0**-126, 2.0**-1022)
_TEMPLATE = Path(__file__).with_name("report.html.j2")
_FILES = (
    ("result.json", "all of this, for programs"),
    (FAILING, "kernels of the culprits: TVMScript and generated source"),
    ("import", "scripts that show nodes which are imported wrongly"),
    ("tests", "the carved suite, for pytest and relax-tapml replay"),
    ("captures", "inputs and outputs of every call on the source"),
    ("boundaries", "what was on the device in each step"),
    ("repairs", "other kernels for the units that failed, as a pass, as TVMScript and as diffs"),
    ("bundle", "host and device libraries of the last good step, for relax_tapml.load"),
    ("lowered.json", "the lowered module"),
    ("device.json", "the same with the target's kernels"),
)


@dataclass(frozen=True, kw_only=True)
class UnitRow:
    """One row of the table of units; bars are fractions of the common log scale.

    ``number`` is the unit's position in the result. ``error_bar`` is None where there is no error
    or it has no place on a scale: NaN and infinity, where ``is_off_scale`` is true. A row that
    ``is_short`` has neither bar nor details, as those of many units that pass.
    """

    unit: UnitResult
    number: int
    is_culprit: bool
    has_details: bool
    is_short: bool
    error_bar: float | None
    tolerance_mark: float | None
    is_off_scale: bool


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What is shown of a culprit."""

    unit: UnitResult
    picture: ErrorPicture | None
    command: str
    kernel: FailingKernel


@cache
def _template() -> jinja2.Template:
    """Return the page, compiled: that takes longer than to fill it in."""
    # Everything is escaped: the result holds names and messages from models and devices.
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        call_time=quantities.call_time_text,
        count=quantities.count_text,
        metrics=quantities.metrics_text,
        number=quantities.number_text,
        places=_places_text,
        seconds=quantities.seconds_text,
        size=quantities.size_text,
        tolerance=_tolerance_text,
        verdict_text=verdict_text,
        moved_text=moved_text,
        power_rows=power_rows,
    )
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))


def render(result: RunResult, *, out: Path) -> None:
    """Write ``out/report.html``, replacing an earlier page in one move.

    The page needs no network and no other file. Every text of the result is escaped. Of the
    kernels in ``out/failing`` it holds the beginning.

    Parameters
    ----------
    result
        What the run found.
    out
        The output folder of the run; it must exist. Commands to run next name it as it is here.
    """
    units = result.units
    scale = LogScale.spanning(value for unit in units for value in (unit.error, unit.tolerance))
    culprits = set(result.culprits)
    wrong = [unit for unit in units if unit.name in culprits]
    rows = _unit_rows(units, culprits, scale)
    path = lay_out_path(result)
    has_tests = (out / "tests").is_dir()
    import_map = None if result.import_ is None else result.import_.error_map
    page = _template().render(
        result=result,
        title=f"{result.model.name if result.model else 'model'} on {result.target}",
        headline=headline(result),
        explained=[
            *(explain(unit) for unit in wrong[:_EXPLAINED_AT_MOST]),
            # The others have the reason in their row.
            *[explain(unit) for unit in units if unit.blunt][:_EXPLAINED_AT_MOST],
            *filter(None, [repair_text(result, out), pipeline_text(result), cache_text(result)]),
            *import_text(result),
            *open_end(result),
            *precision_text(units),
            *notes(result),
            *power_sentences(result),
        ],
        commands=next_commands(result, out, has_tests=has_tests),
        repairs=[unit for unit in wrong if unit.repair is not None][:_DETAILED_AT_MOST],
        failures=_failures(result, wrong, out, has_tests=has_tests),
        unexplained=max(0, len(wrong) - _EXPLAINED_AT_MOST),
        import_picture=None if import_map is None else lay_out_errors(import_map),
        picture=lay_out_model(result),
        dims=dim_rows(result),
        rows=rows,
        undetailed=sum(row.is_short for row in rows),
        levels=[(f"1e{round(math.log10(v))}", scale.position(v)) for v in scale.decades(4)],
        verdicts=Counter(unit.verdict for unit in units).most_common(),
        path=path,
        timings=lay_out_timings(result),
        has_charts=_has_charts(result, path),
        steps=_steps(result),
        stages=stage_times(result.seconds),
        skipped=skipped_by_reason(result),
        most_skipped=_SKIPPED_AT_MOST,
        files=[
            (name, what) for name, what in _FILES if name == "result.json" or (out / name).exists()
        ],
    )
    write_file(out / "report.html", page)


def _failures(
    result: RunResult, wrong: Sequence[UnitResult], out: Path, *, has_tests: bool
) -> list[Failure]:
    reproducible = set(culprit_units(result)) if has_tests else set()
    return [
        Failure(
            unit=unit,
            picture=None if unit.error_map is None else lay_out_errors(unit.error_map),
            command=reproduce_command(unit.name, out) if unit.name in reproducible else "",
            kernel=read_failing_kernel(out, unit.name, most_bytes=_KERNEL_BYTES),
        )
        for unit in wrong[:_EXPLAINED_AT_MOST]
    ]


def _unit_rows(units: Sequence[UnitResult], culprits: set[str], scale: LogScale) -> list[UnitRow]:
    rows = []
    for number, unit in enumerate(units):
        error, tolerance = unit.error, unit.tolerance
        is_finite = error is not None and math.isfinite(error)
        is_passed = unit.verdict is Verdict.PASS
        rows.append(
            UnitRow(
                unit=unit,
                number=number,
                is_culprit=unit.name in culprits,
                has_details=_has_details(unit),
                is_short=number >= _DETAILED_AT_MOST and is_passed,
                error_bar=scale.position(error) if error is not None and is_finite else None,
                tolerance_mark=None if tolerance is None else scale.position(tolerance),
                is_off_scale=error is not None and not is_finite,
            )
        )
    # What needs attention first; otherwise in the order of the model.
    return sorted(rows, key=lambda row: (not row.is_culprit, row.unit.verdict is Verdict.PASS))


def _has_details(unit: UnitResult) -> bool:
    known = (unit.tolerance_origin, unit.constant_inputs, unit.inexact, unit.metrics, unit.power)
    return any(known)


def _has_charts(result: RunResult, path: BoundaryPath) -> bool:
    """Whether the pictures of steps have something to show, and not too much."""
    sizes = (len(result.steps), len(path.rows))
    return max(sizes) <= _CHARTED_AT_MOST and len(result.steps) > 1


def _steps(result: RunResult) -> list[tuple[int, StepResult]]:
    """Return the steps of the table with their numbers: all, or those that failed and the first."""
    steps = list(enumerate(result.steps, 1))
    if len(steps) <= _STEPS_AT_MOST:
        return steps
    failed = [pair for pair in steps if pair[1].verdict is not Verdict.PASS][:_STEPS_AT_MOST]
    numbers = {number for number, _ in failed}
    others = [pair for pair in steps if pair[0] not in numbers]
    return sorted([*failed, *others[: _STEPS_AT_MOST - len(failed)]], key=lambda pair: pair[0])


def _tolerance_text(tolerance: float | None) -> str:
    return "equal" if tolerance in _EQUAL else quantities.number_text(tolerance)


def _places_text(origins: Mapping[str, Sequence[str]]) -> str:
    return unit_text([Origin.parse(text) for text in texts] for texts in origins.values())
