"""What kind of operator a unit is, from its name."""

from __future__ import annotations

_KINDS = (
    ("convolution", ("conv",)),
    ("matmul", ("matmul", "dense")),
    ("packed weights", ("shift",)),
    ("softmax", ("softmax",)),
    ("norm", ("norm", "rsqrt")),
    ("pooling", ("pool",)),
    ("activation", ("gelu", "silu", "sigmoid", "tanh", "relu")),
    ("scan and sort", ("cumsum", "cumprod", "sort", "topk")),
    ("gather", ("take", "index", "gather", "scatter")),
    ("mask", ("where", "equal", "less", "greater", "bitwise", "logical")),
    ("reduction", ("sum", "mean", "max", "min", "prod", "variance")),
    ("arithmetic", ("add", "subtract", "multiply", "divide", "power", "exp", "sqrt", "clip",
                    "maximum", "minimum", "negative", "abs", "cos", "sin")),
)  # fmt: skip
OTHER = "data movement"


def operator_kind(unit: str) -> str:
    """Return the kind of the most telling operator in a unit: a fused matmul is a matmul.

    ``max`` and ``min`` are reductions; ``maximum`` and ``minimum`` are not.
    """
    words = unit.lower().rstrip("0123456789").replace("maximum", "add").replace("minimum", "add")
    for kind, parts in _KINDS:
        if any(part in words for part in parts):
            return kind
    return OTHER
