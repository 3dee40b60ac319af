"""The inputs of an ONNX model, and samples that are drawn for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from relax_tapml.arrays import dtype_named
from relax_tapml.errors import UsageError
from relax_tapml.frontend._graph_inputs import (
    SEED,
    Dim,
    GraphInput,
    Sizes,
    dim_named,
    drawn_array,
)
from relax_tapml.frontend._onnx.nodes import dtype_of, subgraphs
from relax_tapml.frontend.model import Sample
from relax_tapml.printable import printable


def inputs_of(graph: onnx.GraphProto) -> tuple[GraphInput, ...]:
    """Return the inputs that have no default in the file.

    Raises
    ------
    UsageError
        One is no tensor of numbers, or has no rank.
    """
    has_value = {tensor.name for tensor in graph.initializer}
    return tuple(_input(info) for info in graph.input if info.name not in has_value)


def _input(info: onnx.ValueInfoProto) -> GraphInput:
    name = printable(info.name)
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        raise UsageError(
            f"input '{name}' is a {str(kind).removesuffix('_type')}, and only tensors can be "
            "inputs. Export the model with tensors in its place."
        )
    try:
        dtype = dtype_of(info.type.tensor_type.elem_type)
    except ValueError as error:
        raise UsageError(
            f"input '{name}' has {error}, and only numbers can be inputs. Export the model without "
            "what turns them into numbers."
        ) from error
    if not info.type.tensor_type.HasField("shape"):
        raise UsageError(
            f"input '{name}' has no rank in the file. Export the model with shapes, or write them "
            "with onnx.helper."
        )
    return GraphInput(
        name=info.name,
        dtype=dtype,
        dims=tuple(
            _dim(dim, f"{info.name}.{axis}")
            for axis, dim in enumerate(info.type.tensor_type.shape.dim)
        ),
    )


def _dim(dim: Any, unnamed: str) -> int | Dim:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return dim_named(dim.dim_param.strip(), unnamed)


def drawn_samples(
    inputs: Sequence[GraphInput], sizes: Sizes, graph: onnx.GraphProto
) -> tuple[Sample, ...]:
    """Draw samples: normal floats, booleans, and integers that are indices of what they index.

    An integer input that indexes a table in the file is below its length; others are 0 or 1.
    """
    limits = {one.name: _limit(graph, one.name) for one in inputs}
    samples = []
    for number in range(sizes.count):
        given = sizes.of_sample(number)
        random = np.random.default_rng(SEED + number)
        text = ", ".join(f"{printable(name)}={size}" for name, size in given.items())
        samples.append(
            Sample(
                name=f"drawn {number}" + (f" ({text})" if text else ""),
                arrays=tuple(
                    drawn_array(random, dtype_named(one.dtype), one.shape(given), limits[one.name])
                    for one in inputs
                ),
            )
        )
    return tuple(samples)


def _limit(graph: onnx.GraphProto, name: str) -> int:
    """Return the smallest length of the tables that an input indexes; 2 where it indexes none."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    same, lengths = {name}, []
    for node in graph.node:
        if node.op_type in ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten"):
            if node.input[0] in same:
                same.update(name for name in node.output if name)
        elif node.op_type == "Gather" and node.input[1] in same and node.input[0] in shapes:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            lengths.append(shapes[node.input[0]][axis])
        elif any(subgraphs(node)):
            continue
    return min(lengths, default=2)
