"""What every converter of a PyTorch operator needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.fx import Node
from tvm import relax, tirx
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from relax_tapml._compat import expr_deep_equal


class Emitter(ExportedProgramImporter):  # type: ignore[misc]
    """TVM's importer, with ways to read operands in a dtype and to emit Relax."""

    def _operand(self, value: Any, dtype: str) -> Any:
        """Return a node's value, which may be a dimension, or a number as a tensor of ``dtype``."""
        if isinstance(value, Node):
            found = self.env[value]
            if is_tensor(value):
                return self._cast(found, dtype)
            if not isinstance(found, int | float):
                return self._prim_value_to_scalar_tensor(found, dtype)
            value = found
        return relax.const(value, dtype)

    def _extent(self, extent: Any) -> Any:
        """Return a dimension, which may be symbolic, as a tensor."""
        if isinstance(extent, int | tirx.IntImm):
            return relax.const(int(extent), "int64")
        return self._prim_value_to_scalar_tensor(extent, "int64")

    def _cast(self, value: Any, dtype: str) -> Any:
        if str(value.ty.dtype) == dtype:
            return value
        return self._emit(relax.op.astype(value, dtype))

    def _emit(self, value: Any) -> Any:
        return self.block_builder.emit(value)

    @contextmanager
    def _replaced(self, values: Mapping[Node, Any]) -> Iterator[None]:
        """Give nodes other values within the block."""
        saved = {node: self.env[node] for node in values}
        self.env.update(values)
        try:
            yield
        finally:
            self.env.update(saved)


def dtype_of(node: Node) -> str:
    """Return the dtype PyTorch recorded, as TVM writes it."""
    return str(node.meta["val"].dtype).removeprefix("torch.")


def is_tensor(node: Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def is_same(a: Any, b: Any) -> bool:
    """Return whether two dimensions, numbers or expressions, are equal for all their symbols."""
    if isinstance(a, int | tirx.IntImm) or isinstance(b, int | tirx.IntImm):
        return (
            isinstance(a, int | tirx.IntImm)
            and isinstance(b, int | tirx.IntImm)
            and int(a) == int(b)
        )
    return bool(expr_deep_equal(a, b))
