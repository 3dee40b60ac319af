"""The inputs and outputs of a TFLite model, by the names of its signature if it has one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tflite

from relax_tapml.arrays import dtype_named
from relax_tapml.errors import UsageError
from relax_tapml.frontend._graph_inputs import SEED, Dim, GraphInput, Sizes, drawn_array
from relax_tapml.frontend._tflite.operators import (
    dtype_of,
    is_quantized,
    operators_of,
    tensor_name,
)
from relax_tapml.frontend.model import Sample
from relax_tapml.printable import names_text, printable

_NUMBERS = frozenset(
    {"bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64"}
    | {"uint8", "uint16", "uint32", "uint64"}
)
_MANY = 8
MOST_DRAWN_BYTES = 1 << 30
"""Of one input."""


@dataclass(frozen=True, kw_only=True)
class Interface:
    """What the main subgraph takes and returns.

    Parameters
    ----------
    inputs
        In the order of the file.
    tensors
        Their numbers.
    outputs
        Numbers of the tensors that are returned.
    notes
        Sentences about other signatures.
    """

    inputs: tuple[GraphInput, ...]
    tensors: tuple[int, ...]
    outputs: tuple[int, ...]
    notes: tuple[str, ...] = ()


def interface_of(model: Any) -> Interface:
    """Return the interface of the main subgraph, number 0, which is what is imported.

    Raises
    ------
    UsageError
        An input is no tensor of numbers.
    """
    graph = model.Subgraphs(0)
    tensors = tuple(graph.Inputs(at) for at in range(graph.InputsLength()))
    names, notes = _signature(model)
    return Interface(
        inputs=tuple(_input(graph, at, names.get(at) or tensor_name(graph, at)) for at in tensors),
        tensors=tensors,
        outputs=tuple(graph.Outputs(at) for at in range(graph.OutputsLength())),
        notes=notes,
    )


def _signature(model: Any) -> tuple[Mapping[int, str], tuple[str, ...]]:
    """Return names of inputs by tensor, from the first signature of the main subgraph."""
    found = [model.SignatureDefs(at) for at in range(model.SignatureDefsLength())]
    main = [one for one in found if one.SubgraphIndex() == 0]
    keys = [printable((one.SignatureKey() or b"").decode(errors="replace")) for one in found]
    others = [key for key, one in zip(keys, found, strict=True) if not main or one is not main[0]]
    notes: tuple[str, ...] = ()
    if others:
        notes = (
            f"only the main subgraph is imported; the file has other signatures, too: "
            f"{names_text(others, _MANY)}",
        )
    if not main:
        return {}, notes
    entries = [main[0].Inputs(at) for at in range(main[0].InputsLength())]
    return {
        entry.TensorIndex(): (entry.Name() or b"").decode(errors="replace") for entry in entries
    }, notes


def _input(graph: Any, at: int, name: str) -> GraphInput:
    tensor = graph.Tensors(at)
    dtype = dtype_of(tensor)
    if dtype not in _NUMBERS:
        raise UsageError(
            f"input '{printable(name)}' is of {dtype}, and only numbers can be inputs. Export the "
            "model without what turns them into numbers."
        )
    open_axes = {
        axis for axis in range(tensor.ShapeSignatureLength()) if tensor.ShapeSignature(axis) < 0
    }
    return GraphInput(
        name=name,
        dtype=dtype,
        dims=tuple(
            Dim(f"{name}.{axis}", (f"{name}.{axis}",))
            if axis in open_axes or tensor.Shape(axis) < 0
            else int(tensor.Shape(axis))
            for axis in range(tensor.ShapeLength())
        ),
    )


def check_sizes(sizes: Sizes) -> None:
    """Check that each dimension has one size.

    Raises
    ------
    UsageError
        One has several.
    """
    for name, values in sizes.values.items():
        if len(set(values)) > 1:
            raise UsageError(
                f"dimension {printable(name)} has the sizes {', '.join(map(str, values))}: TVM's "
                "importer of TFLite has no symbolic dimensions. Give one size, with --dim or by "
                "inputs of one shape, and make a run of each."
            )


def drawn_sample(model: Any, interface: Interface, sizes: Sizes) -> Sample:
    """Draw a sample: normal floats, booleans, any quantised value, and valid indices."""
    random = np.random.default_rng(SEED)
    graph = model.Subgraphs(0)
    given = sizes.of_sample(0)
    arrays = []
    for one, at in zip(interface.inputs, interface.tensors, strict=True):
        dtype, shape = dtype_named(one.dtype), one.shape(given)
        if math.prod(shape) * dtype.itemsize > MOST_DRAWN_BYTES:
            raise UsageError(
                f"input '{printable(one.name)}' would have {math.prod(shape)} values of {dtype}, "
                f"more than are drawn ({MOST_DRAWN_BYTES} bytes). Give real ones with --inputs."
            )
        if is_quantized(graph.Tensors(at)):
            limits = np.iinfo(dtype)
            arrays.append(random.integers(limits.min, limits.max + 1, shape).astype(dtype))
        else:
            arrays.append(drawn_array(random, dtype, shape, _limit(model, at)))
    text = ", ".join(f"{printable(name)}={size}" for name, size in given.items())
    return Sample(name="drawn 0" + (f" ({text})" if text else ""), arrays=tuple(arrays))


def _limit(model: Any, at: int) -> int:
    """Return the smallest length of the tables that an input indexes; 2 where it indexes none."""
    graph, same, lengths = model.Subgraphs(0), {at}, []
    for operator in operators_of(model, 0):
        if operator.name in ("CAST", "EXPAND_DIMS", "RESHAPE", "SQUEEZE"):
            if operator.inputs[0] in same:
                same.update(operator.outputs)
        elif operator.name == "GATHER" and operator.inputs[1] in same:
            lengths.append(_length(graph.Tensors(operator.inputs[0]), _axis(operator.raw)))
        elif operator.name == "EMBEDDING_LOOKUP" and operator.inputs[0] in same:
            lengths.append(_length(graph.Tensors(operator.inputs[1]), 0))
    return min((length for length in lengths if length), default=2)


def _length(tensor: Any, axis: int) -> int:
    rank = tensor.ShapeLength()
    return int(tensor.Shape(axis % rank)) if rank else 0


def _axis(raw: Any) -> int:
    given = raw.BuiltinOptions()
    if given is None:
        return 0
    options = tflite.GatherOptions()
    options.Init(given.Bytes, given.Pos)
    return int(options.Axis())
