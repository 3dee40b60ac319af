"""The largest absolute difference."""

from __future__ import annotations

from relax_tapml.compare.block import Block


class MaxAbs:
    """The largest distance of two values that count; 0 where none does."""

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, block: Block) -> None:
        """Take a block into account."""
        if not block.is_identical:
            self.value = max(self.value, float(block.distance.max(initial=0.0)))
