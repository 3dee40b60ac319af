"""The tolerance of indices that may choose another one of equal values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.compare.tolerances._chosen_distance import chosen, chosen_distance
from relax_tapml.compare.tolerances.stored import (
    ReadTensor,
    Shape,
    StoredTolerance,
    Tensors,
    TensorWriter,
)
from relax_tapml.compare.tolerances.tolerance import StorableTolerance


@dataclass(frozen=True, kw_only=True, eq=False)
class IndexTolerance(StorableTolerance):
    """Indices may differ if the values they choose do not, as ties of argsort and top-k.

    Parameters
    ----------
    values
        The tensor that the indices point into. Its shape is the oracle's except for the length of
        ``axis``; or it has that axis and the oracle does not, as for argmax.
    axis
        The axis of ``values`` along which the indices count; negative from the end.
    origin
        One sentence for reports: why several answers are right.
    slack
        How far each of ``values`` may be off, of their shape; None if they are exact.
    """

    values: Array
    axis: int
    origin: str
    slack: Array | None = None
    differs: ClassVar[str] = "chooses values that differ"
    differs_infinitely: ClassVar[str] = (
        "chooses an index that is out of range or chosen twice, or a NaN or infinity in place of "
        "another value"
    )
    kind: ClassVar[str] = "index"
    stored: ClassVar[tuple[str, ...]] = ("input", "axis")
    is_exact: ClassVar[bool] = True

    def distance(self, oracle: Array, actual: Array) -> Array:
        """Return ``|values[actual] - values[oracle]|`` along the axis, 0 where indices are equal.

        Infinite where an index is out of range, where one occurs twice along the axis although it
        does not in the oracle, and where one of the two values is NaN and the other is not, or
        they are not equal and one is infinite.

        Raises
        ------
        ValueError
            The oracle's shape does not fit that of ``values``.
        """
        distance = chosen_distance(self.values, self.axis, oracle, actual)
        if self.slack is None:
            return distance
        # Wrong indices have an infinite distance, which slack does not change.
        slack = sum(chosen(self.slack, self.axis, indices) for indices in (oracle, actual))
        return np.maximum(distance - slack, 0.0)

    def allowed(self, oracle: Array) -> Array:
        return np.zeros(oracle.shape)

    def ties(self, oracle: Array, nearest: Array, actual: Array, mismatches: int) -> int:
        return int(np.count_nonzero(oracle != actual)) - mismatches

    def store(self, write: TensorWriter, inputs: Sequence[Array]) -> StoredTolerance:
        return StoredTolerance(
            kind=self.kind,
            origin=self.origin,
            input=_position(self.values, inputs),
            axis=self.axis,
        )

    @classmethod
    def read(cls, stored: StoredTolerance, tensor: ReadTensor, inputs: Sequence[str]) -> Self:
        position, axis = stored.position
        return cls(values=tensor(inputs[position]), axis=axis, origin=stored.origin)

    @classmethod
    def check_stored(
        cls, stored: StoredTolerance, shape: Shape, *, inputs: Sequence[Shape], tensors: Tensors
    ) -> None:
        position, axis = stored.position
        if not 0 <= position < len(inputs):
            raise ValueError(f"there is no input {position} among {len(inputs)}")
        values = inputs[position]
        if not _fits(values, axis, shape):
            raise ValueError(
                f"indices of shape {list(shape)} do not choose along axis {axis} of {list(values)}"
            )


def _fits(values: tuple[int, ...], axis: int, indices: tuple[int, ...]) -> bool:
    if not -len(values) <= axis < len(values):
        return False
    axis %= len(values)
    others = values[:axis] + values[axis + 1 :]
    kept = indices[:axis] + indices[axis + 1 :] if len(indices) == len(values) else indices
    return others == kept


def _position(values: Array, inputs: Sequence[Array]) -> int:
    for position, array in enumerate(inputs):
        if array is values:
            return position
    for position, array in enumerate(inputs):
        if (array.dtype, array.shape) != (values.dtype, values.shape):
            continue
        if array.tobytes() == values.tobytes():
            return position
    raise ValueError("the values that the indices choose from are not an input of the case")
