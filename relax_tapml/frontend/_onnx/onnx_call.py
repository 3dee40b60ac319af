"""What a converter of an ONNX node gets and returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class OnnxCall:
    """What a converter gets.

    Parameters
    ----------
    builder
        A ``relax.BlockBuilder`` in the function.
    inputs
        Relax expressions, None for an optional input that is left out; an index beyond the last
        gives None, too. Small initializers are constants.
    attributes
        Those that the node has: numbers, bytes, tuples, or messages of ONNX.
    opset
        Version of the operator's domain.
    outputs
        Which outputs are used.
    stock
        Returns what TVM's own converter makes of the node; takes other inputs by position.
    """

    builder: Any
    inputs: Sequence[Any]
    attributes: dict[str, Any]
    opset: int
    outputs: tuple[bool, ...]
    stock: Callable[..., Any]

    def emit(self, value: Any) -> Any:
        """Bind an expression to a variable."""
        return self.builder.emit(value)


Converter = Callable[[OnnxCall], Any]
"""Returns an expression, or a sequence of them, one for each output."""
