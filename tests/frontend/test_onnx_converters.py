"""Converters in place of TVM's agree with onnxruntime where TVM's do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

pytest.importorskip("onnx", reason="needs relax-tapml[onnx]")
pytest.importorskip("onnxruntime", reason="needs relax-tapml[onnx]")

import onnx
from onnx_graphs import model, node, value, weights

from relax_tapml.errors import LoweringError, StoreError
from relax_tapml.frontend._onnx.convolution import convolution, transposed_convolution
from relax_tapml.frontend._onnx.runtime import run_model
from relax_tapml.frontend.onnx_model import from_onnx

IMAGE = weights(5, 1, 2, 5, 6)
INF = np.inf


@pytest.fixture
def agrees(run_on_llvm):
    """Import a graph, run it on llvm, and compare each output with onnxruntime's."""

    def check(graph, samples=None, **options):
        imported = from_onnx(graph, samples=samples, **options)
        for sample, outputs in zip(imported.samples, run_on_llvm(imported), strict=True):
            for got, want in zip(outputs, imported.reference(sample), strict=True):
                assert (got.dtype, got.shape) == (want.dtype, want.shape)
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        return imported

    return check


def unary(operator, x, constants=None, opset=18, **attributes):
    given = constants or {}
    kind = value("x", x.dtype.name, list(x.shape))
    names = [name if name in given else "" for name in given]
    return model([node(operator, ["x", *names], ["y"], **attributes)], [kind], ["y"], given, opset)


