"""What messages say of a node of an exported program."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils._pytree import tree_leaves

_TORCH = str(Path(torch.__file__).parent)


def module_path(node: torch.fx.Node) -> str:
    """Return the path of the module that a node is in; empty for the model itself."""
    # From the model down to the module the node is in: path and class of each.
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = stack[-1][0] if stack else ""
    return "" if path.startswith("_empty_nn_module_stack") else path


def converter_name(node: torch.fx.Node) -> str:
    """Return the name under which a node's converter is looked up: ``mul.Tensor``."""
    return getattr(node.target, "__name__", str(node.target))


def node_place(node: torch.fx.Node) -> str:
    """Return a node with its operator and the module that it is in, for messages."""
    path = module_path(node)
    return f"node '{node.name}' ({converter_name(node)}){f' in {path}' if path else ''}"


def source_line(node: torch.fx.Node) -> str:
    """Return the innermost line outside PyTorch that the node comes from."""
    lines = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines()]
    places = [
        (line, code)
        for line, code in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith('File "')
    ]
    own = [place for place in places if not place[0].startswith(f'File "{_TORCH}')]
    if not (own or places):
        return ""
    where, code = (own or places)[-1]
    file, _, rest = where.removeprefix('File "').partition('", line ')
    return f"{file}:{rest.partition(',')[0]}: {code}"


def has_open_shape(node: torch.fx.Node) -> bool:
    """Return whether the shape of a node's value depends on values, and no argument's does."""
    return _is_open(node) and not any(map(_is_open, node.all_input_nodes))


def _is_open(node: torch.fx.Node) -> bool:
    values = tree_leaves(node.meta.get("val"))
    return any(free_unbacked_symbols(v) for v in values if isinstance(v, torch.Tensor))


def is_complex(node: torch.fx.Node) -> bool:
    """Return whether a node's value is a complex tensor."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype.is_complex
