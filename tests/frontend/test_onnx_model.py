"""ONNX models: what is imported agrees with onnxruntime, what cannot be is named."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from refusals import refused

pytest.importorskip("onnx", reason="needs relax-tapml[onnx]")
pytest.importorskip("onnxruntime", reason="needs relax-tapml[onnx]")

import onnx
from onnx import TensorProto, helper
from onnx_graphs import branch, model, network, node, value, weights

from relax_tapml.errors import LoweringError, StoreError, UsageError
from relax_tapml.frontend.load.load_model import load_model
from relax_tapml.frontend.onnx_model import from_onnx
from relax_tapml.passes.notes import notes_of
from relax_tapml.passes.site import origins_of

X = np.linspace(-2, 2, 12, dtype="float32").reshape(3, 4)


@pytest.fixture
def agrees(run_on_llvm):
    """Import a graph, run it on llvm, and compare each output with onnxruntime's."""

    def check(graph, samples=None, tolerance=1e-5, **options):
        imported = from_onnx(graph, samples=samples, **options)
        for sample, outputs in zip(imported.samples, run_on_llvm(imported), strict=True):
            expected = imported.reference(sample)
            assert len(outputs) == len(expected)
            for got, want in zip(outputs, expected, strict=True):
                assert (got.dtype, got.shape) == (want.dtype, want.shape)
                np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
        return imported

    return check


def shown(imported):
    return imported.module.script()


def test_a_network_agrees_with_onnxruntime(agrees):
    """Its sizes are told, larger weights are parameters by name, nodes keep their names."""
    imported = agrees(network())
    assert list(imported.params) == ["fc_weight"]
    assert imported.samples[0].arrays[0].shape == (1, 2, 6, 6)
    assert any("batch=1" in note.text for note in notes_of(imported.module))
    assert any("drawn" in note.text for note in notes_of(imported.module))


def test_arithmetic_on_shapes_is_folded():
    assert "shape" not in shown(from_onnx(network())).replace("R.shape", "").replace("reshape", "")


def test_nodes_are_the_origins_of_calls(tmp_path):
    from relax_tapml.partition.lower import lower
    from relax_tapml.passes.annotate_sites import annotated_calls

    lowered = lower(from_onnx(network()).module)
    found = {origin.text for _, call in annotated_calls(lowered) for origin in origins_of(call)}
    assert {"conv:Conv", "act:Relu", "fc:Gemm"} <= found


def test_several_sizes_keep_a_dimension_symbolic(agrees):
    imported = agrees(network(), dims={"batch": (1, 3)})
    assert [sample.arrays[0].shape[0] for sample in imported.samples] == [1, 3]
    assert "batch" in shown(imported)


def test_samples_decide_the_sizes(agrees):
    samples = [{"image": np.ones((n, 2, 6, 6), "float32")} for n in (2, 2)]
    imported = agrees(network(), samples=samples)
    assert "batch" not in shown(imported)
    assert notes_of(imported.module) == []


def test_a_name_of_no_dimension_lists_those_of_the_model():
    with refused(UsageError, "no dimension", "tokens", "it has batch", "float32 image[batch, 2,"):
        from_onnx(network(), dims={"tokens": 3})


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"picture": np.ones((1, 2, 6, 6), "float32")}, ["image[batch, 2, 6, 6]", "picture"]),
        ({"image": np.ones((1, 2, 6, 6))}, ["'image'", "expected float32", "float64"]),
        ({"image": np.ones((2, 6, 6), "float32")}, ["'image'", "4 dimensions", "got 3"]),
        ({"image": np.ones((1, 3, 6, 6), "float32")}, ["'image'", "2 in dimension 1", "got 3"]),
    ],
)
def test_inputs_are_checked_before_the_import(arrays, named, monkeypatch):
    monkeypatch.setattr("relax_tapml.frontend._onnx.fold.fold", None)
    with refused(UsageError, *named):
        from_onnx(network(), samples=[arrays])