@pytest.mark.parametrize(
    ("scales", "options"),
    [
        ([1, 1, 0.6, 1.5], {"mode": "linear"}),
        ([1, 1, 2, 2], {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
        ([1, 1, 0.6, 1.7], {"mode": "nearest", "nearest_mode": "round_prefer_ceil"}),
        ([1, 1, 1.4, 0.7], {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1}),
        ([1, 1, 2, 2], {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
        ([1, 1, 0.5, 0.5], {"mode": "linear", "antialias": 1}),
    ],
)
def test_resize_goes_by_the_scale(agrees, scales, options):
    """Not by the ratio of the sizes, which a scale of 0.6 does not give."""
    graph = model(
        [node("Resize", ["x", "", "scales"], ["y"], **options)],
        [value("x", "float32", list(IMAGE.shape))],
        ["y"],
        {"scales": np.array(scales, "float32")},
    )
    agrees(graph, samples=[[IMAGE]])


def test_resize_keeps_the_aspect_ratio(agrees):
    graph = model(
        [
            node(
                "Resize",
                ["x", "", "", "sizes"],
                ["y"],
                axes=[2, 3],
                keep_aspect_ratio_policy="not_larger",
            )
        ],
        [value("x", "float32", list(IMAGE.shape))],
        ["y"],
        {"sizes": np.array([7, 7])},
    )
    agrees(graph, samples=[[IMAGE]])


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize(("operator", "edge"), [("ReduceMax", -INF), ("ReduceMin", INF)])
def test_extremes_of_infinities_are_infinite(agrees, operator, edge, keepdims):
    x = np.array([[[edge, edge], [1, edge]], [[edge, 2], [3, 4]]], "float32")
    agrees(unary(operator, x, {"axes": np.array([-1])}, keepdims=keepdims), samples=[[x]])


def test_sums_of_nothing_are_zero(agrees):
    x = np.empty((2, 0), "float32")
    graph = model(
        [node("ReduceSum", ["x", "axes"], ["s"]), node("Add", ["s", "b"], ["y"])],
        [value("x", "float32", [2, 0]), value("b", "float32", [2, 1])],
        ["y"],
        {"axes": np.array([1])},
    )
    agrees(graph, samples=[[x, np.ones((2, 1), "float32")]])


def test_infinities_have_a_sign(agrees):
    x = np.array([INF, -INF, 1, np.nan], "float32")
    for options in ({"detect_negative": 0}, {"detect_positive": 0}, {}):
        agrees(unary("IsInf", x, **options), samples=[[x]])


def test_boxes_at_the_threshold_are_kept(agrees):
    boxes = np.array([[[0, 0, 1, 1], [0, 0.5, 1, 1.5]]], "float32")
    graph = model(
        [node("NonMaxSuppression", ["x", "scores", "most", "overlap"], ["y"])],
        [value("x", "float32", [1, 2, 4]), value("scores", "float32", [1, 1, 2])],
        ["y"],
        {"most": np.array([3]), "overlap": np.float32(1 / 3)},
    )
    agrees(graph, samples=[[boxes, np.array([[[0.9, 0.8]]], "float32")]])


def test_shapes_with_symbolic_dimensions_are_followed(agrees):
    """Through arithmetic, a comparison with -1, and a slice to the end."""
    graph = model(
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "zero"], ["n"]),
            node("Gather", ["s", "one"], ["w"]),
            node("Mul", ["n", "w"], ["m"]),
            node("Unsqueeze", ["m", "axis"], ["u"]),
            node("Concat", ["u", "minus"], ["t"], axis=0),
            node("Reshape", ["x", "t"], ["flat"]),
            node("Slice", ["flat", "one_", "end", "axis"], ["cut"]),
            node("Unsqueeze", ["n", "axis"], ["rows"]),
            node("Concat", ["rows", "minus"], ["wide"], axis=0),
            node("Equal", ["wide", "minus"], ["is"]),
            node("Where", ["is", "ones", "wide"], ["target"]),
            node("Expand", ["b", "target"], ["grown"]),
            node("ReduceSum", ["cut"], ["total"], keepdims=0),
            node("Add", ["grown", "total"], ["y"]),
        ],
        [value("x", "float32", ["n", 3, 4]), value("b", "float32", [1, 5])],
        ["y"],
        {
            "zero": np.array(0),
            "one": np.array(1),
            "one_": np.array([1]),
            "axis": np.array([0]),
            "end": np.array([2**63 - 1]),
            "minus": np.array([-1]),
            "ones": np.array([1, 1]),
        },
    )
    imported = agrees(graph, dims={"n": (2, 3)})
    assert imported.samples[1].arrays[0].shape == (3, 3, 4)


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (
            unary("Cast", IMAGE, to=onnx.TensorProto.FLOAT8E5M2, opset=19),
            "float8",
        ),
        (
            model(
                [node("Expand", ["x", "shape"], ["y"])],
                [value("x", "float32", [1, 3]), value("shape", "int64", [2])],
                ["y"],
            ),
            "the shape is computed",
        ),
        (
            unary("Slice", IMAGE, opset=9, starts=[0], ends=[1], axes=[2]),
            "in opset 9 it had other attributes; convert the model",
        ),
    ],
)
def test_what_would_be_wrong_is_refused_with_its_node(graph, reason):
    with refused(LoweringError, "node 'y'", "opset", "inputs: x", reason):
        from_onnx(graph)


