"""Quantised TFLite operators equal the interpreter bit for bit, or are told to differ."""

from __future__ import annotations

import numpy as np
import pytest
from refusals import refused

pytest.importorskip("tflite", reason="needs relax-tapml[tflite]")
pytest.importorskip("ai_edge_litert", reason="needs relax-tapml[tflite]")

import tvm
from tflite_graphs import Graph, Node, Tensor, constant, model

from relax_tapml import bringup
from relax_tapml.bringup.side_spec import SideSpec
from relax_tapml.errors import LoweringError
from relax_tapml.frontend.tflite_model import from_tflite

RELU6 = 3


@pytest.fixture
def equals(run_on_llvm):
    """Import a file, run it on llvm; each output must be the interpreter's, and vary."""

    def check(content):
        imported = from_tflite(content)
        for got, want in zip(
            run_on_llvm(imported)[0], imported.reference(imported.samples[0]), strict=True
        ):
            assert want.std() > 2
            np.testing.assert_array_equal(got, want)
        return imported

    return check


def scaled(name, shape, dtype="int8", scale=0.05, zero=3):
    return Tensor(name, dtype, shape, scale=[scale], zero=[zero])


def integers(seed, shape, dtype):
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min + 1, info.max, shape).astype(dtype)


def convolution(operator, dtype, *, is_per_channel=False, activation=0, padding=0, stride=1):
    """Return a model of one convolution, with a bias."""
    is_depthwise = operator == "DEPTHWISE_CONV_2D"
    count = 16 if is_depthwise else 8
    random = np.random.default_rng(1)
    scales = random.uniform(0.002, 0.012, count if is_per_channel else 1).tolist()
    zeros = [0 if dtype == "int8" else 121] * len(scales)
    axis = (3 if is_depthwise else 0) if is_per_channel else 0
    kernel = integers(2, (1, 3, 3, 16) if is_depthwise else (8, 3, 3, 16), dtype)
    bias = random.integers(-3000, 3000, count).astype("int32")
    side = {(0, 1): 8, (1, 1): 6, (0, 2): 4}[(padding, stride)]
    options = {"StrideH": stride, "StrideW": stride, "Padding": padding}
    options["FusedActivationFunction"] = activation
    if is_depthwise:
        options["DepthMultiplier"] = 1
    kind = "DepthwiseConv2DOptions" if is_depthwise else "Conv2DOptions"
    return model(
        Graph(
            [
                scaled("x", [1, 8, 8, 16], dtype),
                constant("kernel", kernel, scale=scales, zero=zeros, axis=axis),
                constant("bias", bias, scale=[0.05 * s for s in scales], zero=[0] * len(scales)),
                scaled("y", [1, side, side, count], dtype, 0.11, -5 if dtype == "int8" else 120),
            ],
            [Node(operator, ["x", "kernel", "bias"], ["y"], kind, options)],
            ["x"],
            ["y"],
        )
    )


@pytest.mark.parametrize(
    ("operator", "dtype", "options"),
    [
        ("CONV_2D", "int8", {"is_per_channel": True, "activation": RELU6}),
        ("CONV_2D", "uint8", {"padding": 1}),
        ("DEPTHWISE_CONV_2D", "int8", {"is_per_channel": True, "stride": 2}),
        ("DEPTHWISE_CONV_2D", "uint8", {}),
    ],
)
def test_convolutions_are_exact(equals, operator, dtype, options):
    """Per channel and per tensor."""
    imported = equals(convolution(operator, dtype, **options))
    if operator == "CONV_2D":
        assert {array.dtype.name for array in imported.params.values()} == {dtype}


