"""Names that differ between TVM releases; nothing else in the package spells them."""

from __future__ import annotations

from tvm.ir import GenericConst as Constant  # relax.Constant before 0.27

__all__ = ["Constant"]