@settings(max_examples=25)
@given(
    size=st.tuples(st.integers(3, 7), st.integers(3, 7)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 1)] * 4),
    dilation=st.integers(1, 2),
    group=st.sampled_from([1, 2]),
    is_transposed=st.booleans(),
)
def test_convolutions_in_float64_are_those_of_onnxruntime(
    size, kernel, stride, pads, dilation, group, is_transposed
):
    extents = [(k - 1) * dilation + 1 for k in kernel]
    if any(n + a + b < e for n, a, b, e in zip(size, pads[:2], pads[2:], extents, strict=True)):
        return
    x = weights(1, 2, 4, *size)
    w = weights(2, *((4, 6 // group) if is_transposed else (6, 4 // group)), *kernel)
    attributes = {
        "strides": stride,
        "pads": pads,
        "dilations": (dilation, dilation),
        "group": group,
    }
    operator = "ConvTranspose" if is_transposed else "Conv"
    compute = transposed_convolution if is_transposed else convolution
    graph = unary(operator, x, {"w": w, "b": weights(3, 6)}, **attributes)
    try:
        (want,) = run_model(graph, {"x": x})
    except Exception:  # It has no result, or none that onnxruntime computes.
        return
    got = compute([x.astype("float64"), w, weights(3, 6)], attributes)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def integers(seed, dtype, *shape):
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max, shape, dtype)


def test_quantised_convolutions_agree(agrees):
    """With padding, groups, a bias, and a scale and a zero point for each channel."""
    graph = model(
        [
            node(
                "QLinearConv",
                ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"],
                ["y"],
                pads=[1, 0, 1, 2],
                group=2,
            )
        ],
        [value("x", "uint8", [1, 4, 6, 5])],
        ["y"],
        {
            "xs": np.float32(0.02),
            "xz": np.uint8(121),
            "w": integers(1, "int8", 6, 2, 3, 3),
            "ws": np.linspace(0.01, 0.03, 6, dtype="float32"),
            "wz": np.zeros(6, "int8"),
            "ys": np.float32(0.6),
            "yz": np.uint8(7),
            "b": np.arange(-300, 300, 100, dtype="int32"),
        },
    )
    agrees(graph, samples=[[integers(2, "uint8", 1, 4, 6, 5)]])


def test_powers_may_have_another_dtype(agrees):
    x = np.array([0.5, 2, 3], "float32")
    agrees(unary("Pow", x, {"by": np.array([2, 3, -1])}), samples=[[x]])


def test_one_hot_counts_from_the_end(agrees):
    x = np.array([[0, -1], [2, 9]])
    constants = {"depth": np.array(4), "values": np.array([-1, 3], "float32")}
    agrees(unary("OneHot", x, constants, axis=1), samples=[[x]])


def test_layer_norms_return_their_statistics(agrees):
    graph = model(
        [node("LayerNormalization", ["x", "w"], ["y", "mean", "inverse"], axis=2)],
        [value("x", "float32", [1, 2, 5, 6])],
        ["y", "mean", "inverse"],
        {"w": weights(1, 5, 6)},
    )
    agrees(graph, samples=[[IMAGE]])


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 15, 17])
def test_operators_of_old_opsets_are_imported(agrees, opset):
    """Where their form has not changed, whatever their inputs were called."""
    graph = model(
        [
            node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
            node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"], epsilon=1e-3),
            node("Relu", ["n"], ["r"]),
            node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2]),
            node("GlobalAveragePool", ["p"], ["g"]),
            node("Flatten", ["g"], ["f"]),
            node("Gemm", ["f", "k", "b"], ["l"]),
            node("Softmax", ["l"], ["y"], axis=1),
        ],
        [value("x", "float32", [1, 2, 5, 6])],
        ["y"],
        {
            "w": weights(1, 3, 2, 3, 3),
            "k": weights(2, 3, 3),
            "v": np.full(3, 0.5, "float32"),
            **{name: weights(3, 3) for name in "sbm"},
        },
        opset=opset,
    )
    agrees(graph, samples=[[IMAGE]])


def test_old_slopes_belong_to_channels(run_on_llvm):
    """onnxruntime has no kernel of that version."""
    x, slope = weights(1, 1, 3, 4, 3), np.array([0.1, 0.2, 0.3], "float32")
    imported = from_onnx(unary("PRelu", x, {"slope": slope}, 6), samples=[[x]])
    expected = np.where(x < 0, x * slope[:, None, None], x)
    np.testing.assert_allclose(run_on_llvm(imported)[0][0], expected, rtol=1e-6)


def test_channels_may_come_first(run_on_llvm):
    """In mode CRD, which onnxruntime has no kernel for."""
    x = weights(1, 1, 2, 4, 6)
    graph = unary("SpaceToDepth", x, opset=13, blocksize=2)
    graph.graph.node[0].attribute.append(onnx.helper.make_attribute("mode", "CRD"))
    del graph.opset_import[:]
    graph.opset_import.append(onnx.helper.make_opsetid("", onnx.defs.onnx_opset_version()))
    try:
        imported = from_onnx(graph, samples=[[x]])
    except StoreError:
        pytest.skip("this onnx has no such mode")
    parts = x.reshape(1, 2, 2, 2, 3, 2).transpose(0, 1, 3, 5, 2, 4)
    np.testing.assert_array_equal(run_on_llvm(imported)[0][0], parts.reshape(1, 8, 2, 3))
