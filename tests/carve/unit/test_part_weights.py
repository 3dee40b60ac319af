"""Large weights of which a suite holds a part."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from operator_kernels import kernel
from tvm import relax
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812
from tvm.script import tirx as T  # noqa: N812

from relax_tapml import tensor_file
from relax_tapml.carve.unit.call_tensors import CallTensors
from relax_tapml.carve.unit.part_weights import case_tensors
from relax_tapml.carve.unit.unit_tolerances import UnitTolerances
from relax_tapml.compare.verdict import Verdict
from relax_tapml.derive import _blocks
from relax_tapml.errors import StoreError
from relax_tapml.replays.replay import replay
from relax_tapml.suite.open_suite import open_suite

K, N = 512, 900
# A place that is not held, and one that is.
FILLED, LAST = 413, N - 1


@I.ir_module
class Dense:
    @R.function
    def main(
        x: R.Tensor((4, 512), "float32"),
        w: R.Tensor((512, 900), "float32"),
        v: R.Tensor((700, 512), "float32"),
        u: R.Tensor((600, 512), "float32"),
    ):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            a = R.matmul(x, w)
            b = R.permute_dims(v)
            c = R.sum(u, axis=0)
            R.output(a, b, c)
        return a, b, c


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(0)
    return [rng.standard_normal(s).astype("float32") for s in ((K, N), (700, K), (600, K))]


@pytest.fixture(scope="module")
def suite(record_model, tmp_path_factory, weights):
    x = np.random.default_rng(1).standard_normal((4, K)).astype("float32")
    folder = tmp_path_factory.mktemp("parts")
    recording = record_model(Dense, folder / "captures", [(x, *weights)])
    yield recording.write_suite(folder / "tests"), x
    recording.store.close()


def entry_of(opened, unit, inputs=True):
    (case, *_) = opened.manifest.units[unit].cases
    items = [item for item in case.inputs if item.weight] if inputs else case.outputs
    return case, opened.manifest.tensors[items[0].tensor], opened.tensor(items[0].tensor)


def places_of(opened, entry):
    return tensor_file.parse_tensors((opened.folder / entry.file).read_bytes())["rows"]


def test_a_product_holds_some_columns(suite, weights):
    """The columns that are held, and the results at them, are those that were recorded."""
    opened, x = suite
    case, entry, found = entry_of(opened, "matmul")
    places = places_of(opened, entry)
    assert (entry.axis, entry.shape) == (1, (K, N))
    assert entry.rows == len(places) < N / 4
    assert {0, LAST} <= set(places.tolist())
    assert FILLED not in places
    np.testing.assert_array_equal(found[:, places], weights[0][:, places])
    assert not (found == weights[0])[:, FILLED].all()
    oracle = opened.tensor(case.outputs[0].tensor)
    np.testing.assert_allclose(oracle, x @ found, rtol=1e-4, atol=1e-4)
    assert "of axis 1 of w" in case.reason


def test_a_permuted_weight_is_held_in_part_on_both_sides(suite):
    opened, _ = suite
    _, entry, weight = entry_of(opened, "transpose")
    _, result, permuted = entry_of(opened, "transpose", inputs=False)
    assert (entry.axis, result.axis) == (0, 1)
    np.testing.assert_array_equal(permuted, weight.T)
    sizes = [(opened.folder / item.file).stat().st_size for item in (entry, result)]
    assert max(sizes) < weight.nbytes / 4


def test_what_is_summed_up_is_held_whole(suite, weights):
    """Every element of the other axis matters to each result, so only rows could be left out."""
    opened, _ = suite
    _, entry, found = entry_of(opened, "sum")
    assert entry.axis == 1 or entry.rows is None
    rows = slice(None) if entry.rows is None else places_of(opened, entry)
    np.testing.assert_array_equal(found[:, rows], weights[2][:, rows])


def test_the_suite_passes(suite):
    report = replay(suite[0].folder, session="inline")
    assert set(report.units.values()) == {Verdict.PASS}


@pytest.mark.parametrize("block_bytes", [1 << 28, 1 << 20], ids=["whole", "blocks"])
def test_held_columns_have_the_recorded_results(weights, block_bytes, monkeypatch):
    """Those of the source, which may be off, also where a unit is evaluated in blocks."""
    monkeypatch.setattr(_blocks, "BLOCK_BYTES", block_bytes)
    builder = relax.BlockBuilder()
    args = [relax.Var(n, R.Tensor(s, "float32")) for n, s in (("x", (4, K)), ("w", (K, N)))]
    product = kernel(relax.op.matmul, ((4, K), "float32"), ((K, N), "float32"))
    callee = builder.add_func(product.without_attr("global_symbol"), "matmul")
    with builder.function("main", args):
        result = relax.call_tir(callee, args, R.Tensor((4, N), "float32"))
        builder.emit_func_output(builder.emit(result))
    x = np.random.default_rng(1).standard_normal((4, K)).astype("float32")
    source = x @ weights[0] + np.float32(0.01)
    call = CallTensors(
        function="main", inputs=(x, weights[0]), outputs=(source,), weights=(None, "w")
    )
    [case] = case_tensors(UnitTolerances(builder.get()), [call])
    places = case.input_parts[1].places
    assert {0, LAST} <= set(places.tolist())
    np.testing.assert_array_equal(case.outputs[0][:, places], source[:, places])
    others = np.setdiff1d(np.arange(N), places)
    exact = (x.astype(np.float64) @ case.inputs[1].astype(np.float64)).astype("float32")
    np.testing.assert_array_equal(case.outputs[0][:, others], exact[:, others])
    allowed = case.tolerances[0].allowed(case.outputs[0])
    assert (allowed[:, places] > 0.009).all()
    assert (allowed[:, others] < 0.002).all()


def wrong_column(column: int, other: int):
    """Return a product that reads another column of the weight at one column."""

    @T.prim_func(private=True, s_tir=True)
    def matmul(
        X: T.Buffer((4, 512), "float32"),
        W: T.Buffer((512, 900), "float32"),
        Y: T.Buffer((4, 900), "float32"),
    ):
        for i, j, k in T.grid(4, 900, 512):
            with T.sblock("Y"):
                vi, vj, vk = T.axis.remap("SSR", [i, j, k])
                with T.init():
                    Y[vi, vj] = T.float32(0)
                Y[vi, vj] = Y[vi, vj] + X[vi, vk] * W[vk, T.if_then_else(vj == column, other, vj)]

    return matmul


@pytest.mark.parametrize(
    ("column", "other"), [(FILLED, FILLED + 1), (LAST, LAST - 1), (0, FILLED), (FILLED, 0)]
)
def test_a_column_that_is_read_wrongly_is_seen(suite, column, other):
    """Also one that is not held, and one that is held instead of it."""
    changed = wrong_column(column, other).with_attr("global_symbol", "matmul")

    @tvm.transform.module_pass(opt_level=0, name="WrongColumn")
    def change(module, _ctx):
        out = module.clone()
        gvar = module.get_global_var("matmul")
        out.update_func(gvar, changed.without_attr("global_symbol"))
        return out

    report = replay(suite[0].folder, session="inline", device_pipeline=change, units=["matmul"])
    assert report.units["matmul"] is Verdict.MISMATCH
    cases = {case.case.name: case.verdict for case in report.details["matmul"].cases}
    assert cases["main-000-case0"] is Verdict.MISMATCH


def test_another_filling_is_refused(suite, tmp_path, monkeypatch):
    """The oracles at places that are not held depend on it."""
    opened = open_suite(suite[0].folder)
    real = tensor_file.filled
    monkeypatch.setattr(tensor_file, "filled", lambda v, p, n, a: real(v, p, n, a) + 1)
    with pytest.raises(StoreError, match="not filled as they were"):
        entry_of(opened, "matmul")


@pytest.mark.parametrize(("shape", "axis"), [((7, 9), 0), ((7, 9), 1), ((3, 20, 5), 1), ((6,), 0)])
def test_filled_places_look_like_those_that_are_held(shape, axis):
    array = np.random.default_rng(2).integers(0, 99, shape).astype("float16")
    count = shape[axis]
    places = np.array([0, count // 2, count - 1])
    values = array.take(places, axis)
    found = tensor_file.filled(values, places, count, axis)
    assert (found.shape, found.dtype) == (shape, array.dtype)
    np.testing.assert_array_equal(found.take(places, axis), values)
    assert np.isin(found, values).all()
    file = tensor_file.dump_part(array, places, axis)
    again = tensor_file.parse_tensor(file, "float16", shape, rows=3, axis=axis)
    np.testing.assert_array_equal(again, found)
