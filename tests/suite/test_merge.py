"""Suites of several models become one, without duplicates and without loss."""

import hashlib
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tvm_ffi
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import StoreError, UsageError
from relax_tapml.replays.replay import replay
from relax_tapml.suite.manifest_file import dump_manifest, read_manifest
from relax_tapml.suite.merge import merge_suites
from relax_tapml.suite.open_suite import open_suite


@I.ir_module
class Other:
    """`increment` is another kernel here, `add_one` is the first model's `increment`."""

    @T.prim_func(private=True, s_tir=True)
    def increment(X: T.Buffer((3, 4), "float32"), Y: T.Buffer((3, 4), "float32")):
        for i, j in T.grid(3, 4):
            with T.sblock("Y"):
                vi, vj = T.axis.remap("SS", [i, j])
                Y[vi, vj] = X[vi, vj] + T.float32(2)

    @T.prim_func(private=True, s_tir=True)
    def add_one(x: T.handle, y: T.handle):
        n = T.int64()
        X = T.match_buffer(x, (n, 4))
        Y = T.match_buffer(y, (n, 4))
        for i, j in T.grid(n, 4):
            with T.sblock("Y"):
                vi, vj = T.axis.remap("SS", [i, j])
                Y[vi, vj] = X[vi, vj] + T.float32(1)

    @R.function
    def main(x: R.Tensor((3, 4), dtype="float32")):
        R.func_attr({"num_input": 1})
        cls = Other
        a = R.call_tir(cls.increment, (x,), out_ty=R.Tensor((3, 4), "float32"))
        b = R.call_tir(cls.add_one, (a,), out_ty=R.Tensor((3, 4), "float32"))
        c = R.cumsum(b, axis=0)
        return R.cumsum(c, axis=1)


@pytest.fixture(scope="module")
def other_suite(record_model, tmp_path_factory):
    return _carved(record_model, tmp_path_factory.mktemp("other"), 5)


def _carved(record_model, folder, seed):
    rng = np.random.default_rng(seed)
    samples = [(rng.standard_normal((3, 4), "float32"),) for _ in range(2)]
    recording = record_model(Other, folder / "captures", samples)
    with recording.store:
        recording.write_suite(folder / "gpt-2" / "tests")
    return folder / "gpt-2" / "tests"


def _cases(folder):
    """Everything that a suite tests: per case the kernel's name aside, inputs and oracles."""
    opened = open_suite(folder)
    return sorted(
        (
            tuple(_content(opened, item.tensor) for item in case.inputs),
            tuple(_content(opened, item.tensor) for item in case.outputs),
        )
        for entry in opened.manifest.units.values()
        for case in entry.cases
    )


def _content(opened, digest):
    array = opened.tensor(digest)
    return hashlib.sha256(array.tobytes()).hexdigest(), array.shape


def test_a_suite_and_its_copy_are_the_suite(suite, tmp_path):
    copied = shutil.copytree(suite, tmp_path / "copy" / "tests")
    merged = merge_suites(tmp_path / "merged", [suite, copied])
    one, both = open_suite(suite), open_suite(tmp_path / "merged")
    cases = sum(len(entry.cases) for entry in one.manifest.units.values())
    assert (merged.equal_units, merged.equal_cases) == (len(one.manifest.units), cases)
    assert merged.equal_tensors == len(one.manifest.tensors)
    assert both.manifest.units == one.manifest.units
    assert both.manifest.tensors == one.manifest.tensors
    for unit in one.manifest.units:
        assert tvm_ffi.structural_equal(one.module(unit), both.module(unit))
    assert set(both.manifest.merged_from) == {"out", "copy"}
    for name in one.manifest.sha256:
        assert (tmp_path / "merged" / name).exists()


def test_units_are_one_by_what_they_compute_not_by_name(suite, other_suite, tmp_path):
    merged = merge_suites(tmp_path / "merged", [suite, other_suite]).manifest
    assert merged.merged_from["gpt_2"] == {
        "increment_gpt_2": "increment",
        "increment": "add_one",
        **{name: old for name, old in merged.merged_from["gpt_2"].items() if "cumsum" in old},
    }
    ours = open_suite(suite).manifest.units["increment"].cases
    theirs = open_suite(other_suite).manifest.units["add_one"].cases
    assert len(merged.units["increment"].cases) == len(ours) + len(theirs)
    test_file = (tmp_path / "merged" / "test_increment_gpt_2.py").read_text()
    assert 'unit="increment_gpt_2"' in test_file
    assert "def increment_gpt_2(" in test_file


