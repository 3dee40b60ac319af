"""Tables of which a suite holds the rows that matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812
from tvm.script import tirx as T  # noqa: N812

from relax_tapml import tensor_file
from relax_tapml.compare.verdict import Verdict
from relax_tapml.replays.replay import replay


@I.ir_module
class Embedding:
    @R.function
    def main(
        i: R.Tensor((3,), "int64"),
        table: R.Tensor((9000, 32), "float32"),
        other: R.Tensor((9000, 32), "float32"),
    ):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            a = R.take(table, i, axis=0)
            b = R.sum(other, axis=0)
            R.output(a, b)
        return a, b


@pytest.fixture(scope="module")
def suite(record_model, tmp_path_factory):
    rng = np.random.default_rng(0)
    table, other = rng.standard_normal((2, 9000, 32)).astype("float32")
    samples = [(np.array(rows), table, other) for rows in ([5, 8999, 5], [0, 77, 1234])]
    folder = tmp_path_factory.mktemp("rows")
    recording = record_model(Embedding, folder / "captures", samples)
    yield recording.write_suite(folder / "tests"), table
    recording.store.close()


def test_only_the_rows_that_cases_read_are_held(suite):
    """One table for all cases of the unit, in its own shape when it is read."""
    opened, table = suite
    digests = {
        item.tensor
        for case in opened.manifest.units["take"].cases
        for item in case.inputs
        if item.weight
    }
    (digest,) = digests
    entry = opened.manifest.tensors[digest]
    assert entry.shape == (9000, 32)
    assert 5 <= entry.rows <= 8  # a probe reads others
    assert (opened.folder / entry.file).stat().st_size < 2000
    found = opened.tensor(digest)
    rows = [0, 5, 77, 1234, 8999]
    np.testing.assert_array_equal(found[rows], table[rows])
    assert found.shape == table.shape


def test_a_table_that_is_read_in_full_is_held_in_full(suite):
    """Although the unit beside it takes whole numbers."""
    opened, _ = suite
    (case, *_) = opened.manifest.units["sum"].cases
    assert opened.manifest.tensors[case.inputs[0].tensor].rows is None


def test_the_suite_passes(suite):
    opened, _ = suite
    report = replay(opened.folder, session="inline")
    assert set(report.units.values()) == {Verdict.PASS}


@I.ir_module
class Twice:
    @T.prim_func(private=True, s_tir=True)
    def first_and_last(
        W: T.Buffer((9000, 32), "float32"),
        index: T.Buffer((3,), "int64"),
        V: T.Buffer((9000, 32), "float32"),
        Y: T.Buffer((3, 32), "float32"),
    ):
        for i, j in T.grid(3, 32):
            with T.sblock("Y"):
                vi, vj = T.axis.remap("SS", [i, j])
                Y[vi, vj] = W[index[vi], vj] + V[8999 - vi, vj]

    @R.function
    def main(i: R.Tensor((3,), "int64"), w: R.Tensor((9000, 32), "float32")):
        R.func_attr({"num_input": 1})
        cls = Twice
        return R.call_tir(cls.first_and_last, (w, i, w), out_ty=R.Tensor((3, 32), "float32"))


def test_a_weight_that_a_call_takes_twice_is_held_in_full(record_model, tmp_path):
    """The rows that matter in one place are not those of the other."""
    table = np.random.default_rng(0).standard_normal((9000, 32)).astype("float32")
    recording = record_model(Twice, tmp_path / "captures", [(np.array([5, 1, 0]), table)])
    manifest = recording.write_suite(tmp_path / "tests").manifest
    recording.store.close()
    (case, *_) = manifest.units["first_and_last"].cases
    assert [item.weight for item in case.inputs] == ["w", None, "w"]
    assert manifest.tensors[case.inputs[0].tensor].rows is None
    report = replay(tmp_path / "tests", session="inline")
    assert set(report.units.values()) == {Verdict.PASS}


@given(st.integers(1, 40), st.integers(1, 5), st.data())
def test_rows_come_back_where_they_were(count, width, data):
    """The others look like them."""
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1))), np.int64)
    array = np.arange(count * width, dtype=np.int32).reshape(count, width)
    made = tensor_file.dump_part(array, rows)
    found = tensor_file.parse_tensor(made, "int32", array.shape, rows=len(rows))
    np.testing.assert_array_equal(found[rows], array[rows])
    assert np.isin(found, array[rows]).all()


@pytest.mark.parametrize(
    "rows", [[3, 3], [5, 1], [0, 12], [-1, 2]], ids=["twice", "order", "high", "negative"]
)
def test_row_numbers_that_make_no_sense_are_refused(rows):
    """A file may have been edited."""
    array = np.zeros((12, 2), np.float32)
    made = tensor_file.dump_part(array, np.array([0, 1]))
    forged = made.replace(np.array([0, 1]).tobytes(), np.array(rows).tobytes())
    with pytest.raises(ValueError, match="not 2 ascending numbers below 12"):
        tensor_file.parse_tensor(forged, "float32", (12, 2), rows=2)


def test_a_header_of_rows_is_checked_without_the_rows(tmp_path):
    """Count, dtype and size must be those that are listed."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(tensor_file.dump_part(np.zeros((12, 2), np.float32), np.array([0, 7])))
    with path.open("rb") as file:
        tensor_file.check_header(file, "float32", (12, 2), rows=2)
    for wrong in ({"rows": 3}, {"rows": None}, {"rows": 13}, {"rows": 0}):
        with path.open("rb") as file, pytest.raises(ValueError, match=r"expected|cannot be held"):
            tensor_file.check_header(file, "float32", (12, 2), **wrong)