def test_dimensions_without_a_name_are_called_by_input_and_axis(agrees):
    graph = model([node("Relu", ["x"], ["y"])], [value("x", "float32", [None, 3, "?"])], ["y"])
    imported = agrees(graph, dims={"x.2": 5})
    assert imported.samples[0].arrays[0].shape == (1, 3, 5)


def test_a_dimension_may_be_an_expression_of_others(agrees):
    graph = model(
        [node("Concat", ["past", "new"], ["all"], axis=1), node("Mul", ["all", "mask"], ["y"])],
        [
            value("past", "float32", [1, "past"]),
            value("new", "float32", [1, 2]),
            value("mask", "float32", [1, "past + 2"]),
        ],
        ["y"],
    )
    agrees(graph, dims={"past": (3, 5)})
    ones = np.ones((1, 4), "float32")
    with refused(UsageError, "past + 2 = 6", "got 4"):
        from_onnx(graph, samples=[[ones, ones[:, :2], ones]])


def test_initializers_that_are_inputs_keep_the_value_of_the_file(agrees):
    graph = model(
        [node("Add", ["x", "w"], ["y"])],
        [value("x", "float32", [3, 4]), value("w", "float32", [4])],
        ["y"],
        {"w": np.arange(4, dtype="float32")},
    )
    assert len(agrees(graph).samples[0].arrays) == 1


def test_outputs_may_be_several_inputs_constants_or_shapes(agrees):
    graph = model(
        [
            node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2),
            node("MaxPool", ["image"], ["pooled"], kernel_shape=[2, 2]),
            node("Shape", ["x"], ["shape"]),
        ],
        [value("x", "float32", ["n", 4]), value("image", "float32", [1, 1, 4, 4])],
        ["b", "a", "pooled", value("x", "float32", ["n", 4]), "shape", value("c", "int64", [3])],
        {"c": np.arange(3)},
    )
    agrees(graph, dims={"n": 2})
    agrees(graph, dims={"n": (2, 3)})


def test_optional_inputs_may_be_left_out(agrees):
    graph = model(
        [node("Clip", ["x", "", "high"], ["y"])],
        [value("x", "float32", [3, 4])],
        ["y"],
        {"high": np.float32(0.5)},
    )
    agrees(graph)


def test_float16_is_summed_as_onnxruntime_does(agrees):
    graph = model(
        [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "b"], ["y"])],
        [value("x", "float16", [4, 32])],
        ["y"],
        {"w": weights(1, 32, 8, dtype="float16"), "b": weights(2, 8, dtype="float16")},
    )
    agrees(graph, tolerance=4e-3)


def test_quantized_models_agree(agrees):
    scales = {"s": np.float32(0.02), "z": np.int8(3), "ws": weights(4, 8) ** 2 + np.float32(0.01)}
    graph = model(
        [
            node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            node("DequantizeLinear", ["w", "ws"], ["dw"], axis=1),
            node("MatMul", ["d", "dw"], ["y"]),
        ],
        [value("x", "float32", [4, 64])],
        ["y"],
        {**scales, "w": np.random.default_rng(0).integers(-128, 127, (64, 8)).astype("int8")},
    )
    assert list(agrees(graph).params) == ["w"]


def test_integers_are_drawn_below_the_length_of_the_table_they_index(agrees):
    graph = model(
        [node("Gather", ["table", "ids"], ["y"])],
        [value("ids", "int64", ["batch", "tokens"])],
        ["y"],
        {"table": weights(1, 500, 4)},
    )
    (sample,) = agrees(graph).samples
    assert 250 < sample.arrays[0].max() < 500


def test_negative_indices_count_from_the_end(agrees):
    graph = model(
        [node("Gather", ["x", "at"], ["y"], axis=1)],
        [value("x", "float32", [3, 4]), value("at", "int64", [2])],
        ["y"],
    )
    agrees(graph, samples=[[X, np.array([-1, -4])]])


