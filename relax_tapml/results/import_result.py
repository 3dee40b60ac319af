"""How the source compares with the framework that the model comes from."""

from __future__ import annotations

from dataclasses import dataclass

from relax_tapml.compare.verdict import Verdict
from relax_tapml.results.error_map_result import ErrorMapResult
from relax_tapml.results.json_codec import Count, Number


@dataclass(frozen=True, kw_only=True)
class ImportDistance:
    """``import_check`` of ``result.json``: how far the source is from the framework's own output.

    Parameters
    ----------
    max_abs
        The error of the output that decided.
    tolerance, tolerance_origin
        How far that may be, and where the number comes from.
    verdict
        Of the check.
    ties, unjudged
        Values of that output that are another choice among equal ones, or not judged.
    """

    max_abs: Number | None
    tolerance: Number | None
    tolerance_origin: str | None = None
    verdict: Verdict
    ties: Count = 0
    unjudged: Count = 0


@dataclass(frozen=True, kw_only=True)
class ImportPower:
    """What the import check could see.

    Parameters
    ----------
    tolerance_of_rms
        What was allowed, of the output that decided: one root mean square over the other.
    blunt
        ``sample 'NAME', output N`` of the outputs whose tolerance could not see 1.1 times them.
    """

    tolerance_of_rms: Number | None
    blunt: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """``import`` of ``result.json``: how the import was judged.

    Parameters
    ----------
    verdict
        Of the check; ``skipped`` without one.
    warning
        Why the run went on although the import is not known to be right; empty if it is.
    judged_by
        ``the framework's output`` or ``float64 run``; None without a check.
    error, tolerance, tolerance_origin
        Of the value that decided.
    power
        What the check could see.
    note
        Why there is no more accurate run of the framework although it was needed.
    error_map
        Where the output that decided is wrong; None if it is right.
    """

    verdict: Verdict = Verdict.SKIPPED
    warning: str = ""
    judged_by: str | None = None
    error: Number | None = None
    tolerance: Number | None = None
    tolerance_origin: str | None = None
    power: ImportPower | None = None
    note: str = ""
    error_map: ErrorMapResult | None = None
