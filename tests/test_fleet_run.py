"""A whole run with a tracker's devices, one of which lies."""

from __future__ import annotations

import pytest
import tvm
from broken_pipelines import breaks, minds_mark
from tiny_model import UNITS, model

from relax_tapml import bring_up
from relax_tapml.errors import ExitCode


@pytest.fixture
def liar(first_served):
    """The address of the first server, which is given work before the others begin theirs."""
    return first_served("three")


def test_units_are_spread_and_the_migration_avoids_what_lies(fleet, liar, tmp_path):
    """All units pass and move; the result says where each was decided, and who is not believed."""
    pipeline = tvm.transform.Sequential([breaks(unit, minds_mark) for unit in UNITS])
    options = {"session": fleet.session("three"), "device_pipeline": pipeline, "strategy": "bisect"}
    result = bring_up(model(), out=tmp_path / "tiny", **options)
    document = result.document
    assert (result.verdict, result.culprits, result.exit_code) == ("pass", [], ExitCode.PASS)
    assert all(unit["on_device"] for unit in document["units"])
    assert {unit["device"] for unit in document["units"]} <= set(fleet.addresses["three"]) - {liar}
    assert document["devices"][liar]["suspect"].startswith("gave wrong answers for ")
    assert sum(bool(record["suspect"]) for record in document["devices"].values()) == 1
    again = bring_up(model(), out=tmp_path / "tiny", resume=True, **options)
    assert again.document["devices"] == document["devices"]