def conditional(condition, **more):
    return model(
        [
            node(
                "If",
                [condition],
                ["y"],
                "choose",
                then_branch=branch("then", [node("Exp", ["x"], ["t"])], "t"),
                else_branch=branch("else", [node("Add", ["x", "x"], ["t"])], "t"),
            )
        ],
        [value("x", "float32", [3, 4]), *more.pop("inputs", [])],
        ["y"],
        **more,
    )


def test_a_constant_condition_chooses_its_branch(agrees):
    imported = agrees(conditional("c", weights={"c": np.array(False)}))
    assert "R.add" in shown(imported)
    assert "R.exp" not in shown(imported)


@pytest.mark.parametrize("shape", [[], [1]])
def test_a_condition_that_is_computed_chooses_a_result(agrees, shape):
    graph = conditional("c", inputs=[value("c", "bool", shape)])
    samples = [[X, np.full(shape, which)] for which in (True, False)]
    agrees(graph, samples=samples)


def test_a_branch_that_cannot_have_these_sizes_is_left_out(agrees):
    shapes = {"five": np.array([5, 2]), "six": np.array([6, 2])}
    graph = model(
        [
            node(
                "If",
                ["c"],
                ["y"],
                "choose",
                then_branch=branch("then", [node("Reshape", ["x", "five"], ["t"])], "t"),
                else_branch=branch("else", [node("Reshape", ["x", "six"], ["t"])], "t"),
            )
        ],
        [value("x", "float32", [3, 4]), value("c", "bool", [])],
        ["y"],
        shapes,
    )
    imported = agrees(graph, samples=[[X, np.array(False)]])
    assert any("then_branch of node 'choose'" in note.text for note in notes_of(imported.module))


def test_sizes_that_a_node_cannot_have_are_refused_with_the_node():
    graph = model(
        [node("Reshape", ["x", "shape"], ["y"], "/view")],
        [value("x", "float32", ["n", 4])],
        ["y"],
        {"shape": np.array([5, -1])},
    )
    with refused(UsageError, "'/view' (Reshape, opset 18; inputs: x: float32 [3, 4]", "--dim"):
        from_onnx(graph, dims={"n": 3})


def test_all_operators_that_cannot_be_imported_are_listed():
    graph = model(
        [
            node("Loudness", ["x"], ["a"], "first", domain="com.acme"),
            node("Loudness", ["a"], ["b"], "second", domain="com.acme"),
            node("Relu", ["b"], ["r"]),
            node("StringNormalizer", ["s"], ["t"], "third"),
            node("SequenceConstruct", ["r", "b"], ["q"], "fourth"),
            node("SequenceAt", ["q", "one"], ["y"], "fifth"),
        ],
        [value("x", "float32", [3, 4])],
        [value("y", "float32", [3, 4]), value("t", "str", [1])],
        {"one": np.array(1), "s": np.array(["a"], object)},
        com_acme=1,
    )
    with refused(
        LoweringError,
        "4 operators",
        "com.acme::Loudness, StringNormalizer, SequenceConstruct, SequenceAt",
        "'first' (com.acme::Loudness, domain version 1; inputs: x: float32 [3, 4]) and 1 more",
        "'third'",
        "'fourth'",
        "sequences",
        "convert_map",
    ):
        from_onnx(graph)


def test_a_converter_may_be_given(agrees, run_on_llvm):
    from tvm import relax

    graph = model(
        [node("Twice", ["x"], ["y"], domain="com.acme")],
        [value("x", "float32", [3, 4])],
        [value("y", "float32", [3, 4])],
        com_acme=1,
    )
    convert = {"com.acme::Twice": lambda call: relax.op.add(call.inputs[0], call.inputs[0])}
    imported = from_onnx(graph, samples=[[X]], convert_map=convert)
    np.testing.assert_array_equal(run_on_llvm(imported)[0][0], X + X)


def test_a_converter_of_another_type_is_found_with_its_node():
    from tvm import relax

    wrong = {"Relu": lambda call: relax.op.astype(call.inputs[0], "float16")}
    with refused(LoweringError, "'/act/Relu' (Relu", "'r'", "expected float32, got float16"):
        from_onnx(network(), convert_map=wrong)


