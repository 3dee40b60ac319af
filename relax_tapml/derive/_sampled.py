"""What was followed for some elements of a product only, and what that shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SAFETY = 1.5
"""What is not sampled may be off by so many times what the sample shows."""

CONFIDENCE = 0.95

Sizes = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """A sample of the elements of a product, or of its parts in some blocks.

    Parameters
    ----------
    count, total
        How many elements it has, and the product.
    sizes, shape
        Batches, rows and columns of the sample and of the product; of blocks the smallest sample
        and the largest block.
    factor
        How many times their estimate errors outside the sample may be: ``SAFETY`` times the largest
        ratio within.
    blocks
        How many there are.
    """

    count: int
    total: int
    sizes: Sizes
    shape: Sizes
    factor: float
    blocks: int = 1

    @classmethod
    def joined(cls, parts: Sequence[Sampled]) -> Sampled:
        """Return what the samples of some blocks are together."""
        sizes, shapes = [part.sizes for part in parts], [part.shape for part in parts]
        return cls(
            count=sum(part.count for part in parts),
            total=sum(part.total for part in parts),
            sizes=(min(s[0] for s in sizes), min(s[1] for s in sizes), min(s[2] for s in sizes)),
            shape=(max(s[0] for s in shapes), max(s[1] for s in shapes), max(s[2] for s in shapes)),
            factor=max(part.factor for part in parts),
            blocks=sum(part.blocks for part in parts),
        )

    @property
    def text(self) -> str:
        """What was sampled, and what that shows; empty where all elements were."""
        if self.count == self.total:
            return ""
        batches, rows, columns = self.sizes
        shares = [
            f"{_missed(size):.1%} of the {name}"
            for name, size, extent in zip(
                ("batches", "rows", "columns"), self.sizes, self.shape, strict=True
            )
            if size < extent
        ]
        grid = f"{rows} rows x {columns} columns"
        grid += f" x {batches} batches" if self.shape[0] > 1 else ""
        grid += f" in each of {self.blocks} blocks" if self.blocks > 1 else ""
        return (
            f"partial sums were followed for {self.count} of {self.total} elements ({grid}); "
            f"others may be off by {'up to ' if self.blocks > 1 else ''}{self.factor:.2g} times "
            f"the estimate from sums of squares, {SAFETY:g} times the largest ratio among these, "
            f"which have met whatever more than {' or '.join(shares)} do with {CONFIDENCE:.0%} "
            "confidence"
        )


def sampled(sizes: Sizes, shape: Sizes, factor: float) -> Sampled:
    """Return what one sample is."""
    return Sampled(
        count=math.prod(sizes), total=math.prod(shape), sizes=sizes, shape=shape, factor=factor
    )


def _missed(size: int) -> float:
    """Return the share of rows that a sample of independent ones misses by bad luck only.

    A property of a share ``p`` of the rows is in one of ``m`` rows drawn with probability
    ``1 - (1 - p)**m``. Half of a sample is drawn.
    """
    return float(1.0 - (1.0 - CONFIDENCE) ** (1.0 / max(1, size - size // 2)))
