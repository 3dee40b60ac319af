"""The tensors of a recorded call, or of the smaller one that it is carved as."""

from __future__ import annotations

from dataclasses import dataclass, field

from relax_tapml.arrays import Array
from relax_tapml.carve.unit.copied_axes import CopiedAxes


@dataclass(frozen=True, kw_only=True)
class CallTensors:
    """The tensors of a call.

    Parameters
    ----------
    function
        The case function that does the call.
    inputs, outputs
        In order; of tensors that have axes in ``copies``, the places held there.
    weights
        For each input the name of the weight it is, or None.
    copies
        The axes along which most places are copies. By default none.
    """

    function: str
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    weights: tuple[str | None, ...]
    copies: CopiedAxes = field(default_factory=CopiedAxes)
