"""A suite for a TVM that cannot read its modules."""

import json

import pytest
import tvm_ffi

from relax_tapml.errors import StoreError
from relax_tapml.suite.open_suite import open_suite
from relax_tapml.suite.transcript import transcribe, write_scripts


@pytest.fixture
def opened(suite):
    return open_suite(suite, trust=True)


@pytest.fixture
def edit(opened, tmp_path):
    """A function that writes the scripts of the suite, that of one unit changed."""

    def edited(unit, change):
        write_scripts(opened, tmp_path)
        file = tmp_path / "scripts.json"
        scripts = json.loads(file.read_text())
        change(scripts[opened.manifest.units[unit].module])
        file.write_text(json.dumps(scripts))

    return edited


def test_a_transcript_has_the_same_units_and_cases(opened, tmp_path):
    write_scripts(opened, tmp_path)
    folder = transcribe(opened.folder.parent, tmp_path, tmp_path / "made" / "tests")
    made = open_suite(folder, trust=True)
    assert list(made.manifest.units) == list(opened.manifest.units)
    assert made.manifest.skipped == opened.manifest.skipped
    for unit, entry in made.manifest.units.items():
        assert entry.cases == opened.manifest.units[unit].cases
        assert tvm_ffi.structural_equal(made.module(unit), opened.module(unit))
    assert made.manifest.tensors == opened.manifest.tensors


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"text": "", "reason": "it holds a tensor constant"}, "it holds a tensor constant"),
        ({"text": "from tvm.script import ir as I\n@I.ir_module\nclass Module:\n    x = 1\n"}, ""),
    ],
    ids=["not exact", "not parsed"],
)
def test_a_unit_that_cannot_be_transcribed_is_skipped_with_the_reason(
    opened, edit, change, why, tmp_path
):
    edit("increment", lambda script: script.update(change))
    made = open_suite(transcribe(opened.folder, tmp_path, tmp_path / "made"), trust=True)
    assert set(opened.manifest.units) - set(made.manifest.units) == {"increment"}
    assert "cannot read it, and as TVMScript: " in made.manifest.skipped["increment"]
    assert made.manifest.skipped["increment"].endswith(why)


def test_a_script_that_is_other_python_is_refused(opened, edit, tmp_path):
    edit("increment", lambda script: script.update(text=script["text"] + "\nprint(1)\n"))
    with pytest.raises(StoreError, match="not only TVMScript"):
        transcribe(opened.folder, tmp_path, tmp_path / "made")
