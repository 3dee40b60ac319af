"""The node that is imported wrongly is named, and no other."""

import dataclasses
import html
import os
import subprocess
import sys

import broken_pipelines
import pytest
import tvm
from refusals import refused
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from relax_tapml import bring_up, bringup, read_result
from relax_tapml.bringup._import_fault import find_import_fault
from relax_tapml.bringup.side_spec import SideSpec
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import ExitCode, SourceError
from relax_tapml.frontend._torch_ops.importer import CorrectedImporter
from relax_tapml.frontend.torch_export import from_torch
from relax_tapml.report.findings import import_text

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")

TARGET = tvm.target.Target({"kind": "llvm", "opt-level": 1})


class Parts(torch.nn.Module):
    """A product, items of one operator, a buffer, a norm, a dimension that is computed."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(8, 8)
        self.norm = torch.nn.LayerNorm(8)
        self.register_buffer("gain", torch.linspace(0.5, 2, 8))

    def forward(self, x):
        a, b = self.first(x).split(4, 1)
        joined = torch.cat([a, b.relu() * 2], 1) * self.gain
        normal = self.norm(joined - x)
        return normal.reshape(x.shape[0] * 2, 4), torch.softmax(joined, -1)


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def found(kernels, tmp_path):
    """Import a module with other converters; return what is found to be wrong."""

    def find(module, example, *, shapes=None, pipeline=None, **converters):
        model = from_torch(module, example, dynamic_shapes=shapes, convert_map=converters)
        side = SideSpec(target=TARGET, pipeline=pipeline)
        built = bringup.build_source(model, bringup.lower_model(model), side, kernels)
        trusted = bringup.trust_source(built)
        return find_import_fault(trusted, tmp_path / "import", kernels)

    return find


def emit(importer, value):
    return importer.block_builder.emit(value)


def other_epsilon(node, importer):
    x, weight, bias = (importer.env[node.args[i]] for i in (0, 2, 3))
    return emit(importer, relax.op.nn.layer_norm(x, weight, bias, -1, epsilon=0.1)), None, None


def swapped(node, importer):
    left, right = (importer.env[arg] for arg in node.args)
    return emit(importer, relax.op.subtract(right, left))


def other_axis(node, importer):
    return emit(importer, relax.op.nn.softmax(importer.env[node.args[0]], 0))


def no_effect(node, importer):
    return importer.env[node.args[0]]


def reversed_items(node, importer):
    parts = [importer.env[part] for part in reversed(node.args[0])]
    return emit(importer, relax.op.concat(parts, 1))


def flipped_before_split(node, importer):
    x = emit(importer, relax.op.flip(importer.env[node.args[0]], 1))
    return emit(importer, relax.op.split(x, 2, 1))


X = (torch.linspace(-2, 2, 24).reshape(3, 8).sin(),)
N = torch.export.Dim("n", min=2, max=20)
FAULTS = {
    "native_layer_norm.default": other_epsilon,
    "sub.Tensor": swapped,
    "_softmax.default": other_axis,
    "relu.default": no_effect,
    "cat.default": reversed_items,
    "split_with_sizes.default": flipped_before_split,
}


@pytest.mark.parametrize(
    ("name", "shapes"),
    [*((name, None) for name in FAULTS), ("sub.Tensor", ({0: N},)), ("cat.default", ({0: N},))],
)
def test_exactly_the_wrong_node_is_named(name, shapes, found):
    """With operator, call and Relax; later nodes get right arguments, and are not blamed."""
    finding = found(Parts(), X, shapes=shapes, **{name: FAULTS[name]}).finding
    (node,) = finding.nodes
    assert node.operator == f"aten.{name}"
    assert node.call.startswith(f"aten.{name}(")
    assert "test_import_fault.py" in node.source
    assert node.module == ("norm" if "norm" in name else "")
    assert f"{node.operator} is imported wrongly: node {node.node}" in finding.text
    assert "R.Tensor" in node.relax
    assert finding.judged > 10
    assert (finding.unjudged, finding.first) == (0, None)


@pytest.mark.parametrize(
    ("converter", "operator", "place"),
    [
        ("_select", "aten.select.int", lambda x: x[:, -1]),
        ("_index_tensor", "aten.index.Tensor", lambda x: x[..., [-2]]),
    ],
)
def test_a_negative_index_that_tvm_reads_out_of_bounds_is_named(
    converter, operator, place, found, monkeypatch
):
    """TVM's own converters raise nothing; the second one is falcon's."""

    class Last(torch.nn.Module):
        def forward(self, x):
            return place(x.exp()).tanh()

    stock = getattr(ExportedProgramImporter, converter)
    monkeypatch.setattr(CorrectedImporter, converter, stock)
    (node,) = found(Last(), X).finding.nodes
    assert node.operator == operator
    monkeypatch.undo()
    assert found(Last(), X).finding is None


def test_several_faults_are_all_named_in_the_order_of_the_graph(found):
    module = torch.nn.Sequential(
        torch.nn.LayerNorm(8), torch.nn.LayerNorm(8), torch.nn.Softmax(0), torch.nn.LayerNorm(8)
    )
    finding = found(
        module, X, **{"native_layer_norm.default": other_epsilon, "_softmax.default": no_effect}
    ).finding
    first, second = finding.nodes
    assert (first.node, first.module) == ("native_layer_norm", "0")
    assert first.alike == ("native_layer_norm_1", "native_layer_norm_2")
    assert (second.node, second.module) == ("_softmax", "2")
    assert "2 more nodes became the same Relax; also aten._softmax.default" in finding.text


def test_the_script_shows_the_wrong_value_in_a_process_of_its_own(found, tmp_path):
    """It needs torch, TVM and NumPy; TVM's own importer is right there, and it says so."""
    finding = found(Parts(), X, shapes=({0: N},), **{"sub.Tensor": swapped}).finding
    (node,) = finding.nodes
    script = tmp_path / node.script
    text = script.read_text()
    assert "relax_tapml" not in text
    ran = subprocess.run(
        [sys.executable, str(script)],
        cwd="/",
        env={**os.environ, "RELAX_TAPML_TEST_TORCH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1, ran.stderr
    worst = node.worst
    assert f"the model's importer: WRONG, at {list(worst.index)} {worst.got}" in ran.stdout
    assert "TVM's own importer  : right" in ran.stdout


def test_a_fault_after_the_import_is_no_nodes(found):
    """Each node is right by itself: the first value of the source that differs is named."""
    unit = "softmax"
    pipeline = broken_pipelines.breaks(unit, broken_pipelines.scale)
    finding = found(Parts(), X, pipeline=pipeline).finding
    assert finding.nodes == ()
    assert finding.first.site.endswith(f"/{unit}")
    assert finding.first.operator == "aten._softmax.default"
    assert "right by itself; the fault is in how they work together" in finding.text
    assert "the host pipeline" in finding.text


def test_another_choice_among_equal_scores_is_no_fault(found):
    """Of equal scores top-k may take any; a fault beside it is named, and it is not."""

    class Ties(torch.nn.Module):
        def forward(self, x):
            places = torch.topk((x > 0).float() * 1.0, 3)[1]
            return places, torch.softmax(x, 1)

    def last_first(node, importer):
        x = emit(importer, relax.op.flip(importer.env[node.args[0]], 1))
        pair = emit(importer, relax.op.topk(x, 3, 1, "both", True, "int64"))
        values, places = (emit(importer, relax.TupleGetItem(pair, at)) for at in (0, 1))
        turned = emit(importer, relax.op.subtract(relax.const(7, "int64"), places))
        return values, turned

    finding = found(Ties(), X, **{"topk.default": last_first, "_softmax.default": other_axis})
    assert [node.operator for node in finding.finding.nodes] == ["aten._softmax.default"]


def test_a_run_ends_with_the_finding(tmp_path):
    """With exit code 3, in the message, in result.json and on the page."""
    model = from_torch(Parts(), X, convert_map={"sub.Tensor": swapped})
    with refused(
        SourceError,
        "does not compute what the framework does",
        "aten.sub.Tensor is imported wrongly: node sub (",
        f"{tmp_path / 'import' / 'sub.py'} shows it",
        "--no-import-check",
    ):
        bring_up(model, source=str(TARGET), target="llvm", session="inline", out=tmp_path)
    assert SourceError.exit_code is ExitCode.INCONCLUSIVE
    result = read_result(tmp_path)
    (node,) = result.import_.finding.nodes
    assert (node.operator, node.script) == ("aten.sub.Tensor", "import/sub.py")
    assert (result.culprits, result.units) == ([], ())
    (sentence,) = import_text(result)
    assert sentence.startswith("aten.sub.Tensor is imported wrongly: node sub, ")
    page = html.unescape((tmp_path / "report.html").read_text())
    assert sentence in page
    assert "python import/sub.py" in page
    assert node.relax in page


def test_a_right_source_is_left_as_it_is(found):
    trusted = found(Parts(), X)
    assert trusted.check.verdict is Verdict.PASS
    assert trusted.finding is None


def test_a_model_without_a_graph_gets_no_finding(kernels, tmp_path):
    model = from_torch(Parts(), X, convert_map={"sub.Tensor": swapped})
    bare = dataclasses.replace(model, graphs=None)
    built = bringup.build_source(bare, bringup.lower_model(bare), SideSpec(target=TARGET), kernels)
    trusted = bringup.trust_source(built)
    assert find_import_fault(trusted, tmp_path / "import", kernels) is trusted
    assert not (tmp_path / "import").exists()
