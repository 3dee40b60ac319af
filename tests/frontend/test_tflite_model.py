"""TFLite models: what is imported agrees with the interpreter, what cannot be is named."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from refusals import refused

pytest.importorskip("tflite", reason="needs relax-tapml[tflite]")
pytest.importorskip("ai_edge_litert", reason="needs relax-tapml[tflite]")

import tflite
from tflite_graphs import Graph, Node, Tensor, constant, model, network, weights

from relax_tapml.errors import LoweringError, StoreError, UsageError
from relax_tapml.frontend._tflite import converters
from relax_tapml.frontend.load.load_model import load_model
from relax_tapml.frontend.tflite_model import from_tflite
from relax_tapml.passes.notes import notes_of
from relax_tapml.passes.site import origins_of

X = np.linspace(-2, 2, 12, dtype="float32").reshape(3, 4)


@pytest.fixture
def agrees(run_on_llvm):
    """Import a file, run it on llvm, and compare each output with the interpreter's."""

    def check(content, samples=None, tolerance=1e-5, **options):
        imported = from_tflite(content, samples=samples, **options)
        for sample, outputs in zip(imported.samples, run_on_llvm(imported), strict=True):
            expected = imported.reference(sample)
            assert len(outputs) == len(expected)
            for got, want in zip(outputs, expected, strict=True):
                assert (got.dtype, got.shape) == (want.dtype, want.shape)
                np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
        return imported

    return check


def chain(*names, dtype="float32", shape=(3, 4)):
    """Return a model of operators with one input and one output each."""
    tensors = [Tensor(f"t{at}", dtype, shape) for at in range(len(names) + 1)]
    nodes = [Node(name, [f"t{at}"], [f"t{at + 1}"]) for at, name in enumerate(names)]
    return model(Graph(tensors, nodes, ["t0"], [f"t{len(names)}"]))


def test_a_network_agrees_with_the_interpreter(agrees):
    """Its inputs have the names of the signature, sizes are told, weights are parameters."""
    imported = agrees(network(), samples=[{"image": np.ones((1, 6, 6, 2), "float32")}])
    assert list(imported.params) == ["fc_kernel"]
    assert agrees(network(), dims={"image.0": 3}).samples[0].arrays[0].shape == (3, 6, 6, 2)
    assert any("image.0=1" in note.text for note in notes_of(from_tflite(network()).module))


def test_arithmetic_on_shapes_is_constant():
    text = from_tflite(network(), dims={"image.0": 2}).module.script()
    assert "R.shape([2, 288])" in text
    assert "strided_slice" not in text


def test_operators_are_the_origins_of_calls():
    """By the names of what they compute."""
    from relax_tapml.partition.lower import lower
    from relax_tapml.passes.annotate_sites import annotated_calls

    lowered = lower(from_tflite(network()).module)
    found = {origin.text for _, call in annotated_calls(lowered) for origin in origins_of(call)}
    assert {"net.conv:Relu", "net:flat", "net.fc:MatMul"} <= found


def test_several_sizes_of_a_dimension_are_refused():
    with refused(UsageError, "image.0", "1, 3", "no symbolic dimensions"):
        from_tflite(network(), dims={"image.0": (1, 3)})
    samples = [{"image": np.ones((n, 6, 6, 2), "float32")} for n in (1, 2)]
    with refused(UsageError, "image.0", "1, 2", "no symbolic dimensions"):
        from_tflite(network(), samples=samples)
    with refused(UsageError, "no dimension", "batch", "all of its sizes are fixed"):
        from_tflite(chain("ABS"), dims={"batch": 2})


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"picture": np.ones((1, 6, 6, 2), "float32")}, ["image[image.0, 6, 6, 2]", "picture"]),
        ({"image": np.ones((1, 6, 6, 2))}, ["'image'", "expected float32", "float64"]),
        ({"image": np.ones((6, 6, 2), "float32")}, ["'image'", "4 dimensions", "got 3"]),
        ({"image": np.ones((1, 6, 5, 2), "float32")}, ["'image'", "6 in dimension 2", "got 5"]),
    ],
)
def test_inputs_are_checked(arrays, named):
    with refused(UsageError, *named):
        from_tflite(network(), samples=[arrays])


def test_sizes_that_the_model_cannot_have_are_refused():
    """Here a reshape to a fixed size."""
    content = model(
        Graph(
            [
                Tensor("x", "float32", [1, 4], signature=[-1, 4]),
                constant("shape", np.array([4, 1], "int32")),
                Tensor("y", "float32", [4, 1]),
            ],
            [Node("RESHAPE", ["x", "shape"], ["y"])],
            ["x"],
            ["y"],
        )
    )
    with refused(UsageError, "cannot run", "x.0=3", "--dim"):
        from_tflite(content, dims={"x.0": 3})


