"""``relax-tapml replay``: one suite on one target, and suites on targets."""

from __future__ import annotations

import json
import shutil

import pytest
from tiny_model import UNITS

from relax_tapml.cli.main import main
from relax_tapml.errors import DeviceUnavailable
from relax_tapml.replays.unit.unit_replay import replay_unit

INLINE = "llvm=inline"


@pytest.fixture
def broken_session():
    """A target that cannot be reached."""
    return "llvm=tracker:127.0.0.1:1:board"


def test_one_suite_names_the_device_of_each_unit(finished, capsys):
    """The JSON of one suite names the device of each unit and each case."""
    command = ["replay", str(finished), "--target", "llvm", "--session", "inline"]
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [unit["name"] for unit in document["units"]] == UNITS
    assert {unit["device"] for unit in document["units"]} == {"inline"}
    assert {case["device"] for unit in document["units"] for case in unit["cases"]} == {"inline"}
    assert (document["schema"], list(document["devices"])) == (3, ["inline"])
    assert all(unit["tolerance_origin"] for unit in document["units"])
    assert document["devices"]["inline"]["units"] == len(UNITS)
    assert main(command) == 0
    assert capsys.readouterr().out == f"{len(UNITS)} of {len(UNITS)} units pass alone on llvm\n"
    assert main([*command, "--unit", UNITS[0]]) == 0
    assert capsys.readouterr().out == "1 of 1 unit passes alone on llvm\n"


def test_a_matrix_has_suites_as_rows_and_targets_as_columns(finished, tmp_path, capsys):
    other = shutil.copytree(finished, tmp_path / "other")
    command = ["replay", str(finished), str(other), "--on", INLINE, "--on", 'llvm={"kind":"llvm"}']
    assert main(command) == 2
    capsys.readouterr()
    command = ["replay", str(finished), str(other), "--on", INLINE]
    assert main(command) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    count = str(len(UNITS))
    assert lines == [
        ["suite", "llvm"],
        [str(finished), count, "of", count],
        [str(other), count, "of", count],
        ["total", str(2 * len(UNITS)), "of", str(2 * len(UNITS))],
    ]


def test_a_column_that_cannot_be_reached_leaves_the_others(finished, broken_session, capsys):
    """It is 3, unless a unit is wrong somewhere, which is 1; the reason is printed."""
    command = ["replay", str(finished), "--on", INLINE, "--on", broken_session]
    assert main(command) == 3
    out = capsys.readouterr().out
    head, row, line = out.splitlines()
    assert head.split() == ["suite", "llvm", "inline", "llvm", broken_session[5:]]
    count = str(len(UNITS))
    assert row.split() == [str(finished), count, "of", count, "unreachable"]
    assert "unreachable: cannot use the tracker at 127.0.0.1:1" in line
    wrong = ["--device-pipeline", "broken_pipelines:fused_gelu_scale"]
    assert main([*command, *wrong, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    good, lost = document["cells"]
    assert (good["exit_code"], good["reason"], good["passed"]) == (1, "", len(UNITS) - 1)
    assert (lost["exit_code"], lost["units"], lost["passed"]) == (3, [], 0)
    assert "tracker at 127.0.0.1:1" in lost["reason"]
    assert (document["schema"], document["exit_code"]) == (2, 1)
    assert document["suites"] == [str(finished)]
    assert [target["target"] for target in document["targets"]] == ["llvm", "llvm"]
    assert main([*command, *wrong]) == 1
    out = capsys.readouterr().out
    assert "  fused_gelu" in out
    assert "mismatch: differs by up to " in out


@pytest.fixture
def lost_at(monkeypatch):
    """A function that makes the device unavailable from a unit on."""

    def lose(first):
        def judge(replayer, unit, repeat):
            if UNITS.index(unit) >= UNITS.index(first):
                raise DeviceUnavailable("the board is gone")
            return replay_unit(replayer, unit, repeat)

        monkeypatch.setattr("relax_tapml.replays.replay.replay_unit", judge)

    return lose


def test_what_was_judged_before_the_device_was_lost_is_printed(finished, lost_at, capsys):
    """Units that were not judged are named, and the reason is given once."""
    lost_at("concatenate")
    command = ["replay", str(finished), "--target", "llvm", "--session", "inline"]
    assert main(command) == 3
    lost = "concatenate, layer_norm, sum: inconclusive: not judged: the board is gone"
    assert capsys.readouterr().out == f"{lost}\n5 of 8 units pass alone on llvm\n"
    assert main([*command, "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["units"][-1]["reason"] == "not judged: the board is gone"
    assert document["devices"]["inline"]["lost"] == "no session could be opened for concatenate"
    wrong = ["--device-pipeline", "broken_pipelines:fused_gelu_scale"]
    assert main([*command, *wrong]) == 1
    assert lost in capsys.readouterr().out.splitlines()
    assert main(["replay", str(finished), "--on", INLINE]) == 3
    _, row, *units, line = capsys.readouterr().out.splitlines()
    assert row.split() == [str(finished), "5", "of", "8"]
    assert [line.split() for line in units] == [[name, "inconclusive"] for name in UNITS[5:]]
    assert line.endswith(f": {lost}")
    lost_at(UNITS[0])
    assert main(command) == 3
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: the board is gone\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --target, or --on TARGET=SESSION"),
        (["--on", "llvm"], "--on llvm: expected TARGET=SESSION"),
        (["--on", "llvm=nowhere"], "session 'nowhere' of target llvm: expected "),
        (["--target", "llvm", "--unit", "x"], "has no case of unit 'x'"),
        (["--on", "lvm=inline"], "target 'lvm' is not known"),
        (["--on", INLINE, "--on", INLINE], "each --on may be given once"),
        (["--on", INLINE, "--target", "llvm"], "give --on for each target"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(finished, options, message, capsys):
    assert main(["replay", str(finished), *options]) == 2
    assert message in capsys.readouterr().err
