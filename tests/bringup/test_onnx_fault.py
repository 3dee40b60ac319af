"""The node of an ONNX model that is imported wrongly is named, and a script shows it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("onnx", reason="needs relax-tapml[onnx]")
pytest.importorskip("onnxruntime", reason="needs relax-tapml[onnx]")

import tvm
from onnx_graphs import model, network, node, value, weights
from tvm import relax

from relax_tapml import bringup, from_onnx
from relax_tapml.bringup._import_fault import find_import_fault
from relax_tapml.bringup.side_spec import SideSpec

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
