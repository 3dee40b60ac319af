"""A whole run with a tracker's devices, one of which lies."""

from __future__ import annotations

import json

import pytest
import tvm
from broken_pipelines import breaks, minds_mark
from moody_kernels import RIGHT
from tiny_model import UNITS, model

from relax_tapml import bring_up
from relax_tapml.errors import ExitCode


@pytest.fixture
def outvoted(first_served):
    """The address of the first server, which is given work before the others begin theirs."""
    return first_served("three")


def test_units_are_spread_and_the_migration_avoids_what_lies(fleet, outvoted, tmp_path):
    """All units pass and move; the result says where each was decided, and who is not believed."""
    pipeline = tvm.transform.Sequential([breaks(unit, minds_mark) for unit in UNITS])
    options = {"session": fleet.session("three"), "device_pipeline": pipeline, "strategy": "bisect"}
    result = bring_up(model(), out=tmp_path / "tiny", **options)
    document = result.document
    assert (result.verdict, result.culprits, result.exit_code) == ("pass", [], ExitCode.PASS)
    assert all(unit["on_device"] for unit in document["units"])
    assert {unit["device"] for unit in document["units"]} <= set(fleet.addresses["three"]) - {
        outvoted
    }
    assert document["devices"][outvoted]["suspect"].startswith("gave wrong answers for ")
    assert sum(bool(record["suspect"]) for record in document["devices"].values()) == 1
    again = bring_up(model(), out=tmp_path / "tiny", resume=True, **options)
    assert again.document["devices"] == document["devices"]


def test_a_run_that_loses_all_devices_keeps_what_it_found(fleet, doom, tmp_path, monkeypatch):
    """The result says what was judged and why the rest was not; a later run is a whole one."""
    out = tmp_path / "tiny"
    doom("doomed_too", set(UNITS[:2]))
    session = fleet.session("doomed_too")
    result = bring_up(model(), out=out, session=session)
    assert (result.verdict, result.exit_code) == ("inconclusive", ExitCode.INCONCLUSIVE)
    units = {unit["name"]: unit for unit in result.document["units"]}
    assert [units[name]["verdict"] for name in UNITS[:2]] == ["pass", "pass"]
    assert units["sum"]["verdict"] == "inconclusive"
    assert units["sum"]["reason"].startswith("not judged: no device of key 'doomed_too' is left: ")
    assert " units were not judged (" in result.document["reason"]
    assert result.document["reason"].endswith("Continue with --resume")
    assert all(one["lost"] for one in result.document["devices"].values())
    assert result.document["steps"] == []
    assert json.loads((out / "result.json").read_text()) == result.document
    assert "not judged" in (out / "report.html").read_text()
    assert not (out / "bundle").exists()
    monkeypatch.undo()
    fleet.local.add_server(key="doomed_too", environment=RIGHT)
    again = bring_up(model(), out=out, resume=True, session=session)
    assert (again.verdict, again.document["reason"]) == ("pass", "")
