"""The sweep of PyTorch's core operators, and the faults of the importer that are to be named."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from tvm import relax

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def sweep(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    for name in ("TVM_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    import import_sweep

    return import_sweep


def call(sweep, operator, *args, **kwargs):
    return sweep.CoreCall(operator=f"aten.{operator}", args=args, kwargs=kwargs, origin="test")


def test_calls_are_recorded_from_pytorchs_samples(sweep):
    """Of the core operators that a sample comes to, of many kinds, each call once."""
    operators = sweep.core_operators()
    assert len(operators) > 150
    calls = sweep.recorded_calls(operators, 6, only=["nn.functional.softmin", "select"])
    assert {"aten._softmax.default", "aten.neg.default"} <= {n for n, c in calls.items() if c}
    kinds = [one.kind for one in calls["aten.select.int"]]
    assert len(kinds) == 6
    texts = {one.text for one in calls["aten._softmax.default"]}
    assert len(texts) == len(calls["aten._softmax.default"])


def test_right_refused_and_silently_wrong_are_told_apart(sweep, monkeypatch):
    from relax_tapml.frontend._torch_ops.importer import CorrectedImporter

    x = torch.linspace(-2, 2, 12).reshape(3, 4)
    select = call(sweep, "select.int", x, 1, -2)
    assert sweep.sweep_call(torch.ops.aten.select.int, select).outcome == "right"
    distances = call(sweep, "_cdist_forward.default", x, x, 2.0, None)
    refused = sweep.sweep_call(torch.ops.aten._cdist_forward.default, distances)
    assert refused.outcome == "refused"
    assert "no converter for node '_cdist_forward'" in refused.reason
    own = CorrectedImporter._select
    monkeypatch.setattr(
        CorrectedImporter,
        "_select",
        lambda self, node: self._emit(relax.op.negative(own(self, node))),
    )
    wrong = sweep.sweep_call(torch.ops.aten.select.int, select)
    assert wrong.outcome == "wrong"
    assert "differs" in wrong.reason


def test_a_crash_is_a_row_and_what_follows_is_tried(sweep, monkeypatch, tmp_path):
    """The results of each operator are kept, and not made again."""

    def imagined(_operator, one, **_):
        if one.args == (1,):
            os.kill(os.getpid(), signal.SIGSEGV)
        return sweep.CallResult(call=one.text, origin="", outcome=sweep.Outcome.RIGHT)

    monkeypatch.setattr(sweep, "sweep_call", imagined)
    calls = {"aten.neg.default": [call(sweep, "neg.default", at) for at in range(3)]}
    (result,) = sweep.sweep({"aten.neg.default": None}, calls, tmp_path)
    assert [one.outcome for one in result.calls] == ["right", "crash", "right"]
    assert result.calls[1].reason == "SIGSEGV"
    assert sweep.verdict(result) == "SILENTLY WRONG"
    assert json.loads((tmp_path / "aten.neg.default.json").read_text())["operator"]
    calls["aten.neg.default"] = []
    assert list(sweep.sweep({"aten.neg.default": None}, calls, tmp_path)) == [result]
    table = sweep.markdown([result])
    assert "| `neg.default` | SILENTLY WRONG | 2 | 0 | 1 | SIGSEGV |" in table


def test_a_fault_of_the_importer_is_named_in_an_architecture(sweep, tmp_path):
    """The nodes of the operator whose converter is wrong, and no others."""
    from bench_import_faults import faults_of, try_fault

    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3), torch.nn.Tanh()
    )
    example = (torch.randn(1, 2, 8, 8),)
    assert set(faults_of(module.eval(), example)) == {
        *("a convolution that is 2 % off", "rectifier left out", "tanh left out")
    }
    row = try_fault("small", module, example, "a convolution that is 2 % off", tmp_path)
    assert row.is_right
    assert (row.named, row.nodes) == (("convolution.default",), 2)
