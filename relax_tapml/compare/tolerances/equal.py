"""The tolerance of values that must be equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.compare.tolerances.stored import ReadTensor, StoredTolerance, TensorWriter
from relax_tapml.compare.tolerances.tolerance import StorableTolerance


@dataclass(frozen=True, kw_only=True)
class EqualTolerance(StorableTolerance):
    """Values must be equal; both zeros are."""

    origin: str
    is_elementwise: ClassVar[bool] = True
    kind: ClassVar[str] = "equal"
    stored: ClassVar[tuple[str, ...]] = ()
    is_exact: ClassVar[bool] = True

    def allowed(self, oracle: Array) -> Array:
        return np.zeros(oracle.shape)

    def store(self, write: TensorWriter, inputs: Sequence[Array]) -> StoredTolerance:
        return StoredTolerance(kind=self.kind, origin=self.origin)

    @classmethod
    def read(cls, stored: StoredTolerance, tensor: ReadTensor, inputs: Sequence[str]) -> Self:
        return cls(origin=stored.origin)