def test_tensors_are_told_apart_without_names(agrees):
    tensors = [Tensor(f"|{at}", "float32", [3, 4]) for at in range(3)]
    nodes = [Node("ABS", ["|0"], ["|1"]), Node("NEG", ["|1"], ["|2"])]
    agrees(model(Graph(tensors, nodes, ["|0"], ["|2", "|1", "|0"])), samples=[[X]])


def test_all_operators_that_cannot_be_imported_are_listed():
    """Also those of the subgraphs that are used, with their tensors."""
    float_x, zero = Tensor("x", "float32", [3, 4]), constant("zero", np.float32(0))
    init = Graph(
        [Tensor("state", "resource"), zero, Tensor("r", "float32", [2])],
        [
            Node("VAR_HANDLE", [], ["state"], "VarHandleOptions"),
            Node("ASSIGN_VARIABLE", ["state", "zero"], [], "AssignVariableOptions"),
            Node("Mystery", ["zero"], ["r"]),
        ],
        [],
        [],
    )
    main = Graph(
        [
            float_x,
            *(Tensor(name, "float32", [3, 4]) for name in ("a", "b", "y")),
            Tensor("state", "resource"),
        ],
        [
            Node("CALL_ONCE", [], [], "CallOnceOptions", {"InitSubgraphIndex": 1}),
            Node("Loudness", ["x"], ["a"]),
            Node("Loudness", ["a"], ["b"]),
            Node("VAR_HANDLE", [], ["state"], "VarHandleOptions"),
            Node("ASSIGN_VARIABLE", ["state", "b"], [], "AssignVariableOptions"),
            Node("BITWISE_XOR", ["b", "b"], ["y"]),
        ],
        ["x"],
        ["y"],
    )
    with refused(
        LoweringError,
        "3 operators",
        "Loudness, ASSIGN_VARIABLE, Mystery",
        "Loudness (operator 1 of 6, subgraph 0; inputs: 'x': float32 [3, 4]; outputs: 'a'",
        "and 1 more",
        "ASSIGN_VARIABLE (operator 4 of 6, subgraph 0",
        "Mystery (operator 2 of 3, subgraph 1",
    ):
        from_tflite(model(main, init))


def test_all_operators_that_a_converter_fails_at_are_listed(monkeypatch):
    from tvm import relax

    def fails(converter, op):
        raise ValueError("no way")

    def narrow(converter, op):
        (given,) = converter.get_input_tensors(op)
        return relax.op.astype(converter.get_tensor_expr(given), "float16")

    monkeypatch.setitem(converters.CONVERTERS, "ABS", fails)
    monkeypatch.setitem(converters.CONVERTERS, "NEG", narrow)
    with refused(
        LoweringError,
        "3 operators",
        "ABS (operator 0 of 4, subgraph 0; inputs: 't0': float32 [3, 4]; outputs: 't1'",
        "no way",
        "NEG (operator 2",
        "'t3': expected float32, got float16",
        "ABS (operator 3",
    ):
        from_tflite(chain("ABS", "SQRT", "NEG", "ABS"))


def test_branches_are_refused():
    body = Graph([Tensor("x", "float32", [3])], [], ["x"], ["x"])
    main = Graph(
        [Tensor("c", "bool"), Tensor("x", "float32", [3]), Tensor("y", "float32", [3])],
        [
            Node(
                "IF",
                ["c", "x"],
                ["y"],
                "IfOptions",
                {"ThenSubgraphIndex": 1, "ElseSubgraphIndex": 1},
            )
        ],
        ["c", "x"],
        ["y"],
    )
    with refused(LoweringError, "IF (operator 0 of 1, subgraph 0", "across branches"):
        from_tflite(model(main, body))


