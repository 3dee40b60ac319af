"""The base classes of tolerances."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

from relax_tapml.arrays import Array
from relax_tapml.compare.tolerances.difference import absolute_difference
from relax_tapml.compare.tolerances.stored import (
    ReadTensor,
    Shape,
    StoredTolerance,
    Tensors,
    TensorWriter,
)


class Tolerance(ABC):
    """The condition for each value of an output: ``distance <= allowed``.

    Attributes
    ----------
    origin
        One sentence for people: where the numbers come from.
    is_elementwise
        Whether a value's distance and allowance depend on that value alone, so that an array may
        be judged part by part, and floats as float64; see ``part``.
    is_exact
        Whether it allows no other value, so that it detects every error.
    differs, differs_infinitely
        The words that begin the description of a mismatch.
    """

    origin: str
    is_elementwise: ClassVar[bool] = False
    is_exact: ClassVar[bool] = False
    differs: ClassVar[str] = "differs"
    differs_infinitely: ClassVar[str] = "differs without bound"

    def distance(self, oracle: Array, actual: Array) -> Array:
        """Return how far each value is from the oracle's: float64, same shape.

        NaN where either is not finite. Such a value must be the same in the oracle.
        """
        return absolute_difference(oracle, actual)

    @abstractmethod
    def allowed(self, oracle: Array) -> Array:
        """Return how far each value may be: float64, same shape; NaN where none is judged."""

    def check(self, oracle: Array) -> None:  # noqa: B027 - most tolerances are for any shape
        """Raise ``ValueError`` if this is not a tolerance for the shape of an oracle."""

    def part(self, where: slice) -> Tolerance:
        """Return the tolerance of a slice of the flattened oracle, if ``is_elementwise``."""
        return self

    def nearest(self, oracle: Array, actual: Array) -> Array:
        """Return the oracle that a result is judged by, where there are several."""
        return oracle

    @property
    def of_nearest(self) -> Tolerance:
        """The tolerance of the result's distance from ``nearest``."""
        return self

    def ties(self, oracle: Array, nearest: Array, actual: Array, mismatches: int) -> int:
        """Return how many values are another choice than the oracle's, and as good.

        Parameters
        ----------
        oracle, nearest, actual
            The recorded oracle, the one that ``nearest`` returned, and the result.
        mismatches
            How many values are wrong.
        """
        return 0


class StorableTolerance(Tolerance):
    """A kind of tolerance that suites store; each subclass is one file."""

    kind: ClassVar[str]
    """Its name in ``manifest.json``."""

    stored: ClassVar[tuple[str, ...]]
    """The fields of a ``StoredTolerance`` that it has, in their order, and names of its numbers."""

    @abstractmethod
    def store(self, write: TensorWriter, inputs: Sequence[Array]) -> StoredTolerance:
        """Return what a suite stores.

        Parameters
        ----------
        write
            Writes the tensors of the tolerance.
        inputs
            The tensor inputs of the case, in order.

        Raises
        ------
        ValueError
            It does not fit these inputs.
        """

    @classmethod
    @abstractmethod
    def read(cls, stored: StoredTolerance, tensor: ReadTensor, inputs: Sequence[str]) -> Self:
        """Return the tolerance that was stored.

        Parameters
        ----------
        stored
            Of this kind.
        tensor
            Reads a tensor of the suite by its digest.
        inputs
            The digests of the case's tensor inputs, in order.

        Raises
        ------
        ValueError
            A tensor is not valid for this kind.
        """

    @classmethod
    def check_stored(
        cls, stored: StoredTolerance, shape: Shape, *, inputs: Sequence[Shape], tensors: Tensors
    ) -> None:
        """Raise ``ValueError`` unless what is stored fits an output of a case.

        By default its tensors must be bounds: of a float dtype and of the output's shape.

        Parameters
        ----------
        stored
            Of this kind.
        shape
            Of the output.
        inputs
            The shapes of the case's tensor inputs.
        tensors
            Dtype and shape of each of ``stored.digests``.
        """
        for dtype, extents in tensors:
            if extents != shape or not dtype.startswith(("float", "bfloat")):
                raise ValueError(
                    f"expected a float bound of shape {list(shape)}, got {dtype} {list(extents)}"
                )
