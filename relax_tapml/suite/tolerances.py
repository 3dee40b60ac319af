"""Tolerances of cases: from and to the form that the manifest holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relax_tapml.arrays import Array
from relax_tapml.compare.tolerance import (
    ChoiceTolerance,
    ElementTolerance,
    EqualTolerance,
    IndexTolerance,
    RuleTolerance,
    Tolerance,
)
from relax_tapml.compare.written_tolerance import only_written
from relax_tapml.derive.error_bounds import rounded_up
from relax_tapml.errors import StoreError
from relax_tapml.suite._stored_tolerance import SuiteTolerance
from relax_tapml.suite.manifest import SuiteCase, SuiteOutput
from relax_tapml.suite.open_suite import Suite

_LOW_PRECISION = "functions of the lowest precision that any device has"


def store_tolerance(
    tolerance: Tolerance, *, write: Callable[[Array], str], inputs: Sequence[Array]
) -> SuiteTolerance:
    """Return a tolerance as the manifest holds it.

    Parameters
    ----------
    tolerance
        Of one of the kinds of ``compare.tolerance``.
    write
        Writes a tensor of the suite and returns its digest; called for the bounds.
    inputs
        The tensor inputs of the case, in order. An ``IndexTolerance`` points into one of them.

    Raises
    ------
    TypeError
        The tolerance is of another kind.
    ValueError
        The values of an ``IndexTolerance`` are no input of the case.
    """
    origin = tolerance.origin
    if isinstance(tolerance, RuleTolerance):
        return SuiteTolerance(kind="rule", origin=origin, atol=tolerance.atol, rtol=tolerance.rtol)
    if isinstance(tolerance, EqualTolerance):
        return SuiteTolerance(kind="equal", origin=origin)
    if isinstance(tolerance, ElementTolerance):
        return SuiteTolerance(
            kind="elements",
            origin=origin,
            bound=write(tolerance.bound),
            coarse=None if tolerance.coarse is None else write(tolerance.coarse),
        )
    if isinstance(tolerance, ChoiceTolerance):
        bound = tolerance.base.allowed(tolerance.alternatives[0])
        return SuiteTolerance(
            kind="choices",
            origin=origin,
            bound=write(rounded_up(bound, tolerance.alternatives.dtype)),
            alternatives=write(tolerance.alternatives),
        )
    if isinstance(tolerance, IndexTolerance):
        position = _position(tolerance.values, inputs)
        return SuiteTolerance(kind="index", origin=origin, input=position, axis=tolerance.axis)
    raise TypeError(f"a suite cannot hold a {type(tolerance).__name__}")


def read_tolerance(suite: Suite, case: SuiteCase, output: SuiteOutput) -> Tolerance:
    """Return the tolerance of an output of a case, the wider one if the suite ``is_low_precision``.

    It allows anything in values that the source never writes.

    Raises
    ------
    StoreError
        A tensor that it needs cannot be read, or is no bound.
    """
    tolerance = _of_written(suite, case, output)
    if output.unwritten is None:
        return tolerance
    return only_written(tolerance, suite.tensor(output.unwritten))


def _of_written(suite: Suite, case: SuiteCase, output: SuiteOutput) -> Tolerance:
    found = output.tolerance
    if found.kind == "rule" and found.atol is not None and found.rtol is not None:
        return RuleTolerance(atol=found.atol, rtol=found.rtol, origin=found.origin)
    if found.bound is not None:
        try:
            if suite.is_low_precision and found.coarse is not None:
                allowed = suite.low_precision_math
                reason = _LOW_PRECISION if allowed is None else allowed.reason
                bound, origin = suite.tensor(found.coarse), f"{found.origin}; {reason}"
                return ElementTolerance(bound=bound, origin=origin)
            base = ElementTolerance(bound=suite.tensor(found.bound), origin=found.origin)
            if found.alternatives is None:
                return base
            others = suite.tensor(found.alternatives)
            return ChoiceTolerance(base=base, alternatives=others, origin=found.origin)
        except ValueError as error:
            raise StoreError(
                f"{suite.folder}: case {case.name}: {error}. Carve the suite again."
            ) from error
    if found.input is not None and found.axis is not None:
        values = suite.tensor(case.inputs[found.input].tensor)
        return IndexTolerance(values=values, axis=found.axis, origin=found.origin)
    return EqualTolerance(origin=found.origin)


def _position(values: Array, inputs: Sequence[Array]) -> int:
    for position, array in enumerate(inputs):
        if array is values:
            return position
    for position, array in enumerate(inputs):
        if (array.dtype, array.shape) != (values.dtype, values.shape):
            continue
        if array.tobytes() == values.tobytes():
            return position
    raise ValueError("the values that the indices choose from are no input of the case")
