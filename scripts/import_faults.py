"""Faults of TVM's importer, each a converter that is wrong in one way.

A fault is used in place of the converter of one operator: ``from_torch(convert_map={operator:
fault})``. It keeps dtypes and shapes, so that only values show it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.fx import Node
from tvm import relax

from relax_tapml.frontend._torch_ops.importer import CorrectedImporter

Converter = Callable[[Node, Any], Any]


def right(node: Any, importer: Any) -> Any:
    """Convert a node as the importer does without a fault."""
    own: dict[str, Callable[[Any], Any]] = CorrectedImporter.create_convert_map(importer)
    return own[node.target.__name__](node)


class _Changed:
    """A node with other positional arguments."""

    def __init__(self, node: Node, args: tuple[Any, ...]) -> None:
        self._node = node
        self.args = args

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)


def changed(node: Node, *args: Any) -> Any:
    """Return a node with other positional arguments; None keeps one."""
    given = [
        *(old if new is None else new for old, new in zip(node.args, args, strict=False)),
        *node.args[len(args) :],
        *args[len(node.args) :],
    ]
    return _Changed(node, tuple(given))


def of_result(change: Callable[[Any], Any]) -> Converter:
    """Return a fault that changes the right result, or the first of several."""

    def fault(node: Node, importer: Any) -> Any:
        found = right(node, importer)
        if isinstance(found, tuple | list):
            return [importer.block_builder.emit(change(found[0])), *found[1:]]
        if isinstance(found.ty, relax.TensorType):
            return importer.block_builder.emit(change(found))
        fields = [relax.TupleGetItem(found, at) for at in range(len(found.ty.fields))]
        first = importer.block_builder.emit(fields[0])
        return [importer.block_builder.emit(change(first)), *fields[1:]]

    return fault


def of_arguments(*change: Callable[[Any], Any] | None) -> Converter:
    """Return a fault that changes positional arguments before a right conversion."""

    def fault(node: Node, importer: Any) -> Any:
        given = zip(node.args, change, strict=False)
        return right(
            changed(node, *(old if how is None else how(old) for old, how in given)), importer
        )

    return fault


def ignored(node: Node, importer: Any) -> Any:
    """Return the first argument."""
    return importer.env[node.args[0]]


def swapped(node: Node, importer: Any) -> Any:
    """Exchange the first two arguments."""
    first, second, *rest = node.args
    return right(changed(node, second, first, *rest), importer)


def without_bias(node: Node, importer: Any) -> Any:
    """Compute a product without what is added to it."""
    _, left, right_hand = (importer.env[arg] for arg in node.args)
    return importer.block_builder.emit(relax.op.matmul(left, right_hand))


def swapped_branches(node: Node, importer: Any) -> Any:
    """Choose the other branch."""
    return right(changed(node, node.args[0], node.args[2], node.args[1]), importer)


def replaced(operator: Callable[..., Any]) -> Converter:
    """Return a fault that computes another function."""

    def fault(node: Node, importer: Any) -> Any:
        return importer.block_builder.emit(operator(importer.env[node.args[0]]))

    return fault


def scaled(value: Any) -> Any:
    """Return a value that is 2 % off."""
    return relax.op.multiply(value, relax.const(1.02, value.ty.dtype))


def shifted(value: Any) -> Any:
    """Return a value with 0.05 added."""
    return relax.op.add(value, relax.const(0.05, value.ty.dtype))


def last_axis_reversed(value: Any) -> Any:
    """Return a value with its last axis reversed."""
    return relax.op.flip(value, -1)


FAULTS: dict[str, tuple[str, Converter]] = {
    "softmax along another axis": ("_softmax.default", of_arguments(None, lambda axis: 0 * axis)),
    "another epsilon of a layer norm": (
        "native_layer_norm.default",
        of_arguments(None, None, None, None, lambda eps: eps + 0.1),
    ),
    "operands of a difference exchanged": ("sub.Tensor", swapped),
    "a bias left out": ("addmm.default", without_bias),
    "GELU by another formula": ("gelu.default", replaced(relax.op.nn.silu)),
    "tanh left out": ("tanh.default", ignored),
    "a sign left out": ("neg.default", ignored),
    "cosine for sine": ("sin.default", replaced(relax.op.cos)),
    "sine for cosine": ("cos.default", replaced(relax.op.sin)),
    "parts in another order": ("cat.default", of_arguments(lambda parts: list(reversed(parts)))),
    "branches exchanged": ("where.self", swapped_branches),
    "a mean that is 2 % off": ("mean.dim", of_result(scaled)),
    "a sum shifted": ("add.Tensor", of_result(shifted)),
    "a batched product that is 2 % off": ("bmm.default", of_result(scaled)),
    "rows of a table reversed": ("embedding.default", of_result(last_axis_reversed)),
    "a square for its root": ("rsqrt.default", replaced(relax.op.sqrt)),
    "sigmoid shifted": ("sigmoid.default", of_result(shifted)),
    "a convolution that is 2 % off": ("convolution.default", of_result(scaled)),
    "rectifier left out": ("relu.default", ignored),
    "a product that is 2 % off": ("mm.default", of_result(scaled)),
    "another epsilon of a batch norm": (
        "_native_batch_norm_legit_no_training.default",
        of_arguments(None, None, None, None, None, None, lambda eps: eps + 0.1),
    ),
    "the power of another exponent": ("pow.Tensor_Scalar", of_result(scaled)),
    "a sum scaled": ("sum.dim_IntList", of_result(scaled)),
    "a maximum for an average": ("max_pool2d_with_indices.default", of_result(shifted)),
}
"""By what is wrong: the operator whose converter is replaced, and the converter."""
