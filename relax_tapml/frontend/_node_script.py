"""A script that shows one node of a PyTorch program beside the Relax that it became."""

from __future__ import annotations

import io
import math
import pprint
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tvm

from relax_tapml._compat import portable_script
from relax_tapml.arrays import Array
from relax_tapml.frontend._filled_script import filled, one_line
from relax_tapml.frontend.model import GraphNode

_TEMPLATE = Path(__file__).with_name("node_script_template.txt")


@dataclass(frozen=True, kw_only=True)
class NodeScript:
    """What a script shows.

    Parameters
    ----------
    node, call
        As in ``NodeCall``.
    target, args, kwargs
        The call of PyTorch, with its tensors.
    item
        Which of its results; None where it has one.
    inputs
        The arguments of the Relax.
    module, function
        The Relax, and the name of its function.
    allowed
        What a value may be off.
    stem
        Of the names of the files.
    """

    node: GraphNode
    call: str
    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    item: int | None
    inputs: tuple[Array, ...]
    module: tvm.IRModule
    function: str
    allowed: float
    stem: str


def node_script(what: NodeScript) -> dict[str, bytes]:
    """Return the script and its data: name to content."""
    tensors: list[torch.Tensor] = []
    args = [_literal(arg, tensors) for arg in what.args]
    args += [f"{name}={_literal(arg, tensors)}" for name, arg in what.kwargs.items()]
    names = [f"a{number}" for number in range(len(tensors))]
    expression = f"torch.ops.{what.target}({', '.join(args)})"
    if what.item is not None:
        expression += f"[{what.item}]"
    arrays = {f"a{number}": _stored(tensor) for number, tensor in enumerate(tensors)}
    arrays |= {f"x{number}": _plain(array) for number, array in enumerate(what.inputs)}
    dtypes = {f"a{n}": str(t.dtype).removeprefix("torch.") for n, t in enumerate(tensors)}
    dtypes |= {f"x{n}": array.dtype.name for n, array in enumerate(what.inputs)}
    data = io.BytesIO()
    np.savez(data, allow_pickle=False, **arrays)
    blanks = {
        "NODE": one_line(f"{what.node.name} ({what.node.operator})"),
        "MODULE": one_line(what.node.module or "the model itself"),
        "SOURCE": one_line(what.node.source or "unknown"),
        "CALL": one_line(what.call),
        "DATA": f"{what.stem}.npz",
        "DTYPES": pprint.pformat(dtypes),
        "PARAMETERS": ", ".join(["self", *names]),
        "TENSORS": repr(names),
        "EXPRESSION": expression,
        "RELAX": portable_script(what.module).strip(),
        "FUNCTION": what.function,
        "INPUTS": repr([f"x{number}" for number in range(len(what.inputs))]),
        "ALLOWED": repr(what.allowed) if math.isfinite(what.allowed) else "0.0",
    }
    return {f"{what.stem}.py": filled(_TEMPLATE, blanks), f"{what.stem}.npz": data.getvalue()}


def _literal(value: Any, tensors: list[torch.Tensor]) -> str:
    """Return a value as Python; tensors are added to the list and become names."""
    if isinstance(value, torch.Tensor):
        place = next((n for n, tensor in enumerate(tensors) if tensor is value), len(tensors))
        if place == len(tensors):
            tensors.append(value)
        return f"a{place}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_literal(item, tensors) for item in value)}]"
    if isinstance(value, torch.device):
        return f"torch.device({str(value)!r})"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    return repr(value)  # numbers, None, text; dtypes, layouts and memory formats name themselves


def _stored(tensor: torch.Tensor) -> Array:
    tensor = tensor.detach().cpu().contiguous()
    if str(tensor.dtype).removeprefix("torch.") in _BITS:
        tensor = tensor.view(_BITS[str(tensor.dtype).removeprefix("torch.")])
    return np.asarray(tensor.numpy())


def _plain(array: Array) -> Array:
    if array.dtype.isbuiltin == 1:
        return array
    return array.view({1: "uint8", 2: "int16"}[array.dtype.itemsize])


_BITS = {
    "bfloat16": torch.int16,
    **dict.fromkeys(
        ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"), torch.uint8
    ),
}
