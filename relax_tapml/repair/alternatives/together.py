"""Several alternatives, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tvm import tirx

from relax_tapml.repair.alternative import Alternative, Kernel, Layer


class Together(Alternative):
    """Applies each alternative to what those before it made.

    Parameters
    ----------
    name, text, layer
        As of every alternative.
    members
        The alternatives; those that do not apply are left out.
    """

    def __init__(self, name: str, text: str, layer: Layer, members: Sequence[Alternative]) -> None:
        self.name = name
        self.layer = layer
        self.text = text
        self._members = members

    def make(self, kernel: Kernel) -> tirx.PrimFunc | None:
        """Return what the last one made; None unless two or more apply."""
        count = 0
        for member in self._members:
            made = member.make(kernel)
            if made is not None:
                kernel = replace(kernel, failing=made, lowered=made)
                count += 1
        return kernel.failing if count > 1 else None
