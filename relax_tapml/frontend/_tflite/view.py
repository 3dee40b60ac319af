"""A subgraph as TVM's importer reads it, with names that differ and the shapes of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from relax_tapml.arrays import Array


class SubgraphView:
    """A ``tflite.SubGraph`` whose tensors are told apart by their names.

    TVM's importer knows a tensor by its name, which a file may give twice or leave out, and its
    shape by the file, which may say nothing of the sizes of a run.

    Parameters
    ----------
    subgraph
        Of the file.
    shapes
        Of tensors by their number, in place of those of the file.
    """

    def __init__(self, subgraph: Any, shapes: Mapping[int, tuple[int, ...]]) -> None:
        self._subgraph = subgraph
        self._shapes = shapes
        tensors = [subgraph.Tensors(at) for at in range(subgraph.TensorsLength())]
        given = [(tensor.Name() or b"").decode(errors="replace") for tensor in tensors]
        shared = Counter(given)
        self._tensors = [
            _TensorView(
                tensor,
                name if name and shared[name] == 1 else f"{name}#{at}",
                shapes.get(at),
            )
            for at, (tensor, name) in enumerate(zip(tensors, given, strict=True))
        ]

    def Tensors(self, at: int) -> _TensorView:
        """Return a tensor by its number."""
        return self._tensors[at]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subgraph, name)


class _TensorView:
    """A ``tflite.Tensor``."""

    def __init__(self, tensor: Any, name: str, shape: tuple[int, ...] | None) -> None:
        self._tensor = tensor
        self._name = name
        self._shape = shape

    def Name(self) -> bytes:
        return self._name.encode()

    def ShapeAsNumpy(self) -> Array | int:
        shape = self._shape
        if shape is None:
            found: Array | int = self._tensor.ShapeAsNumpy()
            return found
        return np.array(shape, "int32")

    def ShapeLength(self) -> int:
        return int(self._tensor.ShapeLength()) if self._shape is None else len(self._shape)

    def Shape(self, at: int) -> int:
        return int(self._tensor.Shape(at)) if self._shape is None else self._shape[at]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tensor, name)
