"""``report.html``: one page about one run, with everything it needs inside."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from relax_tapml.compare.verdict import Verdict
from relax_tapml.files.replace import write_file
from relax_tapml.report import quantities
from relax_tapml.report.boundary_path import lay_out_path
from relax_tapml.report.dims import dim_rows
from relax_tapml.report.findings import (
    explain,
    headline,
    moved_text,
    notes,
    open_end,
    pipeline_text,
    precision_text,
    verdict_text,
)
from relax_tapml.report.log_scale import LogScale
from relax_tapml.report.power import power_rows, power_sentences
from relax_tapml.report.step_timings import lay_out_timings
from relax_tapml.results.read_result import check_schema

_EXPLAINED_AT_MOST = 5
_TEMPLATE = Path(__file__).with_name("report.html.j2")


@dataclass(frozen=True, kw_only=True)
class UnitRow:
    """One row of the table of units; bars are fractions of the common log scale.

    ``error_bar`` is None where there is no error or it has no place on a scale (NaN, infinite),
    which ``is_off_scale`` then says.
    """

    unit: Mapping[str, Any]
    is_culprit: bool
    error: float | None
    tolerance: float | None
    error_bar: float | None
    tolerance_mark: float | None
    is_off_scale: bool
    is_within: bool


def render(result: Mapping[str, Any], *, out: Path) -> None:
    """Write ``out/report.html`` from a result document, replacing an earlier page in one move.

    The page needs no network and no other file. Every text of the document is escaped.

    Parameters
    ----------
    result
        The document of ``result.json``. Non-finite numbers may be floats or strings.
    out
        The output folder of the run; it must exist.

    Raises
    ------
    StoreError
        The document has another schema.
    """
    check_schema(result, where="report")
    # Everything is escaped: the document holds names and messages from models and devices.
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        number=quantities.number_text,
        seconds=quantities.seconds_text,
        size=quantities.size_text,
        value=quantities.value_text,
        verdict_text=verdict_text,
        moved_text=moved_text,
        power_rows=power_rows,
    )
    units = result["units"]
    scale = _error_scale(units)
    culprits = set(result["culprits"])
    page = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        result=result,
        title=_title(result),
        headline=headline(result),
        explained=[
            *(explain(u) for u in units if u["name"] in culprits),
            # The others have the reason in their row.
            *[explain(u) for u in units if u.get("blunt")][:_EXPLAINED_AT_MOST],
            *filter(None, [pipeline_text(result)]),
            *open_end(result),
            *precision_text(units),
            *notes(result),
            *power_sentences(result),
        ],
        dims=dim_rows(result),
        rows=_unit_rows(units, culprits, scale),
        levels=[(f"1e{round(math.log10(v))}", scale.position(v)) for v in scale.decades(4)],
        verdicts=Counter(u["verdict"] for u in units).most_common(),
        path=lay_out_path(result),
        timings=lay_out_timings(result),
        slowest_stage=max(result["seconds"].values(), default=0) or 1,
    )
    write_file(out / "report.html", page)


def _title(result: Mapping[str, Any]) -> str:
    model = result.get("model", {}).get("name", "model")
    target = result.get("target")
    return f"{model} on {target}" if target else str(model)


def _error_scale(units: list[Mapping[str, Any]]) -> LogScale:
    return LogScale.spanning(
        quantities.as_number(unit.get(key)) for unit in units for key in ("error", "tolerance")
    )


def _unit_rows(
    units: list[Mapping[str, Any]], culprits: set[str], scale: LogScale
) -> list[UnitRow]:
    rows = []
    for unit in units:
        error = quantities.as_number(unit.get("error"))
        tolerance = quantities.as_number(unit.get("tolerance"))
        is_finite = error is not None and math.isfinite(error)
        rows.append(
            UnitRow(
                unit=unit,
                is_culprit=unit["name"] in culprits,
                error=error,
                tolerance=tolerance,
                error_bar=scale.position(error) if error is not None and is_finite else None,
                tolerance_mark=None if tolerance is None else scale.position(tolerance),
                is_off_scale=error is not None and not is_finite,
                is_within=unit["verdict"] == Verdict.PASS,
            )
        )
    # What needs attention first; otherwise in the order of the model.
    return sorted(rows, key=lambda row: (not row.is_culprit, row.is_within))
