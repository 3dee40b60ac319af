"""The fields of a tolerance in ``manifest.json``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relax_tapml.arrays import Array

Shape = tuple[int, ...]
Tensors = Sequence[tuple[str, Shape]]
"""Dtype and shape of each of ``StoredTolerance.digests``."""


@dataclass(frozen=True, kw_only=True)
class TensorWriter:
    """Writes tensors of a suite; each function returns the digest of what it wrote.

    Parameters
    ----------
    oracle
        Writes an array as it is.
    bound
        Writes bounds, which may become a little larger.
    """

    oracle: Callable[[Array], str]
    bound: Callable[[Array], str]


ReadTensor = Callable[[str], Array]
"""Reads a tensor of a suite by its digest."""


@dataclass(frozen=True, kw_only=True)
class StoredTolerance:
    """The tolerance of an output in the form that a suite stores.

    The class of a kind in ``compare.tolerances`` lists the fields that it has; others are None.

    Parameters
    ----------
    kind
        ``rule``: ``atol + rtol * |expected|``; ``equal``: not at all; ``elements``: a bound for
        each value; ``index``: indices whose values, chosen along an axis of an input, are equal;
        ``choices``: a bound for each value, from the nearest of several oracles; or another one of
        ``KINDS``.
    origin
        One sentence for people: where the numbers come from.
    atol, rtol
        Of a rule.
    bound
        Of elements and choices, the digest of a float tensor of the output's shape.
    alternatives
        Of choices, the digest of the other oracles, along the first axis.
    input, axis
        Of indices, the position among the case's inputs and the axis.
    coarse
        Of elements, the bounds for devices with low-precision functions; None if they are the same.
    numbers
        The numbers of further kinds, by name.

    Raises
    ------
    ValueError
        A number is negative or not finite.
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
    numbers: dict[str, float] | None = None

    def __post_init__(self) -> None:
        for number in self.values.values():
            if not (math.isfinite(number) and number >= 0):
                raise ValueError(f"a tolerance is {number}, expected a finite number of at least 0")

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the fields and numbers that it has, without ``coarse``."""
        names = ("atol", "rtol", "bound", "alternatives", "input", "axis")
        return (*(name for name in names if getattr(self, name) is not None), *(self.numbers or ()))

    @property
    def values(self) -> dict[str, float]:
        """Its numbers by name."""
        found = {"atol": self.atol, "rtol": self.rtol, **(self.numbers or {})}
        return {name: number for name, number in found.items() if number is not None}

    @property
    def tensors(self) -> dict[str, str]:
        """The digests of its tensors by name: bounds, then other oracles."""
        found = {"bound": self.bound, "coarse": self.coarse, "alternatives": self.alternatives}
        return {name: digest for name, digest in found.items() if digest is not None}

    @property
    def digests(self) -> tuple[str, ...]:
        """The digests of its tensors, in order."""
        return tuple(self.tensors.values())

    @property
    def position(self) -> tuple[int, int]:
        """Input and axis of indices."""
        if self.input is None or self.axis is None:
            raise ValueError(f"a tolerance of kind {self.kind!r} has no input and axis")
        return self.input, self.axis
