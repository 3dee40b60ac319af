import hashlib
from dataclasses import replace

import numpy as np
import pytest
import tvm

from relax_tapml.capture.values import OpaqueValue, ParameterValue
from relax_tapml.carve.select.choose_cases import choose_cases
from relax_tapml.errors import StoreError, UsageError
from relax_tapml.suite.open_suite import open_suite

UNITS = [
    "increment",
    "cumsum",
    "add_and_subtract",
    "vm.builtin.reshape",
    "test_carve.sine",
    "add",
    "double_inplace",
]


def _write(recording, folder, cases=None, **options):
    return recording.write_suite(folder, cases, is_probed=False, **options)


def test_what_is_written_can_be_read_back(recording, suite):
    opened = open_suite(suite)
    assert list(opened.manifest.units) == UNITS
    assert opened.manifest.skipped == opened.manifest.skipped_sites == {}
    assert tvm.target.Target(opened.manifest.source).kind.name == "llvm"
    for case in choose_cases(recording.store, recording.sites):
        unit = opened.manifest.units[case.unit]
        written = next(item for item in unit.cases if item.sample == case.record.sample)
        for output, value in zip(written.outputs, case.record.outputs, strict=True):
            oracle = recording.store.tensor(value.digest)
            np.testing.assert_array_equal(opened.tensor(output.tensor), oracle)
            assert output.tolerance.origin
        functions = {gvar.name_hint for gvar in opened.module(case.unit).functions}
        assert written.function in functions


def test_a_unit_that_is_no_kernel_is_judged_by_its_dtype_with_the_reason(suite):
    units = open_suite(suite).manifest.units
    for name, reason in (
        ("test_carve.sine", "because the unit is no PrimFunc"),
        ("add", "float64"),
    ):
        for case in units[name].cases:
            assert reason in case.outputs[0].tolerance.origin


def test_an_output_folder_is_opened_by_its_suite(suite):
    assert open_suite(suite.parent).folder == suite


def test_weights_and_equal_tensors_are_written_once(suite):
    manifest = open_suite(suite).manifest
    weights = [
        item.tensor
        for unit in manifest.units.values()
        for case in unit.cases
        for item in case.inputs
        if item.weight == "w"
    ]
    assert len(weights) > 1
    assert len(set(weights)) == 1
    files = {tensor.file for tensor in manifest.tensors.values()}
    assert len(list((suite / "data").iterdir())) == len(files) < len(manifest.tensors)
    contents = {hashlib.sha256(file.read_bytes()).digest() for file in (suite / "data").iterdir()}
    assert len(contents) == len(files)


def test_the_same_cases_give_the_same_files(recording, suite, tmp_path):
    _write(recording, tmp_path / "again")
    for file in suite.rglob("*"):
        if file.is_file():
            again = tmp_path / "again" / file.relative_to(suite)
            assert again.read_bytes() == file.read_bytes(), file


def test_a_unit_that_cannot_be_carved_is_listed_with_its_reason(recording, tmp_path):
    cases = [
        replace(
            case,
            record=replace(case.record, inputs=(OpaqueValue(type_key="Cache"),)),
        )
        if case.unit == "cumsum"
        else case
        for case in choose_cases(recording.store, recording.sites)
        if case.unit != "add"
    ]
    manifest = _write(recording, tmp_path / "tests", cases).manifest
    assert manifest.skipped == {
        "cumsum": "it takes an opaque Cache, which only its run has",
        "add": "no call of it that returned was recorded",
    }
    assert set(manifest.units) == set(UNITS) - {"cumsum", "add"}
    listed = (tmp_path / "tests" / "test_not_carved.py").read_text()
    assert all(reason in listed for reason in manifest.skipped.values())


def test_a_site_that_cannot_be_carved_is_listed_although_its_unit_has_cases(recording, tmp_path):
    cases = choose_cases(recording.store, recording.sites)
    broken = next(case for case in cases if case.unit == "increment")
    cases[cases.index(broken)] = replace(broken, record=replace(broken.record, outputs=None))
    manifest = _write(recording, tmp_path / "tests", cases).manifest
    assert manifest.skipped_sites == {broken.record.site: "it never returned on the source"}
    assert len(manifest.units["increment"].cases) == 2


def test_names_and_reasons_that_cannot_be_printed_are_kept_escaped(recording, tmp_path):
    cases = [
        replace(case, reason="text \x1b[2J", record=replace(case.record, sample="a\u200db\r"))
        for case in choose_cases(recording.store, recording.sites)
    ]
    _write(recording, tmp_path / "suite", cases)
    units = open_suite(tmp_path / "suite").manifest.units.values()
    written = {(case.sample, case.reason) for unit in units for case in unit.cases}
    assert written == {("a\\u200db\\r", "text \\x1b[2J")}


def test_an_existing_folder_is_kept_unless_replacing_is_asked_for(recording, suite):
    (suite / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match=r"exists and is not an empty folder.*--force"):
        _write(recording, suite)
    assert (suite / "mine.txt").exists()
    _write(recording, suite, replace=True)
    assert not (suite / "mine.txt").exists()
    open_suite(suite)


def test_a_suite_that_fails_half_way_leaves_nothing(recording, tmp_path):
    cases = choose_cases(recording.store, recording.sites)
    lost = replace(cases[-1].record, inputs=(ParameterValue(name="no such weight"),))
    with pytest.raises(StoreError, match="no such weight"):
        _write(recording, tmp_path / "tests", [*cases[:-1], replace(cases[-1], record=lost)])
    assert list(tmp_path.iterdir()) == []