def test_functions_of_the_file_are_replaced_by_their_nodes(agrees):
    graph = model(
        [node("Twice", ["x"], ["y"], domain="com.acme")],
        [value("x", "float32", [3, 4])],
        [value("y", "float32", [3, 4])],
        com_acme=1,
    )
    opsets = [helper.make_opsetid("", 18)]
    body = [node("Add", ["a", "a"], ["b"])]
    graph.functions.append(helper.make_function("com.acme", "Twice", ["a"], ["b"], body, opsets))
    agrees(graph)


def test_operators_that_onnx_defines_by_others_are_replaced(agrees):
    graph = model([node("Celu", ["x"], ["y"], alpha=2.0)], [value("x", "float32", [3, 4])], ["y"])
    agrees(graph, samples=[[X]])


def test_names_of_an_inlined_branch_are_no_other_values_names(agrees):
    graph = model(
        [
            node("Mul", ["x", "x"], ["p/t"]),
            node(
                "If",
                ["c"],
                ["p"],
                then_branch=branch(
                    "then",
                    [node("Sin", ["x"], ["t"]), node("Add", ["x", "t"], ["o1"])],
                    "o1",
                ),
                else_branch=branch("else", [node("Exp", ["x"], ["o2"])], "o2"),
            ),
            node("Sub", ["p", "p/t"], ["y"]),
        ],
        [value("x", "float32", [3, 4])],
        ["y"],
        {"c": np.array(True)},
    )
    imported = agrees(graph, samples=[[X]])
    np.testing.assert_allclose(
        imported.accurate(imported.samples[0])[0], X + np.sin(X) - X * X, atol=1e-5
    )


def test_a_folded_graph_that_differs_from_the_file_is_no_accurate_run():
    imported = from_onnx(network())
    (sample,) = imported.samples
    for tensor in imported.accurate._folded.model.graph.initializer:
        if tensor.name == "fc.bias":
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights(9, 5), "fc.bias"))
    with pytest.raises(RuntimeError, match="computes something else than the file"):
        imported.accurate(sample)


def test_division_of_dimensions_rounds_to_zero(agrees):
    """3 - 6 divided by 2 is -1 in ONNX, and -2 rounded down."""
    numbers = {"at": np.array([0]), "six": np.array([6]), "two": np.array([2])}
    graph = model(
        [
            node("Shape", ["x"], ["shape"]),
            node("Gather", ["shape", "at"], ["n"]),
            node("Sub", ["n", "six"], ["less"]),
            node("Div", ["less", "two"], ["y"]),
        ],
        [value("x", "float32", ["n", 4])],
        ["y"],
        numbers,
    )
    agrees(graph, dims={"n": (3, 9)})


def test_nodes_without_their_first_output_are_judged_and_bfloat16_is_not():
    graph = model(
        [
            node("LSTM", ["x", "w", "r"], ["", "h"], "layer", hidden_size=2),
            node("Cast", ["h"], ["half"], "narrow", to=TensorProto.BFLOAT16),
            node("Cast", ["half"], ["wide"], "wide", to=TensorProto.FLOAT),
            node("Relu", ["wide"], ["y"], "last"),
        ],
        [value("x", "float32", [3, 1, 2])],
        ["y"],
        {"w": weights(1, 1, 8, 2), "r": weights(2, 1, 8, 2)},
    )
    imported = from_onnx(graph)
    (found,) = imported.graphs(imported.samples[0])
    assert [call.node.name for call in found.calls()] == ["layer", "last"]
    assert [call.node.name for call in found.calls(is_whole=True)] == ["layer", "last"]
    assert set(found.unjudged) == {"narrow", "wide"}


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(
    ("direction", "options"),
    [
        ("forward", {}),
        ("reverse", {"lengths": True}),
        ("bidirectional", {"linear_before_reset": 1, "lengths": True}),
    ],
)
def test_recurrent_layers_agree(agrees, operator, direction, options):
    steps, batch, width, hidden = 3, 2, 4, 8
    count = {"LSTM": 4, "GRU": 3, "RNN": 1}[operator]
    ways = 2 if direction == "bidirectional" else 1
    has_lengths = options.pop("lengths", False)
    attributes = options if operator == "GRU" else {}
    names = ["x", "w", "r", "b", "lengths" if has_lengths else "", "h"]
    given = {
        "w": weights(1, ways, count * hidden, width),
        "r": weights(2, ways, count * hidden, hidden),
        "b": weights(3, ways, 2 * count * hidden),
        "lengths": np.array([3, 1], "int32"),
        "h": weights(4, ways, batch, hidden),
    }
    outputs = ["y", "y_h", "y_c"][: 3 if operator == "LSTM" else 2]
    if operator == "LSTM":
        names += ["c", "p"]
        given |= {"c": weights(5, ways, batch, hidden), "p": weights(6, ways, 3 * hidden)}
    graph = model(
        [node(operator, names, outputs, direction=direction, hidden_size=hidden, **attributes)],
        [value("x", "float32", [steps, batch, width])],
        outputs,
        {name: array for name, array in given.items() if name in names},
    )
    agrees(graph)


