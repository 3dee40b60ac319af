"""The reference of a quantised ONNX model is exact on every processor."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs relax-tapml[onnx]")
pytest.importorskip("onnxruntime", reason="needs relax-tapml[onnx]")

import onnx
from onnx_graphs import model, node, value

from relax_tapml.frontend._onnx.exact_products import with_exact_products
from relax_tapml.frontend._onnx.nodes import all_nodes
from relax_tapml.frontend._onnx.runtime import run_model

DTYPES = ("uint8", "int8")
PAIRS = list(itertools.product(DTYPES, DTYPES))


def extreme(seed, dtype, *shape):
    """Values near the ends, whose products saturate 16 bits in pairs."""
    limits = np.iinfo(dtype)
    chosen = np.random.default_rng(seed).choice([limits.min, limits.max, limits.max - 1], shape)
    return chosen.astype(dtype)


def is_mixed(graph):
    """Whether a product has operands of two signs, as ONNX infers types."""
    inferred = onnx.shape_inference.infer_shapes(graph)
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    types = {one.name: one.type.tensor_type.elem_type for one in values}
    types |= {tensor.name: tensor.data_type for tensor in inferred.graph.initializer}
    places = {"MatMulInteger": (0, 1), "ConvInteger": (0, 1)}
    return any(
        len({types[one.input[at]] for at in places.get(one.op_type, (0, 3))}) > 1
        for one in all_nodes(inferred.graph)
        if one.op_type in (*places, "QLinearMatMul", "QLinearConv")
    )


@pytest.mark.parametrize("zeros", [False, True], ids=["without zero points", "with zero points"])
@pytest.mark.parametrize("is_constant", [False, True], ids=["computed", "constant"])
@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_products_of_integers_are_exact(left, right, is_constant, zeros):
    a, b = extreme(1, left, 3, 64), extreme(2, right, 64, 5)
    constants = {"b": b} if is_constant else {}
    names = ["a", "b"]
    before = [] if is_constant else [node("Identity", ["right"], ["b"], "id")]
    if zeros:
        constants |= {"az": np.array(3, left), "bz": np.array(7, right)}
        names += ["az", "bz"]
    inputs = [value("a", left, [3, 64])]
    inputs += [] if is_constant else [value("right", right, [64, 5])]
    graph = model([*before, node("MatMulInteger", names, ["y"])], inputs, ["y"], constants)
    feeds = {"a": a} if is_constant else {"a": a, "right": b}
    za, zb = (3, 7) if zeros else (0, 0)
    want = (a.astype("int64") - za) @ (b.astype("int64") - zb)
    np.testing.assert_array_equal(run_model(graph, feeds)[0], want)
    assert not is_mixed(with_exact_products(graph))


@pytest.mark.parametrize(("left", "right"), PAIRS[:2] + PAIRS[3:])  # It has no int8 with uint8.
def test_convolutions_of_integers_are_exact(left, right):
    """With padding, which is the zero point, and each channel's own scale."""
    x, w = extreme(1, left, 1, 8, 5, 5), extreme(2, right, 4, 8, 3, 3)
    constants = {
        "w": w,
        "one": np.float32(1),
        "scales": np.array([1, 2, 4, 8], "float32"),
        "xz": np.array(5, left),
        "wz": np.full(4, 0, right),
        "ys": np.float32(4096),
        "yz": np.array(9, left),
    }
    names = ["x", "one", "xz", "w", "scales", "wz", "ys", "yz"]
    graph = model(
        [node("QLinearConv", names, ["y"], pads=[1, 1, 1, 1])],
        [value("x", left, [1, 8, 5, 5])],
        ["y"],
        constants,
    )
    padded = np.pad(x.astype("int64") - 5, ((0, 0), (0, 0), (1, 1), (1, 1)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    sums = np.einsum("nchwij,ocij->nohw", views, w.astype("int64"))
    scaled = np.rint(sums * constants["scales"][:, None, None] / 4096) + 9
    limits = np.iinfo(left)
    want = np.clip(scaled, limits.min, limits.max)
    np.testing.assert_array_equal(run_model(graph, {"x": x})[0], want)
    assert not is_mixed(with_exact_products(graph))
