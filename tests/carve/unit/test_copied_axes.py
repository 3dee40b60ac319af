"""Large results of which a suite holds some places, the inputs of all others being copies."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.carve.unit import choose_copies
from relax_tapml.carve.unit.call_tensors import CallTensors
from relax_tapml.carve.unit.choose_copies import Limits
from relax_tapml.compare.verdict import Verdict
from relax_tapml.derive import error_bounds
from relax_tapml.replays.replay import replay

M, K, N = 64, 32, 640


@I.ir_module
class Kernels:
    """Of 64 columns: equal inputs give equal results in the first kernel only."""

    @T.prim_func(private=True, s_tir=True)
    def scale(X: T.Buffer((4, 64), "float32"), Y: T.Buffer((4, 64), "float32")):
        for i, j in T.grid(4, 64):
            with T.sblock("Y"):
                vi, vj = T.axis.remap("SS", [i, j])
                Y[vi, vj] = X[vi, vj] * T.float32(2)

    @T.prim_func(private=True, s_tir=True)
    def add_number(X: T.Buffer((4, 64), "float32"), Y: T.Buffer((4, 64), "float32")):
        for i, j in T.grid(4, 64):
            with T.sblock("Y"):
                vi, vj = T.axis.remap("SS", [i, j])
                Y[vi, vj] = X[vi, vj] + T.Cast("float32", vj)

    @T.prim_func(private=True, s_tir=True)
    def mask(X: T.Buffer((4, 64), "float32"), Y: T.Buffer((4, 64), "float32")):
        for i, j in T.grid(4, 64):
            with T.sblock("Y"):
                vi, vj = T.axis.remap("SS", [i, j])
                Y[vi, vj] = T.if_then_else(vi < vj, X[vi, vj], T.float32(0))

    @T.prim_func(private=True, s_tir=True)
    def times_neighbour(X: T.Buffer((4, 64), "float32"), Y: T.Buffer((4, 64), "float32")):
        for i, j in T.grid(4, 64):
            with T.sblock("Y"):
                vi, vj = T.axis.remap("SS", [i, j])
                Y[vi, vj] = X[vi, vj] * X[vi, (vj + 1) % 64]

    @T.prim_func(private=True, s_tir=True)
    def running(X: T.Buffer((4, 64), "float32"), Y: T.Buffer((4, 64), "float32")):
        for i, j in T.grid(4, 64):
            with T.sblock("Y"):
                vi, vj = T.axis.remap("SS", [i, j])
                Y[vi, vj] = X[vi, vj] + T.if_then_else(vj > 0, Y[vi, vj - 1], T.float32(0))

    @R.function
    def main(x: R.Tensor((4, 64), "float32")):
        cls = Kernels
        return R.call_tir(cls.scale, (x,), R.Tensor((4, 64), "float32"))


@pytest.mark.parametrize("name", ["scale", "add_number", "mask", "times_neighbour", "running"])
def test_only_what_follows_from_equal_inputs_is_copied(name):
    """Not where the number of the place, or the input at another one, matters."""
    module = Kernels.clone()
    kernel = Kernels[name]
    module.update_func(module.get_global_var("scale"), kernel)
    x = np.random.default_rng(0).standard_normal((4, 64)).astype("float32")
    call = CallTensors(function="main", inputs=(x,), outputs=(x,), weights=(None,))
    limits = Limits(most_bytes=100, held_bytes=10, weight_axes_bytes=100)
    found = choose_copies.copied_axes(module, call, limits)
    assert [item.axis for item in found.outputs.get(0, ())] == ([1] if name == "scale" else [])
    assert found.inputs.keys() == found.outputs.keys()


@I.ir_module
class Head:
    @R.function
    def main(
        x: R.Tensor((64, 32), "float32"),
        w: R.Tensor((32, 640), "float32"),
        b: R.Tensor((640,), "float32"),
    ):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            y = R.add(R.matmul(x, w), b)
            z = R.reshape(y, (1, 64, 640))
            s = R.nn.softmax(z)
            c = R.cumsum(z, axis=1)
            R.output(s, c)
        return s, c


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype("float32") for shape in ((K, N), (N,))]


@pytest.fixture(scope="module")
def opened(record_model, tmp_path_factory, weights):
    """Results of 160 KB are large here, and a tenth of that is held."""
    x = np.random.default_rng(1).standard_normal((M, K)).astype("float32")
    folder = tmp_path_factory.mktemp("copies")
    recording = record_model(Head, folder / "captures", [(x, *weights)])
    with pytest.MonkeyPatch.context() as patch:
        recorded = Limits(most_bytes=50_000, held_bytes=16_000, weight_axes_bytes=50_000)
        patch.setattr(choose_copies, "RECORDED", recorded)
        exact = Limits(most_bytes=50_000, held_bytes=16_000, weight_axes_bytes=400_000)
        patch.setattr(choose_copies, "EXACT", exact)
        yield recording.write_suite(folder / "tests")
    recording.store.close()


@pytest.mark.parametrize(("excess", "is_copied"), [(0.9, True), (3.0, False)])
def test_results_of_an_inaccurate_source_are_held_whole(
    record_model, tmp_path, weights, monkeypatch, excess, is_copied
):
    """Those at held places say nothing of the others, where it may be off to the other side."""
    x = np.random.default_rng(1).standard_normal((M, K)).astype("float32")
    recording = record_model(Head, tmp_path / "captures", [(x, *weights)])
    limits = Limits(most_bytes=50_000, held_bytes=16_000, weight_axes_bytes=50_000)
    monkeypatch.setattr(choose_copies, "RECORDED", limits)
    texts = error_bounds.excess_text
    monkeypatch.setattr("relax_tapml.derive._result_bounds.excess_text", lambda _: texts(excess))
    suite = recording.write_suite(tmp_path / "tests", is_probed=False)
    recording.store.close()
    _, cases = product(suite)
    assert any(tensor.copied for tensor in tensors_of(suite, cases["case0"])) == is_copied


def product(opened):
    [name] = [name for name in opened.manifest.units if "matmul" in name]
    return name, {case.name[9:]: case for case in opened.manifest.units[name].cases}


def tensors_of(opened, case):
    entries = opened.manifest.tensors
    output = case.outputs[0]
    return [
        entries[d]
        for d in (*(i.tensor for i in case.inputs), output.tensor, *output.tolerance.digests)
    ]


def held_bytes(opened, digest):
    return (opened.folder / opened.manifest.tensors[digest].file).stat().st_size


def test_a_product_holds_some_columns_of_all(opened, weights):
    """Weight, bias, result and bounds; what is held of the result is what was recorded."""
    _, cases = product(opened)
    case = cases["case0"]
    _, weight, bias, result, bound = tensors_of(opened, case)
    assert [len(entry.copied) for entry in (weight, bias, result, bound)] == [1, 1, 1, 1]
    assert weight.copied[0].axis == result.copied[0].axis == 1
    _, w, b = (opened.tensor(item.tensor) for item in case.inputs)
    oracle = opened.tensor(case.outputs[0].tensor)
    distinct = np.unique(w, axis=1).shape[1]
    assert 16 <= distinct == result.copied[0].held <= N / 4
    assert np.unique(oracle, axis=1).shape[1] == distinct
    recorded = opened.tensor(case.inputs[0].tensor) @ weights[0] + weights[1]
    same = (w == weights[0]).all(0) & (b == weights[1])
    assert same.sum() == distinct
    np.testing.assert_allclose(oracle[:, same], recorded[:, same], rtol=1e-4, atol=1e-4)
    assert held_bytes(opened, case.outputs[0].tensor) < oracle.nbytes / 4
    assert f"{distinct} of {N} places of axis 1 of result 0" in case.reason


def test_probes_with_exact_sums_have_all_columns(opened):
    """What copies of columns hide, a column taken for another, is seen there by equality."""
    _, cases = product(opened)
    result = opened.manifest.tensors[cases["exact"].outputs[0].tensor]
    assert [item.axis for item in result.copied] == [0]
    oracle = opened.tensor(cases["exact"].outputs[0].tensor)
    assert np.unique(oracle, axis=1).shape[1] == N
    assert np.unique(oracle, axis=0).shape[0] == result.copied[0].held


def test_an_axis_that_is_not_free_stays(opened):
    """Of a softmax rows are held, of a running sum along the rows columns."""
    axes = {}
    for name, unit in opened.manifest.units.items():
        entry = opened.manifest.tensors[unit.cases[0].outputs[0].tensor]
        axes[name] = [item.axis for item in entry.copied]
    assert axes["softmax"] == [1]
    assert axes["cumsum"] in ([], [2])
    assert axes["reshape"] == [2]


def test_a_reshape_holds_its_values_once(opened):
    """Its result, of the same values in another shape, shares the files of cases."""
    for case in opened.manifest.units["reshape"].cases:
        (one,), (other,) = case.inputs, case.outputs
        assert one.tensor != other.tensor
        np.testing.assert_array_equal(opened.tensor(one.tensor)[None], opened.tensor(other.tensor))
    files = {entry.file for entry in opened.manifest.tensors.values()}
    assert len(files) < len(opened.manifest.tensors)


def test_the_suite_passes(opened):
    report = replay(opened.folder, session="inline")
    assert set(report.units.values()) == {Verdict.PASS}


@pytest.mark.parametrize("column", [0, 413, N - 1])
def test_a_column_that_is_read_wrongly_is_seen(opened, column):
    """In one column of 640, whether it is held or not."""
    name, _ = product(opened)

    @T.prim_func(private=True, s_tir=True)
    def wrong(
        X: T.Buffer((64, 32), "float32"),
        W: T.Buffer((32, 640), "float32"),
        B: T.Buffer((640,), "float32"),
        Y: T.Buffer((64, 640), "float32"),
    ):
        for i, j, k in T.grid(64, 640, 32):
            with T.sblock("Y"):
                vi, vj, vk = T.axis.remap("SSR", [i, j, k])
                with T.init():
                    Y[vi, vj] = B[vj]
                Y[vi, vj] = (
                    Y[vi, vj] + X[vi, vk] * W[vk, T.if_then_else(vj == column, (vj + 1) % 640, vj)]
                )

    @tvm.transform.module_pass(opt_level=0, name="WrongColumn")
    def change(module, _ctx):
        out = module.clone()
        out.update_func(module.get_global_var(name), wrong.without_attr("global_symbol"))
        return out

    report = replay(opened.folder, session="inline", device_pipeline=change, units=[name])
    assert report.units[name] is Verdict.MISMATCH
    # Neighbours, and places that are held, are copies of different ones.
    verdicts = {case.case.name[9:]: case.verdict for case in report.details[name].cases}
    assert verdicts["exact"] is Verdict.MISMATCH
    assert verdicts["case0"] is Verdict.MISMATCH
