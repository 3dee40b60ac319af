"""The node of an ONNX model that is imported wrongly is named, and a script shows it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("onnx", reason="needs relax-tapml[onnx]")
pytest.importorskip("onnxruntime", reason="needs relax-tapml[onnx]")

import numpy as np
import tvm
from onnx import helper
from onnx_graphs import model, network, node, value, weights
from tvm import relax

from relax_tapml import bringup, from_onnx
from relax_tapml.bringup._import_fault import find_import_fault
from relax_tapml.bringup.side_spec import SideSpec
from relax_tapml.frontend._onnx import fold

SIDE = SideSpec(target=tvm.target.Target({"kind": "llvm", "opt-level": 1}))


def finding(imported, out):
    built = bringup.build_source(imported, bringup.lower_model(imported), SIDE, out / "kernels")
    return find_import_fault(bringup.trust_source(built), out / "import", out / "kernels").finding


def test_a_right_import_has_no_finding(tmp_path):
    assert finding(from_onnx(network()), tmp_path) is None


def test_the_node_that_is_imported_wrongly_is_named(tmp_path):
    """And nothing else; a script with a model of the node shows it without the tool."""
    wrong = {"Relu": lambda call: relax.op.maximum(call.inputs[0], relax.const(0.25))}
    found = finding(from_onnx(network(), convert_map=wrong), tmp_path)
    (only,) = found.nodes
    assert (only.node, only.operator, only.module) == ("/act/Relu", "Relu", "act")
    assert "2 of 4" in only.source
    assert only.worst.got - only.worst.expected == pytest.approx(0.25)
    script = tmp_path / only.script
    assert script.with_suffix(".onnx").exists()
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    mine, stock = done.stdout.splitlines()
    assert "WRONG" in mine
    assert "right" in stock


def test_one_of_several_outputs_is_named(tmp_path):
    graph = model(
        [
            node("Split", ["x"], ["a", "b"], "/split/Split", axis=1, num_outputs=2),
            node("MatMul", ["a", "w"], ["m"], "/one/MatMul"),
            node("MatMul", ["b", "w"], ["n"], "/two/MatMul"),
            node("Sub", ["m", "n"], ["y"], "/Sub"),
        ],
        [value("x", "float32", [3, 32])],
        ["y"],
        {"w": weights(1, 16, 32)},
    )

    def swapped(call):
        parts = call.emit(relax.op.split(call.inputs[0], 2, axis=1))
        return [relax.TupleGetItem(parts, at) for at in (1, 0)]

    found = finding(from_onnx(graph, convert_map={"Split": swapped}), tmp_path)
    assert [one.node for one in found.nodes] == ["/split/Split"]
    assert found.judged == 4


def test_wrong_nodes_of_one_kind_are_listed_together(tmp_path):
    """Not the other nodes of the operator, whose attributes differ."""
    graph = model(
        [
            node("LeakyRelu", ["x"], ["a"], "first", alpha=0.5),
            node("LeakyRelu", ["a"], ["b"], "second", alpha=0.0),
            node("MatMul", ["b", "w"], ["c"], "third"),
            node("LeakyRelu", ["c"], ["y"], "fourth", alpha=0.5),
        ],
        [value("x", "float32", [32, 32])],
        ["y"],
        {"w": weights(1, 32, 32)},
    )
    wrong = {"LeakyRelu": lambda call: relax.op.nn.relu(call.inputs[0])}
    (only,) = finding(from_onnx(graph, convert_map=wrong), tmp_path).nodes
    assert (only.node, only.alike) == ("first", ("fourth",))


def _scaled_by_its_width():
    """A model whose factor is folded: the width of its input."""
    return model(
        [
            node("Shape", ["x"], ["dims"], "/size/Shape"),
            node("Gather", ["dims", "one"], ["width"], "/size/Gather"),
            node("Cast", ["width"], ["factor"], "/size/Cast", to=1),
            node("Mul", ["x", "factor"], ["m"], "/Mul"),
            node("Relu", ["m"], ["y"], "/act/Relu"),
        ],
        [value("x", "float32", [3, 32])],
        ["y"],
        {"one": np.array(1, "int64")},
    )


def test_a_constant_that_folding_gets_wrong_is_named(tmp_path, monkeypatch):
    """The first one, although later constants are made of it and nothing else reads it."""
    right = fold.run_node

    def wrong(node, arrays, opsets):
        found = right(node, arrays, opsets)
        return [found[0] + 1] if node.op_type == "Gather" else found

    monkeypatch.setattr(fold, "run_node", wrong)
    found = finding(from_onnx(_scaled_by_its_width()), tmp_path)
    (only,) = found.nodes
    assert (only.node, only.operator, only.module) == ("/size/Gather", "Gather", "size")
    assert "2 of 5 in the file" in only.source
    assert (only.worst.expected, only.worst.got) == (32, 33)
    assert "constant" in only.call


def test_a_branch_that_folding_takes_wrongly_is_named(tmp_path, monkeypatch):
    def branch(operator):
        return helper.make_graph(
            [node(operator, ["x"], ["z"], f"/{operator}")],
            operator,
            [],
            [helper.make_tensor_value_info("z", 1, [3, 32])],
        )

    branches = {"then_branch": branch("Neg"), "else_branch": branch("Abs")}
    graph = model(
        [
            node("If", ["flag"], ["b"], "/If", **branches),
            node("Relu", ["b"], ["y"], "/act/Relu"),
        ],
        [value("x", "float32", [3, 32])],
        ["y"],
        {"flag": np.array(True)},
    )
    other = {"then_branch": "else_branch", "else_branch": "then_branch"}
    right = fold.graph_attribute
    monkeypatch.setattr(fold, "graph_attribute", lambda node, name: right(node, other[name]))
    found = finding(from_onnx(graph), tmp_path)
    assert [(one.node, one.operator) for one in found.nodes] == [("/If", "If")]
