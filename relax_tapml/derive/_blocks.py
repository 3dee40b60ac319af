"""Which calls are evaluated block by block, so that memory is bounded, and along which axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from tvm import tirx

from relax_tapml.arrays import Array
from relax_tapml.derive._call import EVERYWHERE, Call, Recorded
from relax_tapml.derive._result_bounds import ResultBounds
from relax_tapml.kernel_flow.expressions import nodes
from relax_tapml.kernel_flow.free_axes import FreeAxis, TensorDim, free_axes
from relax_tapml.kernel_flow.interval import bounds
from relax_tapml.kernel_flow.kernel_call import KernelCall
from relax_tapml.kernel_flow.plain_kernel import plain_kernel
from relax_tapml.kernel_flow.restricted_kernel import restricted_kernel

BLOCK_BYTES = 1 << 28
"""What an evaluation may hold of the tensors of a kernel, in float64 and with errors."""

# For each element: value and error, and as much while bounds are made of them.
_BYTES, _INPUT_BYTES = 32, 8


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """A kernel restricted to a block of a free axis, and the blocks.

    Parameters
    ----------
    function
        Takes the parameters of the kernel, then the values of the axis.
    axis
        The axis.
    extent, length
        How many values the axis has, and a block.
    """

    function: tirx.PrimFunc
    axis: FreeAxis
    extent: int
    length: int

    @property
    def count(self) -> int:
        """Return the number of blocks."""
        return math.ceil(self.extent / self.length)

    def each(self) -> Iterator[slice]:
        """Yield the values of each block."""
        for start in range(0, self.extent, self.length):
            yield slice(start, min(start + self.length, self.extent))

    def of(self, call: Call, block: slice) -> Call:
        """Return the call of the restricted kernel for one block, whose arrays are views."""
        arguments = {n: _part(a, n, self.axis.inputs, block) for n, a in call.arguments.items()}
        arguments[len(self.function.params) - 1] = np.arange(
            block.start, block.stop, dtype=np.int64
        )
        return Call(
            numbers=call.numbers,
            arguments=arguments,
            scalars=call.scalars,
            like=self.views(call.numbers, call.like, block),
            recorded=self._places(call, block),
        )

    def views(self, numbers: Sequence[int], results: Sequence[Array], block: slice) -> list[Array]:
        """Return the parts of results, views, that one block has."""
        return [
            _part(array, number, self.axis.results, block)
            for number, array in zip(numbers, results, strict=True)
        ]

    def joined(
        self, number: int, parts: Sequence[ResultBounds | None], shape: Sequence[int]
    ) -> ResultBounds | None:
        """Return the bounds of a result from those of its blocks; None if it needs none.

        Parameters
        ----------
        number
            Of the parameter.
        parts
            One for each block.
        shape
            Of the whole result.
        """
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None

        def whole(arrays: Iterable[Array]) -> Array:
            joined = np.empty(shape, known[0].bound.dtype)
            for block, array in zip(self.each(), arrays, strict=True):
                _part(joined, number, self.axis.results, block)[...] = array
            return joined

        coarse = None
        if any(part.low_precision is not None for part in known):
            coarse = whole(
                part.bound if part.low_precision is None else part.low_precision for part in known
            )
        return ResultBounds.joined(known, whole(part.bound for part in known), coarse)

    def _places(self, call: Call, block: slice) -> tuple[Recorded, ...]:
        divided = {(at.param, at.dim) for at in self.axis.results}

        def inside(along: Array) -> Array:
            is_inside: Array = (along >= block.start) & (along < block.stop)
            return np.asarray(along[is_inside] - block.start)

        return tuple(
            EVERYWHERE
            if places is EVERYWHERE
            else tuple(
                inside(along) if (number, dim) in divided else along
                for dim, along in enumerate(places)
            )
            for number, places in zip(call.numbers, call.recorded, strict=True)
        )


def _part(array: Array, number: int, dims: Sequence[TensorDim], block: slice) -> Array:
    at = [slice(None)] * array.ndim
    for place in dims:
        if place.param == number:
            at[place.dim] = block
    return array[tuple(at)]


class Blocking:
    """Chooses the blocks of calls of one PrimFunc.

    Parameters
    ----------
    function
        As Relax lowers operators.
    results
        Numbers of its parameters that hold results.
    """

    def __init__(self, function: tirx.PrimFunc, results: Sequence[int]) -> None:
        self._function = function
        self._results = set(results)

    def of(
        self, shapes: Mapping[int, tuple[int, ...]], scalars: Mapping[int, float]
    ) -> Blocks | None:
        """Return the blocks of a call; None if it is small, or has no axis to divide.

        Parameters
        ----------
        shapes, scalars
            Of parameters, by number.
        """
        if sum(map(math.prod, shapes.values())) * _BYTES <= BLOCK_BYTES // 2:
            return None
        dims = KernelCall(kernel=self._function, scalars=dict(scalars)).fixed(shapes)
        params = list(self._plain.params)
        sizes = {
            params[n]: math.prod(shape) * (_BYTES if n in self._results else _INPUT_BYTES)
            for n, shape in shapes.items()
        }
        for allocated in nodes(self._plain.body, tirx.AllocBuffer):
            extents = [bounds(extent, dims) for extent in allocated.buffer.shape]
            sizes[allocated.buffer] = math.prod(e.high if e else 1 for e in extents) * _BYTES
        whole = sum(sizes.values())
        if whole <= BLOCK_BYTES:
            return None
        best: tuple[tuple[bool, int], FreeAxis, int] | None = None
        for axis in self._axes:
            extent = bounds(axis.extent, dims)
            if extent is None or extent.high < 2:
                continue
            divided = {*axis.buffers, *(params[at.param] for at in axis.inputs)}
            share = sum(sizes[buffer] for buffer in divided if buffer in sizes)
            # Where the value itself counts, products are not found again.
            rank = (not axis.is_counted, share)
            if best is None or rank > best[0]:
                best = rank, axis, extent.high
        if best is None:
            return None
        (_, share), axis, extent_ = best
        room = max(BLOCK_BYTES - (whole - share), BLOCK_BYTES // 8)
        length = max(1, int(extent_ * min(1.0, room / share)))
        if length >= extent_:
            return None
        return Blocks(
            function=restricted_kernel(self._plain, [axis]),
            axis=axis,
            extent=extent_,
            length=length,
        )

    @cached_property
    def _plain(self) -> Any:
        return plain_kernel(self._function)

    @cached_property
    def _axes(self) -> list[FreeAxis]:
        """The free axes that every result has, so that blocks together are the whole."""
        return [
            axis
            for axis in free_axes(self._plain)
            if {at.param for at in axis.results} == self._results
        ]