def test_products_of_matrices_are_exact(equals):
    kernel = integers(2, (32, 64), "int8")
    bias = integers(3, 32, "int8").astype("int32") * 30
    equals(
        model(
            Graph(
                [
                    scaled("x", [2, 3, 64]),
                    constant("kernel", kernel, scale=[0.004]),
                    constant("bias", bias, scale=[0.05 * 0.004]),
                    scaled("y", [2, 3, 32], scale=0.06),
                ],
                [
                    Node(
                        "FULLY_CONNECTED",
                        ["x", "kernel", "bias"],
                        ["y"],
                        "FullyConnectedOptions",
                        {"KeepNumDims": True},
                    ),
                ],
                ["x"],
                ["y"],
            )
        )
    )


def test_elementwise_operators_pools_and_moves_are_exact(equals):
    """One after another, between other scales; moves and padding keep theirs."""
    shape = [1, 8, 8, 16]
    pool = {"StrideH": 2, "StrideW": 2, "FilterHeight": 2, "FilterWidth": 2}
    equals(
        model(
            Graph(
                [
                    Tensor("f", "float32", shape),
                    scaled("x", shape, scale=0.02, zero=-3),
                    scaled("z", shape, scale=0.013, zero=7),
                    scaled("sum", shape, scale=0.03, zero=4),
                    scaled("less", shape, scale=0.025),
                    scaled("times", shape, scale=0.022, zero=-9),
                    scaled("pooled", [1, 4, 4, 16], scale=0.022, zero=-9),
                    constant("widths", np.array([[0, 0], [1, 0], [0, 2], [0, 0]], "int32")),
                    scaled("padded", [1, 5, 6, 16], scale=0.022, zero=-9),
                    constant("order", np.array([0, 3, 1, 2], "int32")),
                    scaled("moved", [1, 16, 5, 6], scale=0.022, zero=-9),
                ],
                [
                    Node("QUANTIZE", ["f"], ["x"]),
                    Node("ADD", ["x", "z"], ["sum"], "AddOptions"),
                    Node("SUB", ["sum", "x"], ["less"], "SubOptions"),
                    Node("MUL", ["less", "sum"], ["times"], "MulOptions"),
                    Node("AVERAGE_POOL_2D", ["times"], ["pooled"], "Pool2DOptions", pool),
                    Node("PAD", ["pooled", "widths"], ["padded"]),
                    Node("TRANSPOSE", ["padded", "order"], ["moved"]),
                ],
                ["f", "z"],
                ["moved", "times", "less", "sum"],
            )
        )
    )


def test_what_tvm_rounds_otherwise_is_no_pass(tmp_path):
    """LEAKY_RELU of TVM is one step off here and there."""
    content = model(
        Graph(
            [scaled("x", [40, 50]), scaled("y", [40, 50], scale=0.1)],
            [Node("LEAKY_RELU", ["x"], ["y"], "LeakyReluOptions", {"Alpha": 0.1})],
            ["x"],
            ["y"],
        )
    )
    imported = from_tflite(content)
    side = SideSpec(target=tvm.target.Target({"kind": "llvm", "opt-level": 1}))
    built = bringup.build_source(imported, bringup.lower_model(imported), side, tmp_path)
    assert bringup.trust_source(built).check.verdict == "mismatch"


def test_quantised_tensors_of_other_operators_are_refused():
    """And weights that are quantised alone."""
    content = model(
        Graph(
            [
                scaled("x", [4, 16]),
                scaled("y", [4, 16]),
                Tensor("f", "float32", [4, 16]),
                constant("kernel", integers(1, (8, 16), "int8"), scale=[0.01]),
                Tensor("z", "float32", [4, 8]),
                constant("axis", np.array([0], "int32")),
            ],
            [
                Node("CUMSUM", ["x", "axis"], ["y"], "CumsumOptions"),
                Node("FULLY_CONNECTED", ["f", "kernel", ""], ["z"], "FullyConnectedOptions"),
            ],
            ["x", "f"],
            ["y", "z"],
        )
    )
    with refused(
        LoweringError,
        "2 operators",
        "CUMSUM (operator 0",
        "quantised",
        "FULLY_CONNECTED",
        "dynamic",
    ):
        from_tflite(content)
