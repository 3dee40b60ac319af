"""Cases with other extents of symbolic dimensions than the run had."""

from __future__ import annotations

import numpy as np
import pytest
import tvm_ffi
from broken_pipelines import breaks
from tiny_runs import unit_of
from tvm import tirx
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812

from relax_tapml import bring_up
from relax_tapml.frontend.model import Model, Sample
from relax_tapml.report.dims import dims_text
from relax_tapml.suite.manifest import SuiteDim
from relax_tapml.suite.open_suite import open_suite


@I.ir_module
class Rows:
    @R.function
    def main(
        x: R.Tensor(("n", 8), "float32"),
        i: R.Tensor(("m",), "int64"),
        mask: R.Tensor(("n", 8), "bool"),
        w: R.Tensor((8, 8), "float32"),
    ):
        R.func_attr(
            {"num_input": 3, "tir_var_upper_bound": {"n": 70}, "tir_var_lower_bound": {"m": 2}}
        )
        with R.dataflow():
            a = R.nn.relu(R.matmul(x, w))
            b = R.nn.softmax(a, axis=0)
            c = R.take(b, i, axis=0)
            d = R.concat([a, R.where(mask, b, a)], axis=0)
            e = R.permute_dims(w)
            R.output(c, d, e)
        return c, d, e


MATMUL, SOFTMAX, TAKE = "fused_matmul_relu", "softmax", "take"


def _model(*lengths):
    rng = np.random.default_rng(0)
    samples = [
        Sample(
            name=str(n),
            arrays=(
                rng.standard_normal((n, 8)).astype("float32"),
                np.array([n - 1, 0, 3, 1, 2, 5, 3, 4]),
                rng.random((n, 8)) < 0.5,
            ),
        )
        for n in lengths
    ]
    params = {"w": rng.standard_normal((8, 8)).astype("float32")}
    return Model(name="rows", module=Rows, params=params, samples=tuple(samples))


@pytest.fixture(scope="module")
def model():
    """One length, a multiple of four."""
    return _model(8)


def _run(model, out, **options):
    return bring_up(model, out=out, session="inline", strategy="isolated", repair=False, **options)


@pytest.fixture(scope="module")
def clean(model, tmp_path_factory):
    """A run with right kernels."""
    return _run(model, tmp_path_factory.mktemp("rows") / "run")


@pytest.fixture(scope="module")
def suite(clean):
    return open_suite(clean.out / "tests")


def _probes(suite, unit):
    return [case for case in suite.manifest.units[unit].cases if "-shape" in case.name]


def _inputs(suite, case):
    return [suite.tensor(item.tensor) for item in case.inputs]


def test_right_kernels_pass_in_all_shapes(clean):
    """No probe fails a right kernel, and the source passes all."""
    assert (clean.verdict, clean.culprits) == ("pass", [])
    assert "the source" not in "".join(clean.document["unproven"].values())


def test_lengths_are_those_at_which_kernels_go_wrong(suite):
    """One, two, a prime, around powers of two and tiles; never what the model does not allow."""
    sizes = {_inputs(suite, case)[0].shape[0] for case in _probes(suite, MATMUL)}
    assert sizes == {1, 2, 7, 63, 65, 70}
    for case in _probes(suite, MATMUL):
        x, w = _inputs(suite, case)
        assert (x.shape[1], w.shape) == (8, (8, 8))
        assert suite.tensor(case.outputs[0].tensor).shape == (x.shape[0], 8)
        assert f"other shapes, main: n (axis 0 of x) = {x.shape[0]}" in case.reason


def test_values_are_drawn_from_the_recorded_ones(suite):
    """Weights and what is computed from them stay."""
    [recorded, *_] = suite.manifest.units[MATMUL].cases
    x, w = _inputs(suite, recorded)
    for case in _probes(suite, MATMUL):
        drawn, weight = _inputs(suite, case)
        assert np.isin(drawn, x).all()
        np.testing.assert_array_equal(weight, w)


def test_indices_stay_within_what_they_index(suite):
    """Of a table with fewer rows the first are read; both lengths change."""
    shapes = set()
    for case in _probes(suite, TAKE):
        table, indices = _inputs(suite, case)
        assert 0 <= indices.min() <= indices.max() < table.shape[0]
        shapes.add((table.shape[0], indices.shape[0]))
    assert {n for n, _ in shapes} >= {1, 2, 7}
    assert len({m for _, m in shapes}) > 3
    assert min(m for _, m in shapes) == 2
    assert any(n != m for n, m in shapes)


def test_a_dimension_with_one_value_is_listed(clean, suite):
    """With what probes have instead, unit by unit, in the result and in words."""
    [dim] = suite.manifest.units[MATMUL].dims_seen_once
    assert dim == SuiteDim(name="main: n (axis 0 of x)", value=8, probed=(1, 2, 7, 63, 65, 70))
    listed = {unit["name"]: unit["dims_seen_once"] for unit in clean.document["units"]}
    assert [(d["name"], d["value"]) for d in listed[TAKE]] == [
        ("main: n (axis 0 of x)", 8),
        ("main: m (axis 0 of i)", 8),
    ]
    [static] = (name for name in listed if name.startswith("transpose"))
    assert listed[static] == []
    assert "main: n (axis 0 of x) = 8" in dims_text(clean)
    page = (clean.out / "report.html").read_text()
    assert "Dimensions seen with one value only" in page


def test_a_dimension_with_two_values_is_not(tmp_path):
    """Probes have other values than either."""
    result = _run(_model(8, 7), tmp_path / "run")
    suite = open_suite(result.out / "tests")
    assert suite.manifest.units[MATMUL].dims_seen_once == ()
    sizes = {_inputs(suite, case)[0].shape[0] for case in _probes(suite, MATMUL)}
    assert sizes.isdisjoint({7, 8})
    assert sizes >= {1, 2}


def _rows(change):
    """Return a fault that runs the loops over a symbolic extent another number of times."""

    def fault(kernel):
        def loop(found):
            if not isinstance(found.extent, tirx.Var):
                return found
            extent = change(found.extent)
            return tirx.For(found.loop_var, found.min, extent, found.kind, found.body)

        return tvm_ffi.structural_map(kernel, (tirx.For, loop))

    return fault


FAULTS = {
    "no tail": lambda n: n // 4 * 4,
    "one": lambda n: n - tirx.Cast("int64", n == 1),
    "more than a tile": lambda n: tirx.min(n, tirx.IntImm("int64", 64)),
    "odd": lambda n: n - tirx.Cast("int64", n % 2 == 1),
    "less than a tile": lambda n: n - tirx.Cast("int64", n < 8),
}


@pytest.mark.parametrize(
    ("unit", "fault"),
    # The model allows no take of a single row.
    [(u, f) for f in FAULTS for u in (MATMUL, SOFTMAX, TAKE) if (u, f) != (TAKE, "one")],
)
def test_a_kernel_that_is_right_for_some_lengths_only_is_named(unit, fault, clean, model):
    """Each is right for the one length that the run had."""
    pipeline = breaks(unit, _rows(FAULTS[fault]))
    result = _run(model, clean.out, resume=True, device_pipeline=pipeline)
    assert (result.verdict, result.culprits) == ("mismatch", [unit])
    assert "in other shapes" in unit_of(result, unit)["reason"]
