"""Small TFLite models, made operator by operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Tensor:
    """A tensor; one with data is a constant. Open sizes are -1 in ``signature``."""

    name: str
    dtype: str = "float32"
    shape: Sequence[int] = ()
    data: Array | None = None
    scale: Sequence[float] = ()
    zero: Sequence[int] = ()
    axis: int = 0
    signature: Sequence[int] | None = None


@dataclass(frozen=True)
class Node:
    """An operator; ``options`` are fields of ``kind``."""

    operator: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    kind: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """A subgraph."""

    tensors: Sequence[Tensor]
    nodes: Sequence[Node]
    inputs: Sequence[str]
    outputs: Sequence[str]


def constant(name: str, array: Any, **quantized: Any) -> Tensor:
    """Return a constant."""
    data = np.asarray(array)
    return Tensor(name, data.dtype.name, data.shape, data, **quantized)


def model(*graphs: Graph, signature: Mapping[str, str] | None = None) -> bytes:
    """Return a file. ``signature`` names inputs of the first subgraph: name to tensor."""
    return _Writer(graphs, signature).content()


class _Writer:
    def __init__(self, graphs: Sequence[Graph], signature: Mapping[str, str] | None) -> None:
        self.b = flatbuffers.Builder(1024)
        self.graphs = graphs
        self.signature = signature
        self.buffers: list[bytes] = [b""]
        self.codes: list[str] = []

    def content(self) -> bytes:
        b = self.b
        graphs = self.offsets("ModelStartSubgraphsVector", map(self.graph, self.graphs))
        codes = self.offsets("ModelStartOperatorCodesVector", map(self.code, self.codes))
        buffers = self.offsets("ModelStartBuffersVector", map(self.buffer, self.buffers))
        given = [] if self.signature is None else [self.signature_def()]
        signatures = self.offsets("ModelStartSignatureDefsVector", given)
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, 3)
        tflite.ModelAddOperatorCodes(b, codes)
        tflite.ModelAddSubgraphs(b, graphs)
        tflite.ModelAddBuffers(b, buffers)
        tflite.ModelAddSignatureDefs(b, signatures)
        b.Finish(tflite.ModelEnd(b), file_identifier=b"TFL3")
        return bytes(b.Output())

    def offsets(self, start: str, items: Any) -> int:
        return self.vector(start, list(items), self.b.PrependUOffsetTRelative)

    def vector(self, start: str, items: Sequence[Any], prepend: Any) -> int:
        getattr(tflite, start)(self.b, len(items))
        for item in reversed(items):
            prepend(item)
        return int(self.b.EndVector())

    def ints(self, start: str, items: Sequence[int]) -> int:
        return self.vector(start, [int(item) for item in items], self.b.PrependInt32)

    def graph(self, graph: Graph) -> int:
        b, names = self.b, {tensor.name: at for at, tensor in enumerate(graph.tensors)}
        numbers = {"": -1, **names}
        tensors = self.offsets("SubGraphStartTensorsVector", map(self.tensor, graph.tensors))
        nodes = [self.node(node, numbers) for node in graph.nodes]
        operators = self.offsets("SubGraphStartOperatorsVector", nodes)
        inputs = self.ints("SubGraphStartInputsVector", [names[name] for name in graph.inputs])
        outputs = self.ints("SubGraphStartOutputsVector", [names[name] for name in graph.outputs])
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, tensors)
        tflite.SubGraphAddOperators(b, operators)
        tflite.SubGraphAddInputs(b, inputs)
        tflite.SubGraphAddOutputs(b, outputs)
        return int(tflite.SubGraphEnd(b))

    def tensor(self, tensor: Tensor) -> int:
        b, buffer = self.b, 0
        if tensor.data is not None:
            self.buffers.append(np.ascontiguousarray(tensor.data).tobytes())
            buffer = len(self.buffers) - 1
        name = b.CreateString(tensor.name.partition("|")[0])
        shape = self.ints("TensorStartShapeVector", tensor.shape)
        signature = None
        if tensor.signature is not None:
            signature = self.ints("TensorStartShapeSignatureVector", tensor.signature)
        scaled = self.quantization(tensor) if tensor.scale else None
        tflite.TensorStart(b)
        tflite.TensorAddName(b, name)
        tflite.TensorAddShape(b, shape)
        tflite.TensorAddType(b, getattr(tflite.TensorType, tensor.dtype.upper()))
        tflite.TensorAddBuffer(b, buffer)
        if signature is not None:
            tflite.TensorAddShapeSignature(b, signature)
        if scaled is not None:
            tflite.TensorAddQuantization(b, scaled)
        return int(tflite.TensorEnd(b))

    def quantization(self, tensor: Tensor) -> int:
        b, zero = self.b, tensor.zero or [0] * len(tensor.scale)
        scales = self.vector(
            "QuantizationParametersStartScaleVector", tensor.scale, b.PrependFloat32
        )
        zeros = self.vector("QuantizationParametersStartZeroPointVector", zero, b.PrependInt64)
        tflite.QuantizationParametersStart(b)
        tflite.QuantizationParametersAddScale(b, scales)
        tflite.QuantizationParametersAddZeroPoint(b, zeros)
        tflite.QuantizationParametersAddQuantizedDimension(b, tensor.axis)
        return int(tflite.QuantizationParametersEnd(b))

    def node(self, node: Node, numbers: Mapping[str, int]) -> int:
        b = self.b
        if node.operator not in self.codes:
            self.codes.append(node.operator)
        inputs = self.ints("OperatorStartInputsVector", [numbers[name] for name in node.inputs])
        outputs = self.ints("OperatorStartOutputsVector", [numbers[name] for name in node.outputs])
        options = None
        if node.kind:
            getattr(tflite, f"{node.kind}Start")(b)
            for name, value in node.options.items():
                getattr(tflite, f"{node.kind}Add{name}")(b, value)
            options = getattr(tflite, f"{node.kind}End")(b)
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, self.codes.index(node.operator))
        tflite.OperatorAddInputs(b, inputs)
        tflite.OperatorAddOutputs(b, outputs)
        if options is not None:
            tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, node.kind))
            tflite.OperatorAddBuiltinOptions(b, options)
        return int(tflite.OperatorEnd(b))

    def code(self, operator: str) -> int:
        b, number = self.b, getattr(tflite.BuiltinOperator, operator, None)
        custom = b.CreateString(operator) if number is None else None
        number = tflite.BuiltinOperator.CUSTOM if number is None else number
        tflite.OperatorCodeStart(b)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(number, 127))
        tflite.OperatorCodeAddBuiltinCode(b, number)
        tflite.OperatorCodeAddVersion(b, _VERSIONS.get(operator, 1))
        if custom is not None:
            tflite.OperatorCodeAddCustomCode(b, custom)
        return int(tflite.OperatorCodeEnd(b))

    def buffer(self, content: bytes) -> int:
        b = self.b
        data = None
        if content:
            b.StartVector(1, len(content), 16)
            b.head -= len(content)
            b.Bytes[b.head : b.head + len(content)] = content
            data = b.EndVector()
        tflite.BufferStart(b)
        if data is not None:
            tflite.BufferAddData(b, data)
        return int(tflite.BufferEnd(b))

    def signature_def(self) -> int:
        b = self.b
        assert self.signature is not None
        names = [tensor.name for tensor in self.graphs[0].tensors]
        made = []
        for name, tensor in self.signature.items():
            text = b.CreateString(name)
            tflite.TensorMapStart(b)
            tflite.TensorMapAddName(b, text)
            tflite.TensorMapAddTensorIndex(b, names.index(tensor))
            made.append(tflite.TensorMapEnd(b))
        inputs = self.offsets("SignatureDefStartInputsVector", made)
        key = b.CreateString("serving_default")
        tflite.SignatureDefStart(b)
        tflite.SignatureDefAddInputs(b, inputs)
        tflite.SignatureDefAddSignatureKey(b, key)
        tflite.SignatureDefAddSubgraphIndex(b, 0)
        return int(tflite.SignatureDefEnd(b))


_VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "ADD": 2, "QUANTIZE": 1}
"""Of operators that take int8."""


def weights(seed: int, *shape: int) -> Array:
    """Return small random weights."""
    return (np.random.default_rng(seed).standard_normal(shape) * 0.3).astype("float32")


def network(batch: int = -1) -> bytes:
    """Return a convolution, a reshape by the batch's size, and a product."""
    return model(
        Graph(
            [
                Tensor("serving_image:0", "float32", [1, 6, 6, 2], signature=[batch, 6, 6, 2]),
                constant("conv/kernel", weights(1, 8, 3, 3, 2)),
                constant("conv/bias", weights(2, 8)),
                Tensor("net/conv/Relu;net/conv/Conv2D", "float32", [1, 6, 6, 8]),
                Tensor("net/Shape", "int32", [4]),
                constant("zero", np.array([0], "int32")),
                constant("one", np.array([1], "int32")),
                Tensor("net/rows", "int32", []),
                constant("width", np.array(288, "int32")),
                Tensor("net/target", "int32", [2]),
                Tensor("net/flat", "float32", [1, 288]),
                constant("fc/kernel", weights(3, 5, 288)),
                constant("fc/bias", weights(4, 5)),
                Tensor("net/fc/MatMul", "float32", [1, 5]),
            ],
            [
                Node(
                    "CONV_2D",
                    ["serving_image:0", "conv/kernel", "conv/bias"],
                    ["net/conv/Relu;net/conv/Conv2D"],
                    "Conv2DOptions",
                    {"StrideH": 1, "StrideW": 1, "FusedActivationFunction": 1},
                ),
                Node(
                    "SHAPE",
                    ["net/conv/Relu;net/conv/Conv2D"],
                    ["net/Shape"],
                    "ShapeOptions",
                    {"OutType": tflite.TensorType.INT32},
                ),
                Node(
                    "STRIDED_SLICE",
                    ["net/Shape", "zero", "one", "one"],
                    ["net/rows"],
                    "StridedSliceOptions",
                    {"ShrinkAxisMask": 1},
                ),
                Node(
                    "PACK", ["net/rows", "width"], ["net/target"], "PackOptions", {"ValuesCount": 2}
                ),
                Node("RESHAPE", ["net/conv/Relu;net/conv/Conv2D", "net/target"], ["net/flat"]),
                Node(
                    "FULLY_CONNECTED",
                    ["net/flat", "fc/kernel", "fc/bias"],
                    ["net/fc/MatMul"],
                    "FullyConnectedOptions",
                ),
            ],
            ["serving_image:0"],
            ["net/fc/MatMul"],
        ),
        signature={"image": "serving_image:0"},
    )
