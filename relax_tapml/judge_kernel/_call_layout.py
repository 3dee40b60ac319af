"""The memory of one call of a Python callable: its tensors at offsets, between guards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tvm

from relax_tapml.arrays import Array
from relax_tapml.kernel_flow.kernel_call import kernel_call_of
from relax_tapml.targets.session.poison import Poison

_ALIGNMENT = 256  # What allocators of GPUs give; those of CPUs give less.
_GUARD_BYTES = 1 << 12
_MOST_SHIFTS = 8


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One argument of a kernel.

    Parameters
    ----------
    tensor
        Number of the tensor, constants behind the inputs of the case; None for no such tensor.
    output
        Number of the output that it holds after the call; None for what is only read.
    scalar
        The number that it is, if it is no tensor.
    """

    tensor: int | None = None
    output: int | None = None
    scalar: float | None = None


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of a kernel in the order of its parameters."""

    items: tuple[Argument, ...]
    constants: tuple[Array, ...] = ()

    @classmethod
    def of(cls, module: tvm.IRModule, function: str, outputs: int) -> Arguments:
        """Return what a case function gives a kernel.

        They are those of the PrimFunc; of a unit that is none, the inputs and then the outputs.
        """
        call = kernel_call_of(module, function)
        if call is None or call.is_runtime_callback:
            inputs = len(module[function].params)
            return cls(
                items=(
                    *(Argument(tensor=number) for number in range(inputs)),
                    *(Argument(output=number) for number in range(outputs)),
                )
            )
        first = len(module[function].params)
        constants = list(call.constants)
        results = {number: output for output, number in enumerate(call.results)}

        def item(number: int) -> Argument:
            if number in call.scalars:
                return Argument(scalar=call.scalars[number])
            place = call.inputs.get(number)
            if place is None and number in call.constants:
                place = first + constants.index(number)
            return Argument(tensor=place, output=results.get(number))

        return cls(
            items=tuple(map(item, range(len(call.kernel.params)))),
            constants=tuple(call.constants[number] for number in constants),
        )

    @property
    def written(self) -> frozenset[int]:
        """Numbers of the tensors that the kernel may write to."""
        items = self.items
        return frozenset(
            one.tensor for one in items if one.tensor is not None and one.output is not None
        )


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in the memory a tensor lies."""

    begin: int
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int

    def document(self) -> dict[str, object]:
        """Return it for the other process."""
        return {"begin": self.begin, "dtype": self.dtype, "shape": list(self.shape)}

    def of(self, memory: Array, like: Array) -> Array:
        """Return a copy of the tensor."""
        part = memory[self.begin : self.begin + self.size_bytes].copy()
        return part.view(like.dtype).reshape(like.shape)


@dataclass(frozen=True, kw_only=True)
class CallMemory:
    """One block for all tensors of a call, which holds a pattern wherever no input is.

    Parameters
    ----------
    tensors, outputs
        Places of the tensors, and of the outputs that are no tensors of the case.
    before
        What the memory holds before the call.
    """

    tensors: tuple[Place, ...]
    outputs: Mapping[int, Place] = field(default_factory=dict)
    before: Array

    @classmethod
    def of(
        cls,
        arguments: Arguments,
        inputs: Sequence[Array],
        like: Sequence[Array],
        poison: Poison,
        random: np.random.Generator,
    ) -> CallMemory:
        """Lay out a call; every tensor begins at another offset than in the last call.

        Parameters
        ----------
        arguments
            What the kernel is given.
        inputs, like
            The inputs of the case, and arrays of the dtypes and shapes of its outputs.
        poison, random
            What the memory holds, and what decides where.
        """
        end = 0

        def place(array: Array) -> Place:
            nonlocal end
            begin = end + _GUARD_BYTES + _ALIGNMENT * int(random.integers(0, _MOST_SHIFTS))
            begin += -begin % _ALIGNMENT
            end = begin + array.nbytes
            return Place(
                begin=begin, dtype=array.dtype.name, shape=array.shape, size_bytes=array.nbytes
            )

        given = [*inputs, *arguments.constants]
        tensors = tuple(map(place, given))
        own = [a.output for a in arguments.items if a.tensor is None and a.output is not None]
        outputs = {number: place(like[number]) for number in own}
        size = math.ceil((end + _GUARD_BYTES) / _ALIGNMENT) * _ALIGNMENT
        memory = poison.pattern(size).copy()
        for where, array in zip(tensors, given, strict=True):
            held = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            memory[where.begin : where.begin + where.size_bytes] = held
        return cls(tensors=tensors, outputs=outputs, before=memory)

    def violations(self, after: Array, written: frozenset[int]) -> list[str]:
        """Return what a call did to memory that it may not write to, a sentence each."""
        differs = after != self.before
        may = [p for number, p in enumerate(self.tensors) if number in written]
        for where in (*may, *self.outputs.values()):
            differs[where.begin : where.begin + where.size_bytes] = False
        found = []
        for number, where in enumerate(self.tensors):
            part = differs[where.begin : where.begin + where.size_bytes]
            if part.any():
                found.append(f"it writes to its input {number}, which it may only read")
                part[:] = False
        count = int(np.count_nonzero(differs))
        if count:
            found.append(f"it writes outside of its tensors: {count} bytes differ there")
        return found

    def untouched(self, output: int, after: Array, like: Array) -> Array | None:
        """Return which values of an output are what the memory held; None if none is."""
        where = self.outputs.get(output)
        if where is None or not like.size:
            return None
        unit = f"u{like.dtype.itemsize}"
        part = slice(where.begin, where.begin + where.size_bytes)
        held = after[part].view(unit) == self.before[part].view(unit)
        return held.reshape(like.shape) if held.any() else None
