"""``relax-tapml explain``."""

import json
import shutil

import pytest
from tiny_model import UNITS, model

from relax_tapml.bringup.main_job import bring_up
from relax_tapml.cli.explain import _row
from relax_tapml.cli.main import main
from relax_tapml.crossings import Crossing, DeviceCall


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    bring_up(model(), session="inline", out=folder)
    return folder


def explained(capsys, *options):
    assert main(["explain", *map(str, options), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_step_of_a_run_is_explained(out, capsys):
    """As the run itself counted; the last good boundary is told call by call."""
    document = explained(capsys, out)
    steps = json.loads((out / "result.json").read_text())["steps"]
    assert [item["step"] for item in document["steps"]] == list(range(len(UNITS) + 1))
    for item, step in zip(document["steps"], steps, strict=True):
        assert item["regions"] == step["regions"]
        assert item["uploads"] + item["downloads"] == step["crossings"]
        assert item["bytes"] == step["crossing_bytes"]
    (call,) = document["calls"]
    assert len(call["sites"]) == 9
    assert [item["name"] for item in call["uploads"]] == ["x"]
    assert sorted(item["name"] for item in call["parameters"]) == ["b", "w"]


def test_bytes_that_crossed_are_those_that_were_told(out):
    """For each of two samples, and weights and the pattern of poison once for all steps."""
    steps = json.loads((out / "result.json").read_text())["steps"]
    weights = 4 * (64 + 8)
    crossed = sum(2 * step["crossing_bytes"] for step in steps)
    pattern = 1 << 16
    assert sum(step["bytes_moved"] for step in steps) == crossed + weights + pattern


def test_a_boundary_of_ones_own_is_explained(out, capsys, tmp_path):
    """Edited by hand, without a run."""
    boundary = json.loads((out / "boundaries" / "002.json").read_text())
    boundary["units"], boundary["sites"] = ["softmax"], ["main/000/matmul"]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(boundary))
    document = explained(capsys, out, "--boundary", path)
    assert document["steps"] == []
    (call,) = document["calls"]
    assert call["sites"] == ["main/000/matmul", "main/001/softmax"]


def test_people_get_a_table(out, capsys):
    """A line for each step, then the regions and a sum."""
    assert main(["explain", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        *("step", "sites", "regions", "functions", "uploads", "downloads", "bytes")
    ]
    assert lines[len(UNITS) + 3] == "The last good one:"
    assert lines[-1] == ("9 sites in 1 region (1 function); 1 value to the device, 3 back, 336 B")


def test_calls_of_one_region_are_a_line():
    """A model has a region for each layer; JSON has every call."""
    crossing = Crossing(name="x", type="float32[4]", size_bytes=16)
    calls = [
        DeviceCall(
            function="main",
            region="main_region0",
            sites=(f"main/{n}/add",),
            uploads=(crossing,),
            downloads=(),
            parameters=(crossing,),
        )
        for n in range(6)
    ]
    sites, uploads, downloads, weights = _row(calls)
    assert "main/0/add" in sites
    assert "2 more" in sites
    assert (uploads.count("float32[4]"), downloads, weights) == (4, "-", "6, 96 B")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--step", "77"], "boundaries/077.json cannot be read"),
        (["--boundary", "nowhere.json"], "boundary nowhere.json cannot be read"),
    ],
)
def test_what_is_not_there_is_wrong_usage(out, capsys, options, message):
    """With its name."""
    assert main(["explain", str(out), *options]) == 2
    assert message in capsys.readouterr().err


def test_another_folder_is_wrong_usage(tmp_path, capsys):
    """It has no module."""
    assert main(["explain", str(tmp_path)]) == 2
    assert f"{tmp_path} has no lowered.json" in capsys.readouterr().err


def test_a_damaged_module_is_told(out, tmp_path, capsys):
    """Not as an internal error."""
    (tmp_path / "lowered.json").write_text("{")
    assert main(["explain", str(tmp_path), "--boundary", str(out / "boundaries" / "001.json")]) == 3
    assert "lowered.json is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", '{"schema": 1}', '{"schema": 7, "calls": []}', "[]"])
def test_damaged_device_calls_are_told(out, tmp_path, capsys, content):
    """With the file; they are not guessed from the model instead."""
    folder = shutil.copytree(out, tmp_path / "run")
    (folder / "boundaries" / "001.calls.json").write_text(content)
    assert main(["explain", str(folder)]) == 3
    assert "001.calls.json" in capsys.readouterr().err


def test_a_run_without_files_of_device_calls_is_explained(out, tmp_path, capsys):
    """As another version has left it: its boundaries are partitioned again."""
    folder = shutil.copytree(out, tmp_path / "run")
    for path in (folder / "boundaries").glob("*.calls.json"):
        path.unlink()
    assert explained(capsys, folder) == explained(capsys, out)
