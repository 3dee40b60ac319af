"""Tolerances of cases: from and to the form that the manifest holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from relax_tapml.arrays import Array
from relax_tapml.compare.tolerances.registry import kind_of
from relax_tapml.compare.tolerances.stored import StoredTolerance, TensorWriter
from relax_tapml.compare.tolerances.tolerance import StorableTolerance, Tolerance
from relax_tapml.compare.tolerances.written import only_written
from relax_tapml.errors import StoreError
from relax_tapml.suite.manifest import SuiteCase, SuiteOutput
from relax_tapml.suite.open_suite import Suite

_LOW_PRECISION = "functions of the lowest precision that any device has"


def store_tolerance(
    tolerance: Tolerance, *, write: TensorWriter, inputs: Sequence[Array]
) -> StoredTolerance:
    """Return a tolerance as the manifest holds it; see ``StorableTolerance.store``.

    Raises
    ------
    TypeError
        The tolerance is of a kind that suites do not store.
    ValueError
        The values of an ``IndexTolerance`` are no input of the case.
    """
    if not isinstance(tolerance, StorableTolerance):
        raise TypeError(f"a suite cannot hold a {type(tolerance).__name__}")
    return tolerance.store(write, inputs)


def read_tolerance(suite: Suite, case: SuiteCase, output: SuiteOutput) -> Tolerance:
    """Return the tolerance of an output of a case, the wider one if ``is_low_precision``.

    It allows anything in values that the source never writes.

    Raises
    ------
    StoreError
        A tensor that it needs cannot be read, or is no bound.
    """
    stored = output.tolerance
    if suite.is_low_precision and stored.coarse is not None:
        allowed = suite.low_precision_math
        origin = f"{stored.origin}; {_LOW_PRECISION if allowed is None else allowed.reason}"
        stored = replace(stored, bound=stored.coarse, coarse=None, origin=origin)
    try:
        inputs = [item.tensor for item in case.inputs]
        tolerance = kind_of(stored).read(stored, suite.tensor, inputs)
    except ValueError as error:
        raise StoreError(
            f"{suite.folder}: case {case.name}: {error}. Carve the suite again."
        ) from error
    if output.unwritten is None:
        return tolerance
    return only_written(tolerance, suite.tensor(output.unwritten))
