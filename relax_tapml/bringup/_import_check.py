"""Whether the source of a model computes what the framework does that the model comes from.

An output is first compared with the framework's own. Where they differ by more than the dtype
allows, the framework is run once more in a wider dtype, and decides: see
``compare.framework_tolerance``. So the second run is made for few models only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from relax_tapml.arrays import Array
from relax_tapml.compare.choice_comparison import compare_with_choices
from relax_tapml.compare.comparison import Comparison, compare, compare_all, worst
from relax_tapml.compare.framework_tolerance import (
    FrameworkTolerance,
    framework_tolerance,
    is_blunt,
    plain_tolerance,
    share_of,
)
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import SourceError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.frontend.model import Model, Sample
from relax_tapml.passes.bounded_outputs import bounded_outputs
from relax_tapml.printable import error_line, message_line, names_text
from relax_tapml.results.error_map_result import ErrorMapResult
from relax_tapml.results.import_result import (
    ImportDistance,
    ImportFinding,
    ImportPower,
    ImportResult,
)

_NAMED_AT_MOST = 5


@dataclass(frozen=True, kw_only=True)
class ImportCheck:
    """How the source compares with the framework.

    Parameters
    ----------
    verdict
        ``MISMATCH`` if an output differs by more than it may; ``INCONCLUSIVE`` if none does, and no
        output could be judged by a tolerance that sees 1.1 times the output; otherwise ``PASS``.
    decisive
        The comparison of the output that decided, with its tolerance.
    apart
        How far that output is from the framework's own; NaN or infinite if its most severe
        mismatch is.
    precision
        The dtype of the framework's run that decided, where it was a more accurate one.
    share
        What was allowed there, of the output: one root mean square over the other.
    blunt
        ``sample 'NAME', output N`` of those whose tolerance could not see 1.1 times the output.
    note
        Why there is no more accurate run although it was asked for; empty if there is, or it was
        not.
    sample
        The position of the sample that decided.
    """

    verdict: Verdict
    decisive: Comparison
    apart: float
    precision: str | None
    share: float | None
    blunt: tuple[str, ...]
    note: str
    sample: int = 0

    @property
    def agreement(self) -> str:
        """What the check found, in a word or two that follow the source's name."""
        if self.verdict is Verdict.PASS:
            return "agrees with the framework"
        if self.verdict is Verdict.INCONCLUSIVE:
            return "cannot be judged by the framework"
        return "DISAGREES with the framework"

    @property
    def reason(self) -> str:
        """Why it is no pass, with tolerance and origin."""
        parts = [f"tolerance {self.decisive.allowed:.3g}: {self.decisive.tolerance.origin}"]
        if self.note:
            parts.append(self.note)
        if self.verdict is Verdict.INCONCLUSIVE:
            named = names_text(self.blunt, _NAMED_AT_MOST) or "no value is judged"
            parts = [
                f"what the output may be off by would also accept 1.1 times the output ({named})",
                *parts,
            ]
        else:
            parts = [self.decisive.reason, *parts]
        return "; ".join(parts)


@dataclass(frozen=True, kw_only=True)
class _Output:
    """One output of one sample, judged."""

    sample: int
    place: str
    plain: Comparison
    decisive: Comparison
    precision: str | None
    share: float | None
    is_blunt: bool


def check_import(
    model: Model,
    outputs: Sequence[Sequence[Array]],
    turned: Sequence[Sequence[Sequence[Array]]] = (),
) -> ImportCheck | None:
    """Compare the source's outputs with the framework's.

    Parameters
    ----------
    model
        With its ``reference``, and ``accurate`` if it has one.
    outputs
        Of the source, sample by sample, flattened.
    turned
        The same with other choices among equal scores, for each sample run by run.

    Returns
    -------
    ImportCheck or None
        None where there is no framework's output.

    Raises
    ------
    SourceError
        The framework's own run raised.
    """
    if model.reference is None:
        return None
    wide = _WideRuns(model)
    bounded = [] if model.drive is not None else bounded_outputs(model.module, model.entry)
    judged = [
        output
        for number, mine in enumerate(outputs)
        for output in _judged(model, number, mine, bounded, wide, turned[number] if turned else ())
    ]
    if not judged:
        raise SourceError(f"import of {model.name}: the model has no output to compare")
    decisive = worst(output.decisive for output in judged)
    chosen = next(output for output in judged if output.decisive is decisive)
    if decisive.verdict is Verdict.MISMATCH:
        verdict = Verdict.MISMATCH
    elif any(output.decisive.total and not output.is_blunt for output in judged):
        verdict = Verdict.PASS
    else:
        has_values = any(output.decisive.total + output.decisive.unjudged for output in judged)
        verdict = Verdict.INCONCLUSIVE if has_values else Verdict.PASS
    return ImportCheck(
        verdict=verdict,
        decisive=decisive,
        apart=_apart(chosen.plain),
        precision=chosen.precision,
        share=chosen.share,
        blunt=tuple(output.place for output in judged if output.is_blunt),
        note=wide.note,
        sample=chosen.sample,
    )


