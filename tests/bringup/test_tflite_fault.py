"""The operator of a TFLite model that is imported wrongly is named, and a script shows it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("tflite", reason="needs relax-tapml[tflite]")
pytest.importorskip("ai_edge_litert", reason="needs relax-tapml[tflite]")

import tvm
from tflite_graphs import network
from tvm import relax

from relax_tapml import bringup, from_tflite
from relax_tapml.bringup._import_fault import find_import_fault
from relax_tapml.bringup.side_spec import SideSpec
from relax_tapml.frontend._tflite import converters

SIDE = SideSpec(target=tvm.target.Target({"kind": "llvm", "opt-level": 1}))


def finding(imported, out):
    built = bringup.build_source(imported, bringup.lower_model(imported), SIDE, out / "kernels")
    return find_import_fault(bringup.trust_source(built), out / "import", out / "kernels").finding


def test_the_operator_that_is_imported_wrongly_is_named(tmp_path, monkeypatch):
    """And nothing else; a script shows it without the tool and without TFLite."""
    stock = converters.CONVERTERS["CONV_2D"]

    def shifted(converter, op):
        return relax.op.add(stock(converter, op), relax.const(0.25))

    monkeypatch.setitem(converters.CONVERTERS, "CONV_2D", shifted)
    found = finding(from_tflite(network()), tmp_path)
    (only,) = found.nodes
    assert (only.operator, only.module) == ("CONV_2D", "net.conv")
    assert only.node == "net/conv/Relu;net/conv/Conv2D"
    assert "operator 0 of 6, subgraph 0" in only.source
    assert only.worst.got - only.worst.expected == pytest.approx(0.25)
    assert (found.judged, found.unjudged) == (3, 0)
    done = subprocess.run(
        [sys.executable, tmp_path / only.script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "WRONG" in done.stdout
