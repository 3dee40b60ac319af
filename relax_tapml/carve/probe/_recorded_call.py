"""A recorded call as probes are made from it: its tensors, and what its kernel does with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from tvm import tirx

from relax_tapml.arrays import Array, is_float
from relax_tapml.carve.probe._bounds_check import BoundsCheck
from relax_tapml.carve.probe._roles import Roles, roles_of
from relax_tapml.carve.probe._whole_range import fits
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.kernel_flow.expressions import nodes
from relax_tapml.kernel_flow.interval import Interval
from relax_tapml.kernel_flow.kernel_call import KernelCall
from relax_tapml.kernel_flow.plain_kernel import plain_kernel


@dataclass(frozen=True, kw_only=True)
class RecordedCall:
    """One recorded call of a PrimFunc.

    Parameters
    ----------
    call
        What each parameter of the PrimFunc is given.
    inputs, outputs
        Tensors of the call, in order.
    fixed
        Positions of the inputs that the model alone decides.
    constant
        Positions of the other inputs that hold one value, the same in all recorded calls.
    """

    call: KernelCall
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    fixed: frozenset[int]
    constant: frozenset[int]

    @property
    def free(self) -> list[int]:
        """Positions of the inputs that something other than the model decides."""
        return [n for n, array in enumerate(self.inputs) if n not in self.fixed and array.size]

    @property
    def whole(self) -> list[int]:
        """Those of them that hold whole numbers."""
        return [n for n in self.free if self.inputs[n].dtype.kind in "iu"]

    @property
    def floats(self) -> list[int]:
        """Those of them that hold floats."""
        return [n for n in self.free if is_float(self.inputs[n].dtype)]

    @property
    def bools(self) -> list[int]:
        """Those of them that hold bool."""
        return [n for n in self.free if self.inputs[n].dtype.kind == "b"]

    @cached_property
    def kernel(self) -> tirx.PrimFunc:
        """The PrimFunc, as loops and stores."""
        return plain_kernel(self.call.kernel)

    @cached_property
    def stores(self) -> list[Any]:
        """Every store of the PrimFunc."""
        return nodes(self.kernel.body, tirx.BufferStore)

    @cached_property
    def dims(self) -> dict[tirx.Var, Interval]:
        """Values of its symbolic dimensions and integer parameters."""
        shapes = {number: self.inputs[index].shape for number, index in self.call.inputs.items()}
        shapes |= {
            number: array.shape
            for number, array in zip(self.call.results, self.outputs, strict=True)
        }
        return self.call.fixed(shapes)

    @cached_property
    def roles(self) -> Roles:
        """What the values of its inputs decide, by position of the input."""
        found = roles_of(self.kernel, self.dims)

        def places(numbers: frozenset[int]) -> frozenset[int]:
            return frozenset(self.call.inputs[n] for n in numbers if n in self.call.inputs)

        return Roles(
            loads=places(found.loads),
            stores=places(found.stores),
            loops=places(found.loops),
            guards=places(found.guards),
            extents={
                self.call.inputs[n]: sizes
                for n, sizes in found.extents.items()
                if n in self.call.inputs
            },
        )

    def is_inside(self, inputs: Sequence[Array]) -> bool:
        """Return whether the call is known to stay inside its tensors with other inputs."""
        if self.roles.places.isdisjoint(self.free):
            return True
        if self._check is None:
            return False
        arguments = {number: inputs[index] for number, index in self.call.inputs.items()}
        arguments |= self.call.constants
        return bool(self._check.is_inside(arguments, self.call.scalars, self.outputs))

    @cached_property
    def _check(self) -> Any:
        try:
            return BoundsCheck(self.kernel, self.call.results)
        except Exception as error:  # What cannot be built is not known to stay inside.
            raise_machine_error(error, "following the indices of a kernel")
            return None

    def holds(self, ranges: dict[int, Interval]) -> bool:
        """Return whether whole numbers in these ranges, by position, are known to overflow nowhere.

        All other inputs of whole numbers are as recorded.
        """
        params = list(self.call.kernel.params)
        by_param: dict[tirx.Var, Interval] = {}
        arrays = {n: self.inputs[index] for n, index in self.call.inputs.items()}
        for number, array in {**arrays, **self.call.constants}.items():
            if array.dtype.kind in "iub" and array.size:
                by_param[params[number]] = Interval(int(array.min()), int(array.max()))
        for number, index in self.call.inputs.items():
            if index in ranges:
                by_param[params[number]] = ranges[index]
        return fits(self.kernel, by_param, self.dims)


def draws(*seed: int) -> np.random.Generator:
    """Return a generator that draws the same on every machine."""
    return np.random.default_rng(seed)