def test_nothing_is_lost(suite, other_suite, tmp_path):
    """Whatever the order, every case of every suite is in the merged one, once."""
    for index, order in enumerate([(suite, other_suite), (other_suite, suite)]):
        merge_suites(tmp_path / f"merged{index}", order)
        assert _cases(tmp_path / f"merged{index}") == sorted(_cases(suite) + _cases(other_suite))


def test_a_merged_suite_replays(suite, other_suite, tmp_path):
    merge_suites(tmp_path / "merged", [suite, other_suite, other_suite])
    shutil.rmtree(suite)
    report = replay(tmp_path / "merged", session="inline")
    assert set(report.units.values()) == {Verdict.PASS}, report.details
    assert len(report.units) == len(open_suite(tmp_path / "merged").manifest.units)


def test_merging_again_changes_nothing(suite, other_suite, tmp_path):
    merge_suites(tmp_path / "a", [suite, other_suite])
    again = merge_suites(tmp_path / "b", [tmp_path / "a", other_suite, suite])
    a, b = read_manifest(tmp_path / "a" / "manifest.json"), again.manifest
    assert {name: len(unit.cases) for name, unit in a.units.items()} == {
        name: len(unit.cases) for name, unit in b.units.items()
    }
    assert a.tensors == b.tensors


def test_a_merged_suite_may_replace_one_it_is_made_of(suite, other_suite, tmp_path):
    with pytest.raises(UsageError, match=r"exists and is not an empty folder.*--force"):
        merge_suites(suite, [suite, other_suite])
    merged = merge_suites(suite, [suite, other_suite], replace=True)
    assert open_suite(suite).manifest == merged.manifest


def test_a_folder_that_was_carved_again_may_be_merged_again(record_model, tmp_path):
    """Its cases have the names of those that were merged before, and are others."""
    whole = 0
    for seed in range(3):
        again = _carved(record_model, tmp_path / str(seed), seed)
        suites = [again] if seed == 0 else [tmp_path / "merged", again]
        merge_suites(tmp_path / "merged", suites, replace=True)
        whole += len(_cases(again))
        assert len(_cases(tmp_path / "merged")) == whole


def _with(suite, folder, **changes):
    """A copy of a suite with another manifest."""
    copied = shutil.copytree(suite, folder)
    manifest = read_manifest(copied / "manifest.json")
    (copied / "manifest.json").write_bytes(dump_manifest(replace(manifest, **changes)))
    return copied


def test_what_was_skipped_stays_skipped_with_its_reason(suite, tmp_path):
    left = _with(suite, tmp_path / "left", skipped={"attend": "it takes a cache"})
    right = _with(
        suite,
        tmp_path / "right",
        skipped={"attend": "never called", "increment": "it never returned"},
        skipped_sites={"main/7/x": "no"},
    )
    merged = merge_suites(tmp_path / "merged", [left, right, left]).manifest
    assert merged.skipped == {
        "attend": "it takes a cache",
        "attend_right": "never called",
        "increment_right": "it never returned",
    }
    assert merged.skipped_sites == {"main/7/x": "no"}
    listed = (tmp_path / "merged" / "test_not_carved.py").read_text()
    assert all(reason in listed for reason in merged.skipped.values())


def test_suites_of_two_sources_are_refused(suite, tmp_path):
    other = _with(suite, tmp_path / "other", source="cuda")
    with pytest.raises(UsageError, match=r"other was recorded on cuda, but .* on .*llvm"):
        merge_suites(tmp_path / "merged", [suite, other])
    assert not (tmp_path / "merged").exists()


def test_a_damaged_suite_is_refused_and_nothing_is_written(suite, other_suite, tmp_path):
    broken = shutil.copytree(suite, tmp_path / "broken")
    (broken / "units" / "add.json").write_text("{}")
    with pytest.raises(StoreError, match=r"broken/units/add.json was changed"):
        merge_suites(tmp_path / "merged", [other_suite, broken])
    assert not (tmp_path / "merged").exists()
