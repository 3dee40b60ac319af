"""A unit with its cases as arrays, before they are written to a suite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import tvm

from relax_tapml.arrays import Array
from relax_tapml.capture.values import CallRecord
from relax_tapml.carve.unit.call_tensors import CallTensors
from relax_tapml.carve.unit.copied_axes import CopiedAxes
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.suite.manifest import SuiteDim
from relax_tapml.suite.recipe import Recipe
from relax_tapml.suite.suite_files import HeldPart


@dataclass(frozen=True, kw_only=True)
class CarvedCase:
    """One case of a unit.

    Parameters
    ----------
    name
        Unique in its unit.
    record
        The call it was recorded at; of a probe, the one its inputs were made from.
    function
        The function of the unit's module that does the call.
    may_write
        Whether the call may change its arguments in place.
    inputs, outputs
        Tensors, in order; of those with copies, the places held. A tensor that several cases take
        is one object.
    weights
        For each input the name of the weight it is, or None.
    fixed
        Positions of the inputs that the model alone decides.
    tolerances
        For each output.
    reason
        Why there is this case.
    is_probe
        Whether it was not recorded.
    recipes
        How inputs are made that a suite need not hold, by position.
    copies
        The axes of inputs and outputs along which a suite holds a few places only.
    sizes
        Of a probe with other shapes, the symbolic dimensions by name.
    """

    name: str
    record: CallRecord
    function: str
    may_write: bool
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    weights: tuple[str | None, ...]
    fixed: frozenset[int]
    tolerances: tuple[Tolerance, ...]
    reason: str
    is_probe: bool = False
    recipes: Mapping[int, Recipe] = field(default_factory=dict)
    copies: CopiedAxes = field(default_factory=CopiedAxes)
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def tensors(self) -> CallTensors:
        """Its tensors, as those of a recorded call."""
        return CallTensors(
            function=self.function,
            inputs=self.inputs,
            outputs=self.outputs,
            weights=self.weights,
            copies=self.copies,
        )


@dataclass(frozen=True, kw_only=True)
class CarvedUnit:
    """A unit and its cases.

    Parameters
    ----------
    module
        The smallest module that holds the case functions.
    cases
        May be empty.
    parts
        What is held of a tensor of which only some places matter, by the ``id`` of its array.
    uncarved
        Sites that could not be carved although chosen: id to reason.
    constant_inputs
        Inputs, no weights, that were the same in all cases, in words.
    inexact
        Which terms of its sums no case tests, see ``Probes``.
    dims_seen_once
        Its symbolic dimensions that had one value in all recorded calls.
    missing_probes
        Probes that could not be made, by a readable name, each with the reason.
    """

    module: tvm.IRModule
    cases: tuple[CarvedCase, ...]
    parts: Mapping[int, HeldPart]
    uncarved: Mapping[str, str]
    constant_inputs: tuple[str, ...] = ()
    inexact: str = ""
    dims_seen_once: tuple[SuiteDim, ...] = ()
    missing_probes: Mapping[str, str] = field(default_factory=dict)
