"""Which outputs of a Relax function come directly from a function with values in [-1, 1]."""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.ir import Op

from .value_leaves import ValueLeaves, bindings_in

# An implementation may be accurate relative to 1 only, so that it loses digits near 0: for example
# one that computes a tanh from an exponential, or a sigmoid from a table or a tanh.
_BOUNDED = frozenset(
    f"relax.{name}" for name in ("sigmoid", "tanh", "erf", "sin", "cos", "nn.softmax")
)
# Operators that move values, or choose among them.
_MOVES = frozenset(
    f"relax.{name}"
    for name in (
        *("reshape", "permute_dims", "expand_dims", "squeeze", "flatten", "broadcast_to", "astype"),
        *("concat", "split", "stack", "take", "strided_slice", "flip", "tile", "repeat"),
        *("gather_elements", "gather_nd", "max", "min", "topk", "sort", "scatter_elements"),
        *("nn.max_pool1d", "nn.max_pool2d", "nn.max_pool3d"),
    )
)


def bounded_outputs(module: tvm.IRModule, entry: str) -> list[bool]:
    """Return for each leaf of the result of ``entry`` whether it is such an output.

    Values may have been moved, chosen or cast in between. In a module that is already lowered, no
    output is recognised.

    Parameters
    ----------
    module
        In normal form. Not changed.
    entry
        The name of one of its Relax functions.
    """
    function = module[entry]
    leaves = ValueLeaves()
    bounded: set[relax.Expr] = set()
    for binding in bindings_in(function.body):
        leaves.bind(binding)
        value = getattr(binding, "value", None)
        if not isinstance(value, relax.Call) or not isinstance(value.op, Op):
            continue
        name = value.op.name
        if name in _BOUNDED:
            bounded.add(binding.var)
        elif name in _MOVES and value.args:
            moved = leaves.of(value.args[0])
            if moved and all(leaf.root in bounded for leaf in moved):
                bounded.add(binding.var)
    return [leaf.root in bounded for leaf in leaves.of(function.body.body)]
