"""Blocks that are the same on both sides, as long as they are all there is."""

from __future__ import annotations

from collections.abc import Iterator

from relax_tapml.compare.metrics.block import Block


class PlainBlocks:
    """Keeps the blocks that are ``is_plain`` until there is another one.

    Attributes
    ----------
    are_all
        Whether all blocks so far are such.
    has_values
        Whether one of them has another value than zero.
    """

    def __init__(self) -> None:
        self.are_all = True
        self.has_values = False
        self._kept: list[Block] = []

    def due(self, block: Block) -> Iterator[Block]:
        """Yield the blocks whose squares are needed now, in order: none, or all up to this one."""
        if self.are_all and block.is_plain:
            self.has_values |= block.largest != 0
            self._kept.append(block)
            return
        yield from self._all_kept()
        yield block

    def join(self, later: PlainBlocks) -> Iterator[Block]:
        """Take over what another one has of the blocks that follow; yield as ``due`` does."""
        self.has_values |= later.has_values
        if self.are_all and later.are_all:
            self._kept += later._kept
            return
        yield from self._all_kept()
        yield from later._all_kept()

    def _all_kept(self) -> Iterator[Block]:
        self.are_all = False
        for block in self._kept:
            yield block
            block.forget_values()
        self._kept.clear()
