"""The axes of a call along which a suite holds some places, of which all others are copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from relax_tapml.arrays import Array
from relax_tapml.suite.copies import Copies


@dataclass(frozen=True, kw_only=True, eq=False)
class CopiedAxis:
    """One axis of a call: the same places are held in every tensor that has it.

    Parameters
    ----------
    places
        That are held, ascending: int64.
    count
        How many places the axis has.
    inputs, outputs
        Which dimension of a tensor it is, by position of the tensor.
    """

    places: Array
    count: int
    inputs: Mapping[int, int]
    outputs: Mapping[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class CopiedAxes:
    """The axes of a call along which most places are copies.

    Such a call is carved as the smaller one that has the held places only, see ``held_call``.

    Parameters
    ----------
    axes
        Each is at least one dimension of an output. By default none.
    """

    axes: tuple[CopiedAxis, ...] = ()

    @cached_property
    def inputs(self) -> Mapping[int, tuple[Copies, ...]]:
        """The axes of each input, ascending, by position; those without any are left out."""
        return self._by_tensor(lambda axis: axis.inputs)

    @cached_property
    def outputs(self) -> Mapping[int, tuple[Copies, ...]]:
        """The same of outputs."""
        return self._by_tensor(lambda axis: axis.outputs)

    def held_inputs(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Return the held places of whole inputs; those without copies are the same objects."""
        return tuple(held_places(array, self.inputs.get(n, ())) for n, array in enumerate(inputs))

    def held_outputs(self, outputs: Sequence[Array]) -> tuple[Array, ...]:
        """Return the held places of whole outputs."""
        return tuple(held_places(array, self.outputs.get(n, ())) for n, array in enumerate(outputs))

    def whole_inputs(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Return whole inputs from held places; those without copies are the same objects."""
        return tuple(_whole(array, self.inputs.get(n, ())) for n, array in enumerate(inputs))

    def whole_outputs(self, outputs: Sequence[Array]) -> tuple[Array, ...]:
        """Return whole outputs from held places."""
        return tuple(_whole(array, self.outputs.get(n, ())) for n, array in enumerate(outputs))

    @property
    def reason(self) -> str:
        """What was done, for people; empty where nothing was."""
        texts = dict.fromkeys(
            f"{len(item.places)} of {item.count} places of axis {item.axis} of result {number}"
            for number, axes in self.outputs.items()
            for item in axes
        )
        if not texts:
            return ""
        return (
            f"held are {', '.join(texts)}: at the others, inputs and results are copies of these, "
            "so a place taken for another is missed where both are copies of one"
        )

    def _by_tensor(
        self, dims_of: Callable[[CopiedAxis], Mapping[int, int]]
    ) -> dict[int, tuple[Copies, ...]]:
        found: dict[int, list[Copies]] = {}
        for axis in self.axes:
            for number, dim in dims_of(axis).items():
                made = Copies(axis=dim, places=axis.places, count=axis.count)
                found.setdefault(number, []).append(made)
        return {n: tuple(sorted(of, key=lambda item: item.axis)) for n, of in found.items()}


def held_places(array: Array, axes: Sequence[Copies]) -> Array:
    """Return the held places of a whole tensor along some axes."""
    for item in axes:
        array = item.held(array)
    return array


def _whole(array: Array, axes: Sequence[Copies]) -> Array:
    for item in axes:
        array = item.whole(array)
    return array
