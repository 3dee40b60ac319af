"""Units that run the kernels of other units, and failures that those kernels cause."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from tvm import tirx

from relax_tapml.compare.verdict import WITHOUT_RESULT, Verdict
from relax_tapml.passes.submodule import is_same
from relax_tapml.suite.open_suite import Suite

_WRONG_RESULT = frozenset({Verdict.MISMATCH, Verdict.FLAKY})
_FAILED = _WRONG_RESULT | WITHOUT_RESULT


def units_run(suite: Suite, chosen: Iterable[str] | None = None) -> dict[str, frozenset[str]]:
    """Return which other units each unit of a suite runs the kernels of; most run none.

    Attention to a KV cache does, whose kernels the runtime calls.

    Parameters
    ----------
    suite
        Of units.
    chosen
        Units to look at, which need not be in the suite; all by default.
    """
    units = suite.manifest.units
    found: dict[str, frozenset[str]] = {}
    for unit in units if chosen is None else [name for name in chosen if name in units]:
        module = suite.module(unit)
        kernels = {
            gvar.name_hint: function
            for gvar, function in module.functions.items()
            if isinstance(function, tirx.PrimFunc)
        }
        others = frozenset(
            name
            for name in (kernels.keys() & units.keys()) - {unit}
            # In a merged suite it may be the kernel of another model.
            if is_same(kernels[name], suite.module(name)[name])
        )
        if others:
            found[unit] = others
    return found


def caused_by_kernels(
    verdicts: Mapping[str, Verdict], runs: Mapping[str, Collection[str]]
) -> dict[str, str]:
    """Return the units that fail because a kernel of another unit does, each with the reason.

    A unit that runs the kernel of another one fails where that kernel is wrong, so it is judged
    only when all kernels that it runs are right. This holds however either was found to be wrong:
    alone, by a probe, or in the context of other units. A kernel with a wrong result, always or
    now and then, causes a wrong result; only one without a result (a crash, a timeout, a kernel
    that does not build) causes that there is none.

    Parameters
    ----------
    verdicts
        Of the units, by name.
    runs
        Of ``units_run``.
    """
    found: dict[str, str] = {}
    for unit in failed_units(verdicts):
        verdict, others = verdicts[unit], runs.get(unit, ())
        wrong = [name for name in verdicts if name in others and _causes(verdicts[name], verdict)]
        if wrong:
            kernels = ", ".join(f"{name} ({verdicts[name]})" for name in wrong)
            found[unit] = f"{verdict}; not judged, since it runs {kernels}"
    return found


def failed_units(verdicts: Mapping[str, Verdict]) -> list[str]:
    """Return the units that fail on the target, in order."""
    return [unit for unit, verdict in verdicts.items() if verdict in _FAILED]


def _causes(kernel: Verdict, verdict: Verdict) -> bool:
    return kernel in WITHOUT_RESULT or (kernel in _WRONG_RESULT and verdict in _WRONG_RESULT)
