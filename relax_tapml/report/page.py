"""``report.html``: one page about one run, with everything it needs inside."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jinja2

from relax_tapml.compare.verdict import Verdict
from relax_tapml.files.replace import write_file
from relax_tapml.report import quantities
from relax_tapml.report._boundary_path import lay_out_path
from relax_tapml.report._log_scale import LogScale
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
    verdict_text,
)
from relax_tapml.report.power import power_rows, power_sentences
from relax_tapml.results.run_result import RunResult
from relax_tapml.results.unit_result import UnitResult

_EXPLAINED_AT_MOST = 5
_TEMPLATE = Path(__file__).with_name("report.html.j2")


@dataclass(frozen=True, kw_only=True)
class UnitRow:
    """One row of the table of units; bars are fractions of the common log scale.

    ``error_bar`` is None where there is no error or it has no place on a scale: NaN and infinity,
    where ``is_off_scale`` is true.
    """

    unit: UnitResult
    is_culprit: bool
    error_bar: float | None
    tolerance_mark: float | None
    is_off_scale: bool


def render(result: RunResult, *, out: Path) -> None:
    """Write ``out/report.html``, replacing an earlier page in one move.

    The page needs no network and no other file. Every text of the result is escaped.

    Parameters
    ----------
    result
        What the run found.
    out
        The output folder of the run; it must exist.
    """
    # Everything is escaped: the result holds names and messages from models and devices.
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        count=quantities.count_text,
        metrics=quantities.metrics_text,
        number=quantities.number_text,
        seconds=quantities.seconds_text,
        size=quantities.size_text,
        verdict_text=verdict_text,
        moved_text=moved_text,
        power_rows=power_rows,
    )
    units = result.units
    scale = LogScale.spanning(value for unit in units for value in (unit.error, unit.tolerance))
    culprits = set(result.culprits)
    stages = {name: seconds for name, seconds in asdict(result.seconds).items() if seconds}
    page = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        result=result,
        title=f"{result.model.name if result.model else 'model'} on {result.target}",
        headline=headline(result),
        explained=[
            *(explain(unit) for unit in units if unit.name in culprits),
            # The others have the reason in their row.
            *[explain(unit) for unit in units if unit.blunt][:_EXPLAINED_AT_MOST],
            *filter(None, [pipeline_text(result), cache_text(result)]),
            *import_text(result),
            *open_end(result),
            *precision_text(units),
            *notes(result),
            *power_sentences(result),
        ],
        dims=dim_rows(result),
        rows=_unit_rows(units, culprits, scale),
        levels=[(f"1e{round(math.log10(v))}", scale.position(v)) for v in scale.decades(4)],
        verdicts=Counter(unit.verdict for unit in units).most_common(),
        path=lay_out_path(result),
        timings=lay_out_timings(result),
        stages=stages,
        slowest_stage=max(stages.values(), default=1),
    )
    write_file(out / "report.html", page)


def _unit_rows(units: Sequence[UnitResult], culprits: set[str], scale: LogScale) -> list[UnitRow]:
    rows = []
    for unit in units:
        error, tolerance = unit.error, unit.tolerance
        is_finite = error is not None and math.isfinite(error)
        rows.append(
            UnitRow(
                unit=unit,
                is_culprit=unit.name in culprits,
                error_bar=scale.position(error) if error is not None and is_finite else None,
                tolerance_mark=None if tolerance is None else scale.position(tolerance),
                is_off_scale=error is not None and not is_finite,
            )
        )
    # What needs attention first; otherwise in the order of the model.
    return sorted(rows, key=lambda row: (not row.is_culprit, row.unit.verdict is Verdict.PASS))