def test_weights_of_float16_that_are_shared_are_one_parameter(agrees):
    half = weights(1, 16, 32).astype("float16")
    content = model(
        Graph(
            [
                Tensor("x", "float32", [4, 32]),
                constant("w16", half),
                Tensor("w", "float32", [16, 32]),
                constant("v16", half),
                Tensor("v", "float32", [16, 32]),
                Tensor("a", "float32", [4, 16]),
                Tensor("b", "float32", [4, 16]),
                Tensor("y", "float32", [4, 16]),
            ],
            [
                Node("DEQUANTIZE", ["w16"], ["w"]),
                Node("DEQUANTIZE", ["v16"], ["v"]),
                Node("FULLY_CONNECTED", ["x", "w", ""], ["a"], "FullyConnectedOptions"),
                Node("FULLY_CONNECTED", ["x", "v", ""], ["b"], "FullyConnectedOptions"),
                Node("MUL", ["a", "b"], ["y"], "MulOptions"),
            ],
            ["x"],
            ["y"],
        )
    )
    assert list(agrees(content).params) == ["w16"]


def test_operands_may_be_constants(agrees):
    content = model(
        Graph(
            [
                Tensor("x", "float32", [2, 3, 16]),
                constant("w", weights(1, 32, 16)),
                Tensor("y", "float32", [2, 3, 32]),
            ],
            [Node("BATCH_MATMUL", ["x", "w"], ["y"], "BatchMatMulOptions", {"AdjY": True})],
            ["x"],
            ["y"],
        )
    )
    assert list(agrees(content).params) == ["w"]


def test_an_axis_is_added(agrees):
    content = model(
        Graph(
            [
                Tensor("x", "float32", [3, 4]),
                constant("axis", np.array(-1, "int32")),
                Tensor("y", "float32", [3, 4, 1]),
            ],
            [Node("EXPAND_DIMS", ["x", "axis"], ["y"], "ExpandDimsOptions")],
            ["x"],
            ["y"],
        )
    )
    agrees(content)


def test_integers_are_drawn_below_the_length_of_the_table_they_index(agrees):
    content = model(
        Graph(
            [
                constant("table", weights(1, 500, 4)),
                Tensor("ids", "int32", [1, 8], signature=[-1, -1]),
                Tensor("y", "float32", [1, 8, 4]),
            ],
            [Node("GATHER", ["table", "ids"], ["y"], "GatherOptions")],
            ["ids"],
            ["y"],
        )
    )
    (sample,) = agrees(content).samples
    assert sample.arrays[0].shape == (1, 64)
    assert 250 < sample.arrays[0].max() < 500


def test_a_file_on_the_command_line_takes_named_inputs(tmp_path):
    (tmp_path / "net.tflite").write_bytes(network())
    np.savez(tmp_path / "one.npz", image=np.ones((2, 6, 6, 2), "float32"))
    loaded = load_model(str(tmp_path / "net.tflite"), inputs=[tmp_path / "one.npz"])
    assert (loaded.name, loaded.samples[0].name) == ("net", "one.npz")
    assert loaded.samples[0].arrays[0].shape == (2, 6, 6, 2)


@pytest.mark.parametrize("content", [b"version https://git-lfs\n", b"", bytes(64)])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "net.tflite").write_bytes(content)
    with refused(StoreError, "net.tflite is not a TFLite model", "TFL3"):
        from_tflite(tmp_path / "net.tflite")


@pytest.mark.parametrize("what", ["OutputsAsNumpy", "InputsAsNumpy"])
def test_numbers_of_tensors_that_are_not_in_the_file_are_refused(what):
    """Of operators, and of the subgraph."""
    for of_operator in (True, False):
        content = bytearray(chain("ABS"))
        graph = tflite.Model.GetRootAs(content, 0).Subgraphs(0)
        getattr(graph.Operators(0) if of_operator else graph, what)()[0] = 77
        with refused(StoreError, "damaged", "subgraph 0"):
            from_tflite(bytes(content))


def test_damaged_files_are_refused(monkeypatch):
    """Whatever is damaged, nothing but the errors of the tool, or a model."""
    monkeypatch.setattr("relax_tapml.frontend._tflite.interface.MOST_DRAWN_BYTES", 1 << 16)
    content = chain("ABS", "SQRT")
    with refused(StoreError, "the model is damaged"):
        from_tflite(content[: len(content) // 2])
    random = np.random.default_rng(0)
    refusals = 0
    for _ in range(60):
        damaged = bytearray(content)
        for at in random.integers(8, len(damaged), 8):
            damaged[at] = random.integers(256)
        try:
            from_tflite(bytes(damaged))
        except (StoreError, LoweringError, UsageError):
            refusals += 1
    assert refusals > 20


def test_without_its_packages_the_command_that_installs_them_is_named(monkeypatch, tmp_path):
    (tmp_path / "net.tflite").write_bytes(network())
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with refused(UsageError, "ai_edge_litert", "pip install 'relax-tapml[tflite]'"):
        load_model(str(tmp_path / "net.tflite"))
