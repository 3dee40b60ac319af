"""The model in the output folder of a suite is used, or refused by name, never ignored."""

import pytest
import tvm

from relax_tapml.errors import StoreError
from relax_tapml.suite.model_beside import model_beside
from relax_tapml.suite.open_suite import open_suite


def test_a_suite_alone_has_no_model(suite):
    assert model_beside(open_suite(suite)) is None


def test_the_model_of_a_suite_is_found(recording, suite):
    path = suite.parent / "lowered.json"
    path.write_text(tvm.ir.save_json(recording.lowered))
    found = model_beside(open_suite(suite, trust=True))
    assert "main" in {gvar.name_hint for gvar in found.functions}


def test_another_model_is_none_of_the_suite(suite):
    (suite.parent / "lowered.json").write_text(tvm.ir.save_json(tvm.IRModule()))
    assert model_beside(open_suite(suite)) is None


def test_a_damaged_model_is_refused_by_name(suite):
    """Without it a pipeline would be applied to the units alone, which may mean something else."""
    (suite.parent / "lowered.json").write_text("{")
    with pytest.raises(StoreError, match=r"lowered\.json"):
        model_beside(open_suite(suite))
