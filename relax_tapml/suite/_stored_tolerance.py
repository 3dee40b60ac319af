"""A tolerance as ``manifest.json`` holds it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Which numbers each kind has, in the order of the fields of SuiteTolerance.
_FIELDS: dict[str, tuple[str, ...]] = {
    "rule": ("atol", "rtol"),
    "equal": (),
    "elements": ("bound",),
    "index": ("input", "axis"),
    "choices": ("bound", "alternatives"),
}


@dataclass(frozen=True, kw_only=True)
class SuiteTolerance:
    """How far from its oracle an output may be.

    Parameters
    ----------
    kind
        ``rule``: ``atol + rtol * |expected|``; ``equal``: not at all; ``elements``: a bound for
        each value; ``index``: indices whose values, chosen along an axis of an input, are equal;
        ``choices``: a bound for each value, from the nearest of several oracles.
    origin
        One sentence: where the numbers come from.
    atol, rtol
        Of a rule; None otherwise.
    bound
        Of elements and choices, the digest of a float tensor of the output's shape; None otherwise.
    alternatives
        Of choices, the digest of the other oracles, along the first axis; None otherwise.
    coarse
        Of elements, the bound for devices with functions of low precision; None if it is ``bound``.
    input, axis
        Of indices, the position among the case's inputs and the axis; None otherwise.

    Raises
    ------
    ValueError
        The kind is not known, a number that it needs is missing, or one that it does not need is
        there.
    """

    kind: str
    origin: str
    atol: float | None = None
    rtol: float | None = None
    bound: str | None = None
    alternatives: str | None = None
    input: int | None = None
    axis: int | None = None
    coarse: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in _FIELDS:
            raise ValueError(
                f"expected a tolerance of kind {', '.join(_FIELDS)}, got {self.kind!r}"
            )
        needed = _FIELDS[self.kind]
        given = tuple(
            name
            for name in ("atol", "rtol", "bound", "alternatives", "input", "axis")
            if getattr(self, name) is not None
        )
        if given != needed:
            raise ValueError(
                f"a tolerance of kind {self.kind!r} needs {list(needed)}, got {list(given)}"
            )
        if self.coarse is not None and self.bound is None:
            raise ValueError(f"a tolerance of kind {self.kind!r} has no coarse bounds")
        for number in (self.atol, self.rtol):
            if number is not None and not (math.isfinite(number) and number >= 0):
                raise ValueError(f"a tolerance is {number}, expected a finite number of at least 0")

    @property
    def digests(self) -> tuple[str, ...]:
        """The tensors with bounds, then that with other oracles."""
        digests = (self.bound, self.coarse, self.alternatives)
        return tuple(digest for digest in digests if digest is not None)

    def check(
        self,
        shape: tuple[int, ...],
        *,
        inputs: Sequence[tuple[int, ...]],
        bounds: Sequence[tuple[str, tuple[int, ...]]],
    ) -> None:
        """Raise ``ValueError`` unless this fits an output of a case.

        Parameters
        ----------
        shape
            Of the output.
        inputs
            The shapes of the case's inputs.
        bounds
            Dtype and shape of each of ``digests``.
        """
        if self.alternatives is not None:
            *bounds, (_, extents) = bounds
            if extents[1:] != shape:
                raise ValueError(
                    f"expected other oracles of shape {list(shape)} each, got {list(extents)}"
                )
        for dtype, extents in bounds:
            if extents != shape or not dtype.startswith(("float", "bfloat")):
                raise ValueError(
                    f"expected a float bound of shape {list(shape)}, got {dtype} {list(extents)}"
                )
        if self.input is None or self.axis is None:
            return
        if not 0 <= self.input < len(inputs):
            raise ValueError(f"there is no input {self.input} among {len(inputs)}")
        values = inputs[self.input]
        if not _fits(values, self.axis, shape):
            raise ValueError(
                f"indices of shape {list(shape)} do not choose along axis {self.axis} of "
                f"{list(values)}"
            )


def _fits(values: tuple[int, ...], axis: int, indices: tuple[int, ...]) -> bool:
    if not -len(values) <= axis < len(values):
        return False
    axis %= len(values)
    others = values[:axis] + values[axis + 1 :]
    kept = indices[:axis] + indices[axis + 1 :] if len(indices) == len(values) else indices
    return others == kept