def test_too_many_steps_are_refused():
    graph = model(
        [node("RNN", ["x", "w", "r"], ["y"], "layer", hidden_size=2)],
        [value("x", "float32", [600, 1, 2])],
        ["y"],
        {"w": weights(1, 1, 2, 2), "r": weights(2, 1, 2, 2)},
    )
    with refused(LoweringError, "'layer' (RNN", "600 steps", "at most 512"):
        from_onnx(graph)


def test_external_data_lies_beside_the_file(tmp_path, agrees):
    file = tmp_path / "net.onnx"
    onnx.save(network(), file, save_as_external_data=True, size_threshold=0, location="net.bin")
    agrees(file)
    (tmp_path / "net.bin").write_bytes(b"short")
    with refused(StoreError, "net.bin", "too short"):
        from_onnx(file)


def test_external_data_elsewhere_is_refused(tmp_path):
    graph = network()
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    (tmp_path / "net.onnx").write_bytes(graph.SerializeToString())
    with refused(StoreError, "net.onnx names '../../etc/passwd'", "outside"):
        from_onnx(tmp_path / "net.onnx")


def outside(tensor, **entries):
    """Make the data of a tensor that of a file."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=str(text))
    return tensor


def test_external_data_of_functions_and_branches_is_read_beside_the_file(tmp_path, agrees):
    def number(made):
        tensor = onnx.numpy_helper.from_array(np.ones(4, "float32"), "one")
        return node("Constant", [], [made], value=outside(tensor, location="one.bin"))

    body = [number("k"), node("Add", ["a", "k"], ["b"])]
    inner = branch("then", [number("k2"), node("Add", ["x", "k2"], ["t"])], "t")
    other = branch("else", [node("Exp", ["x"], ["e"])], "e")
    graph = helper.make_graph(
        [
            node("Plus", ["x"], ["z"], domain="own"),
            node("If", ["c"], ["w"], then_branch=inner, else_branch=other),
            node("Mul", ["z", "w"], ["y"]),
        ],
        "tiny",
        [value("x", "float32", [3, 4]), value("c", "bool", [])],
        [value("y", "float32", [3, 4])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    plus = helper.make_function("own", "Plus", ["a"], ["b"], body, opsets[:1])
    made = helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=[plus])
    file = tmp_path / "net.onnx"
    file.write_bytes(made.SerializeToString())
    (tmp_path / "one.bin").write_bytes(np.full(4, 3, "float32").tobytes())
    imported = agrees(file, samples=[[X, np.array(True)]])
    (found,) = imported.reference(imported.samples[0])
    np.testing.assert_allclose(found, (X + 3) * (X + 3), rtol=1e-6)
    with refused(UsageError, "'one'", "in another file", "path"):
        from_onnx(made)


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({"offset": "many"}, "expected a number"),
        ({"offset": -4}, "expected a number"),
        ({"length": -1}, "expected a number"),
        ({"length": 1 << 60}, "too short"),
        ({"offset": 1 << 40, "length": 4}, "too short"),
    ],
)
def test_places_in_external_data_are_checked(tmp_path, entries, named):
    graph = network()
    outside(graph.graph.initializer[0], location="net.bin", **entries)
    (tmp_path / "net.onnx").write_bytes(graph.SerializeToString())
    (tmp_path / "net.bin").write_bytes(bytes(64))
    with refused(StoreError, "net.", named):
        from_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a // 0", "divides by zero"),
        ("a - 5", "would be -4"),
        ("+".join(["a"] * 5000), "at most 512"),
        ("(" * 300 + "a" + ")" * 200, None),
        ("+".join(["a"] * 250), None),
    ],
)
def test_dimensions_that_are_no_sizes_are_refused(text, named):
    inputs = [value("b", "float32", ["a"]), value("x", "float32", [text])]
    graph = model([node("Relu", ["x"], ["y"])], inputs, ["y"])
    if named is None:
        assert from_onnx(graph, dims={"a": 1} if "+" in text else None).samples
        return
    with refused(UsageError, "dimension", named):
        from_onnx(graph, dims={"a": 1})


def test_sizes_are_integers():
    assert from_onnx(network(), dims={"batch": np.int64(2)}).samples[0].arrays[0].shape[0] == 2
    for wrong in (2.5, "2", (1, None)):
        with refused(UsageError, "dimension batch", "integers"):
            from_onnx(network(), dims={"batch": wrong})


def test_a_file_on_the_command_line_takes_named_inputs(tmp_path):
    onnx.save(network(), tmp_path / "net.onnx")
    np.savez(tmp_path / "one.npz", image=np.ones((2, 2, 6, 6), "float32"))
    loaded = load_model(str(tmp_path / "net.onnx"), inputs=[tmp_path / "one.npz"])
    assert (loaded.name, loaded.samples[0].name) == ("net", "one.npz")
    assert loaded.samples[0].arrays[0].shape == (2, 2, 6, 6)
    with refused(UsageError, "one.npz: batch is 2", "--dim says 1"):
        load_model(str(tmp_path / "net.onnx"), inputs=[tmp_path / "one.npz"], dims={"batch": (1,)})


@pytest.mark.parametrize("content", [b"version https://git-lfs\n", b"", bytes(64)])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    with refused(StoreError, "net.onnx is not an ONNX model"):
        from_onnx(tmp_path / "net.onnx")


def test_without_its_packages_the_command_that_installs_them_is_named(monkeypatch, tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with refused(UsageError, "onnxruntime", "pip install 'relax-tapml[onnx]'"):
        load_model(str(tmp_path / "net.onnx"))


def test_sizes_for_another_kind_of_model_are_refused():
    with refused(UsageError, "--dim batch is for model.onnx", "not for model minilm"):
        load_model("minilm", dims={"batch": (1,)})


def test_a_more_accurate_run_is_in_float64():
    """Also where onnxruntime has no kernel for that: convolutions."""
    imported = from_onnx(network())
    (sample,) = imported.samples
    (wide,), (plain,) = imported.accurate(sample), imported.reference(sample)
    assert wide.dtype == np.float64
    np.testing.assert_allclose(plain, wide, rtol=0, atol=1e-5)
    assert not np.array_equal(plain, wide.astype("float32").astype("float64"))


def test_a_model_of_a_package_agrees_with_real_weights_and_inputs(agrees):
    """Magika, which tells the types of files: this one is Python."""
    found = find_spec("magika")
    if found is None or found.origin is None:
        pytest.skip("needs the package magika, for its weights")
    folder = Path(found.origin).parent / "models" / "standard_v3_3"
    content = Path(__file__).read_bytes().strip()
    tokens = np.array([[*content[:1024], *content[-1024:]]], "int32")
    imported = agrees(folder / "model.onnx", samples=[{"bytes": tokens}])
    labels = json.loads((folder / "config.min.json").read_text())["target_labels_space"]
    (scores,) = imported.reference(imported.samples[0])
    assert labels[int(scores.argmax())] == "python"