def _judged(
    model: Model,
    number: int,
    mine: Sequence[Array],
    bounded: Sequence[bool],
    wide: _WideRuns,
    turned: Sequence[Sequence[Array]],
) -> Iterator[_Output]:
    sample = model.samples[number]
    theirs = _framework_run(model, sample)
    if len(theirs) != len(mine):
        for comparison in compare_all(theirs, mine):
            yield _Output(
                sample=number,
                place=_place(sample, 0),
                plain=comparison,
                decisive=comparison,
                precision=None,
                share=None,
                is_blunt=False,
            )
        return
    for position, (oracle, actual) in enumerate(zip(theirs, mine, strict=True)):
        tolerance: Tolerance = plain_tolerance(oracle)
        plain = decisive = compare(oracle, actual, tolerance)
        precision = None
        if plain.verdict is Verdict.MISMATCH and plain.total:
            is_bounded = len(bounded) == len(mine) and bounded[position]
            tolerance = plain_tolerance(oracle, is_bounded=is_bounded)
            found = wide.of(number)
            if found is not None and position < len(found):
                wider = framework_tolerance(oracle, found[position], tolerance)
                if wider is not None:
                    tolerance, precision = wider, wide.precision
            decisive = compare(oracle, actual, tolerance)
            if decisive.verdict is Verdict.PASS and isinstance(tolerance, FrameworkTolerance):
                excess = tolerance.overall_excess(oracle, actual)
                if excess:
                    decisive = replace(decisive, verdict=Verdict.MISMATCH, reason=excess)
        if decisive.verdict is Verdict.MISMATCH and turned:
            decisive = compare_with_choices(theirs, mine, turned)[position]
        yield _Output(
            sample=number,
            place=_place(sample, position),
            plain=plain,
            decisive=decisive,
            precision=precision,
            share=share_of(oracle, tolerance) if oracle.size else None,
            is_blunt=bool(oracle.size) and is_blunt(oracle, tolerance),
        )


class _WideRuns:
    """More accurate runs of the framework, made when they are asked for.

    Attributes
    ----------
    precision
        The widest float dtype of what they returned.
    note
        Why there are none; empty before they are asked for, and if there are.
    """

    def __init__(self, model: Model) -> None:
        self.note = ""
        self.precision = "integers"
        self._model = model
        self._runs: dict[int, list[Array] | None] = {}

    def of(self, number: int) -> list[Array] | None:
        """Return the outputs of a sample; None if there are none."""
        if number not in self._runs:
            # Of one sample at a time: they are large, and asked for in order.
            self._runs = {number: self._run(self._model.samples[number])}
        return self._runs[number]

    def _run(self, sample: Sample) -> list[Array] | None:
        accurate: Callable[[Sample], list[Array]] | None = self._model.accurate
        if accurate is None:
            self.note = "there is no more accurate run of the framework to judge by"
        if accurate is None or self.note:
            return None
        try:
            found = accurate(sample)
        except Exception as error:  # Whatever a framework raises about dtypes it does not support.
            self.note = f"a more accurate run of the framework failed: {message_line(error)}"
            return None
        floats = [array.dtype for array in found if array.dtype.kind == "f"]
        if floats:
            self.precision = str(max(floats, key=lambda dtype: dtype.itemsize))
        return found


def _framework_run(model: Model, sample: Sample) -> list[Array]:
    assert model.reference is not None
    try:
        return model.reference(sample)
    except Exception as error:
        raise_machine_error(error, f"running {model.name} in its framework")
        raise SourceError(
            f"import of {model.name}: the framework's own run of sample {sample.name!r} failed: "
            f"{error_line(error)}. Give inputs that it takes, or go on without the "
            "comparison: --no-import-check"
        ) from error


def _place(sample: Sample, position: int) -> str:
    return f"sample {sample.name!r}, output {position}"


def import_distance(check: ImportCheck | None) -> ImportDistance | None:
    """Return ``import_check`` of ``result.json``; None where there is no framework's output."""
    if check is None:
        return None
    return ImportDistance(
        max_abs=check.apart,
        tolerance=_allowed(check),
        tolerance_origin=check.decisive.tolerance.origin,
        verdict=check.verdict,
        ties=check.decisive.ties,
        unjudged=check.decisive.unjudged,
    )


def import_result(
    check: ImportCheck | None, warning: str, finding: ImportFinding | None = None
) -> ImportResult | None:
    """Return ``import`` of ``result.json``.

    Parameters
    ----------
    check
        None where there is no framework's output, or it was not asked for.
    warning
        Why the run went on although the import is not known to be right; empty if it is.
    finding
        What makes the source differ.

    Returns
    -------
    ImportResult or None
        None where nothing was compared and there is no warning.
    """
    if check is None:
        return ImportResult(warning=warning) if warning else None
    return ImportResult(
        verdict=check.verdict,
        warning=warning,
        judged_by=f"{check.precision} run" if check.precision else "the framework's output",
        error=check.decisive.error,
        tolerance=_allowed(check),
        tolerance_origin=check.decisive.tolerance.origin,
        power=ImportPower(tolerance_of_rms=check.share, blunt=check.blunt),
        note=check.note,
        finding=finding,
        error_map=ErrorMapResult.of(check.decisive.error_map),
    )


def _apart(plain: Comparison) -> float:
    """Return the largest error; NaN or infinity where a value is not finite on one side only."""
    return plain.max_abs if math.isfinite(plain.error) else plain.error


def _allowed(check: ImportCheck) -> float | None:
    allowed = check.decisive.allowed
    return None if math.isnan(allowed) else allowed
