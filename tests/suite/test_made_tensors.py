"""Suites that describe tensors instead of holding them, and what a suite lists as untested."""

from __future__ import annotations

import numpy as np
import pytest
from edited_suite import edited
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import StoreError
from relax_tapml.replays.replay import replay
from relax_tapml.suite.merge import merge_suites
from relax_tapml.suite.open_suite import open_suite
from relax_tapml.suite.reproducer import reproducer


@I.ir_module
class Product:
    @R.function
    def main(
        x: R.Tensor((4, 64), "float16"),
        ids: R.Tensor((3,), "int64"),
        w: R.Tensor((64, 128), "float16"),
    ):
        R.func_attr({"num_input": 2})
        with R.dataflow():
            a = R.matmul(x, w)
            b = R.cumsum(ids, axis=0)
            c = R.nn.softmax(a)
            R.output(b, c)
        return b, c


@pytest.fixture(scope="module")
def made(record_model, tmp_path_factory):
    """The folder of a suite with exact sums of a weight of 16 KiB."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 128)).astype("float16")
    samples = [
        (rng.standard_normal((4, 64)).astype("float16"), np.arange(3), weight) for _ in range(2)
    ]
    recording = record_model(Product, tmp_path_factory.mktemp("made") / "captures", samples)
    folder = tmp_path_factory.mktemp("made_suite") / "tests"
    recording.write_suite(folder)
    recording.store.close()
    return folder


def exact_case(suite):
    [case] = [c for c in suite.manifest.units["matmul"].cases if c.name.endswith("-exact")]
    return case


def test_a_large_tensor_of_a_recipe_is_no_file(made):
    """It is no weight any longer, and what it is made of is in the manifest."""
    suite = open_suite(made)
    x, w = exact_case(suite).inputs
    entry = suite.manifest.tensors[w.tensor]
    assert entry.file is None
    assert w.weight is None
    np.testing.assert_array_equal(
        suite.tensor(w.tensor), entry.recipe.array(entry.dtype, entry.shape)
    )
    assert suite.manifest.tensors[x.tensor].file is not None
    assert suite.manifest.units["matmul"].cases[0].inputs[1].weight == "w"


def test_it_replays_merges_and_reproduces(made, tmp_path):
    """Like any other tensor."""
    assert set(replay(made, session="inline").units.values()) == {Verdict.PASS}
    merged = merge_suites(tmp_path / "merged", [made, made])
    suite = open_suite(tmp_path / "merged")
    assert merged.manifest == suite.manifest
    case = exact_case(suite)
    assert suite.manifest.tensors[case.inputs[1].tensor].file is None
    assert suite.tensor(case.inputs[1].tensor).shape == (64, 128)
    assert len(reproducer(suite, "matmul", case).data) > 16384


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("seed", 7, "is made by a recipe, which makes"),
        ("magnitude", 0, "magnitude of a generated tensor is 0"),
    ],
)
def test_a_recipe_that_makes_another_tensor_is_refused(made, tmp_path, field, value, message):
    """With a right checksum of the manifest, as a hostile person would."""
    merge_suites(tmp_path / "copy", [made])
    digest = exact_case(open_suite(tmp_path / "copy")).inputs[1].tensor
    with edited(tmp_path / "copy") as document:
        document["tensors"][digest]["recipe"][field] = value
    with pytest.raises(StoreError, match=message):
        open_suite(tmp_path / "copy").tensor(digest)


def test_a_tensor_without_file_and_recipe_is_refused(made, tmp_path):
    """And one with both."""
    merge_suites(tmp_path / "copy", [made])
    digest = exact_case(open_suite(tmp_path / "copy")).inputs[1].tensor
    with edited(tmp_path / "copy") as document:
        document["tensors"][digest]["recipe"] = None
    with pytest.raises(StoreError, match="a file or a recipe"):
        open_suite(tmp_path / "copy")


def test_a_unit_lists_what_no_case_of_it_tests(made, tmp_path):
    """Inputs that never varied, and sums that cannot be exact; also where suites are merged."""
    units = open_suite(made).manifest.units
    assert units["cumsum"].constant_inputs == ("ids: the same values",)
    assert units["matmul"].constant_inputs == ()
    assert units["softmax"].inexact == "a sum has exp in its terms"
    assert units["softmax"].constant_inputs == ()
    merged = merge_suites(tmp_path / "merged", [made, made]).manifest.units
    # Whether these are the same in both is not known.
    assert merged["cumsum"].constant_inputs == ()
    assert merged["softmax"].inexact == "a sum has exp in its terms"
