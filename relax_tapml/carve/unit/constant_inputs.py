"""Which inputs of a unit are the same in all of its cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tvm

from relax_tapml.arrays import Array
from relax_tapml.carve.unit.carved_unit import CarvedCase

_COMPARED = 1 << 18


def constant_inputs(module: tvm.IRModule, cases: Sequence[CarvedCase]) -> tuple[str, ...]:
    """Return which inputs, weights apart, are the same in all cases: ``mask: all 0``."""
    if not cases:
        return ()
    found = []
    params = module[cases[0].function].params
    for place in range(min(len(case.inputs) for case in cases)):
        if not any(place in case.fixed for case in cases):
            text = _text([case.inputs[place] for case in cases])
            if text:
                found.append(f"{params[place].name}: {text}")
    return tuple(found)


def constant_places(cases: Sequence[CarvedCase]) -> frozenset[int]:
    """Return the places of inputs that hold one value, the same in all cases, and no weight.

    A bool that the model decides is a mask, and no number that the unit may rely on.
    """
    count = min(len(case.inputs) for case in cases)
    return frozenset(
        place
        for place in range(count)
        if holds_one_value([case.inputs[place] for case in cases])
        and (
            cases[0].inputs[place].dtype.kind == "b"
            or not any(place in case.fixed for case in cases)
        )
    )


def holds_one_value(arrays: Sequence[Array]) -> bool:
    """Return whether some arrays, of any shapes, hold one value throughout, the same in all."""
    firsts = [array.reshape(-1)[:1] for array in arrays if array.size]
    return bool(firsts) and all(
        array.dtype == firsts[0].dtype and _is_throughout(array, firsts[0]) for array in arrays
    )


def _is_throughout(array: Array, first: Array) -> bool:
    flat = array.reshape(-1)
    # In parts: the first of a large array mostly tells.
    return all(
        bool(np.all(flat[start : start + _COMPARED] == first))
        for start in range(0, flat.size, _COMPARED)
    )


def _text(arrays: Sequence[Array]) -> str:
    """Return in what way the inputs of all cases are the same; empty if they are not."""
    if all(array.size == 0 for array in arrays):
        return ""
    if holds_one_value(arrays):
        first = next(array for array in arrays if array.size)
        return f"all {first.reshape(-1)[0]}"
    one, *others = arrays
    is_same = all(
        other is one or (other.shape == one.shape and other.tobytes() == one.tobytes())
        for other in others
    )
    return "the same values" if is_same else ""
