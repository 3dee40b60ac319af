"""Which rows of a large table the calls of a unit read, so that a suite need not hold the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from relax_tapml import tensor_file
from relax_tapml.arrays import Array
from relax_tapml.carve.unit.call_tensors import CallTensors
from relax_tapml.carve.unit.carved_unit import CarvedCase
from relax_tapml.carve.unit.unit_tolerances import UnitTolerances
from relax_tapml.compare.tolerances.choices import ChoiceTolerance
from relax_tapml.suite.suite_files import HeldPart

LEAST_BYTES = 1 << 20
_LARGEST_SHARE = 0.25


def read_rows(
    unit: UnitTolerances, cases: Sequence[CarvedCase], parts: Mapping[int, HeldPart]
) -> dict[str, Array]:
    """Find the weights that every case takes at one place and reads few rows of.

    Parameters
    ----------
    unit
        Evaluates the unit.
    cases
        Of the unit.
    parts
        By the ``id`` of an array, what is held of it; such weights are left out.

    Returns
    -------
    dict
        Name of the weight to the numbers of the rows, ascending: int64.
    """
    found: dict[str, Array] = {}
    if any(isinstance(item, ChoiceTolerance) for case in cases for item in case.tolerances):
        return found  # Another choice may read other rows.
    for place, name in enumerate(cases[0].weights if cases else ()):
        takers = [case for case in cases if name in case.weights]
        if name is None or any(
            id(case.inputs[place]) in parts or place in case.copies.inputs for case in takers
        ):
            continue
        calls = [case.tensors for case in takers]
        if not all(_is_only_place(name, place, call) for call in calls):
            continue
        rows = _rows_of(unit, calls, place)
        if rows is not None:
            found[name] = rows
    return found


def tables(unit: UnitTolerances, calls: Sequence[CallTensors]) -> frozenset[str]:
    """Return the names of the weights of which recorded calls read few rows, see ``read_rows``.

    Of these rows are held, not columns, of which each is as long as the table.
    """
    found = []
    for place, name in enumerate(calls[0].weights if calls else ()):
        takers = [call for call in calls if name in call.weights]
        if name is None or not all(_is_only_place(name, place, call) for call in takers):
            continue
        if _rows_of(unit, takers, place) is not None:
            found.append(name)
    return frozenset(found)


def _is_only_place(name: str, place: int, call: CallTensors) -> bool:
    return [n for n, weight in enumerate(call.weights) if weight == name] == [place]


def _rows_of(unit: UnitTolerances, calls: Sequence[CallTensors], place: int) -> Array | None:
    """Return the rows of one input that matter to all calls, where they are few.

    Rows are guessed: they are the whole numbers among the other inputs, as for an embedding. Then
    the unit is evaluated with all other rows replaced, and must return the same bits.

    Parameters
    ----------
    unit
        Evaluates the unit.
    calls
        The input in question is the same in all, and has no copies.
    place
        Its position among the inputs.

    Returns
    -------
    Array or None
        Ascending row numbers, int64. None if the input is small, if most rows are read, or if
        other rows matter.
    """
    table = calls[0].inputs[place]
    if table.nbytes < LEAST_BYTES or table.ndim < 2 or not tensor_file.can_hold_part(table):
        return None
    count = table.shape[0]
    numbers = [
        array.reshape(-1).astype(np.int64)
        for call in calls
        for array in call.inputs
        if array.dtype.kind in "iu" and array.size <= count
    ]
    if not numbers:
        return None
    rows = np.unique(np.concatenate(numbers))
    rows = np.unique(np.where(rows < 0, rows + count, rows))
    rows = np.asarray(rows[(rows >= 0) & (rows < count)])
    if not 0 < rows.size <= _LARGEST_SHARE * count:
        return None
    filled = tensor_file.filled(table[rows], rows, count)
    for call in calls:
        held = unit.with_copies(call.copies)
        changed = [filled if n == place else array for n, array in enumerate(call.inputs)]
        whole = held.evaluated(call.function, call.inputs, call.outputs)
        partial = held.evaluated(call.function, changed, call.outputs)
        if whole is None or partial is None:
            return None
        pairs = zip(whole[0], partial[0], strict=True)
        if any(one.tobytes() != other.tobytes() for one, other in pairs):
            return None
    return rows
