import json

import pytest
from edited_suite import widen

from relax_tapml.cli.main import main


def test_json_has_every_unit_with_error_and_tolerance(suite, capsys):
    """DIR may be the output folder, and units may be chosen."""
    command = ["replay", str(suite.parent), "--target", "llvm", "--session", "inline", "--json"]
    assert main([*command, "--unit", "softmax"]) == 0
    [unit] = json.loads(capsys.readouterr().out)["units"]
    assert (unit["name"], unit["verdict"], unit["error"]) == ("softmax", "pass", 0.0)
    assert unit["tolerance"] > 0
    assert "float64 evaluation" in unit["tolerance_origin"]
    metrics = unit["cases"][0]["outputs"][0]["metrics"]
    assert (metrics["values"], metrics["mismatches"], metrics["rmse"]) == (32, 0, 0.0)
    assert (metrics["cosine"], metrics["snr_db"]) == (1.0, "inf")
    assert [case["name"] for case in unit["cases"]] == ["main-001-case0", "main-001-case1"]


def test_a_unit_with_blunt_cases_alone_ends_with_3(suite, capsys):
    """It is named with the reason, in words and as JSON; so is the power of what is sharp."""
    widen(suite, "softmax")
    command = ["replay", str(suite), "--target", "llvm", "--session", "inline"]
    assert main(command) == 3
    blunt, last = capsys.readouterr().out.splitlines()[::2]
    assert blunt.startswith("softmax: inconclusive: no case can tell right from wrong: zeros")
    assert last.startswith("1 of 2 units ")
    assert main([*command, "--json"]) == 3
    sharp, blunt = json.loads(capsys.readouterr().out)["units"]
    assert (sharp["blunt"], blunt["blunt"]) == ([], [0])
    powers = [unit["cases"][0]["outputs"][0]["power"] for unit in (sharp, blunt)]
    assert [power["blunt"] for power in powers] == [False, True]
    assert powers[0]["share"] < 1e-3
    assert powers[1]["sees"] == []
    assert main([*command[:2], "--on", "llvm=inline"]) == 3
    table = capsys.readouterr().out
    assert ["softmax", "inconclusive"] in [line.split() for line in table.splitlines()]
    assert "llvm: " in table
    assert "no case can tell right from wrong" in table


@pytest.mark.parametrize(("times", "code"), [("3", 0), ("0", 2)])
def test_cases_are_run_as_often_as_asked(suite, capsys, times, code):
    """At least once."""
    command = ["replay", str(suite), "--target", "llvm", "--session", "inline", "--json"]
    assert main([*command, "--repeat", times]) == code
    said = capsys.readouterr()
    if code:
        assert "repeat 0: expected at least 1" in said.err
    else:
        assert {unit["runs"] for unit in json.loads(said.out)["units"]} == {3}


def test_a_wrong_kernel_ends_with_1(suite, capsys):
    command = ["replay", str(suite), "--target", "llvm", "--session", "inline"]
    command += ["--device-pipeline", "broken_pipelines:softmax_nan"]
    assert main(command) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("softmax: mismatch: ")
    assert lines[1].startswith("  error nan, tolerance ")
    assert lines[-1].startswith("1 of 2 units ")
    assert main([*command, "--json"]) == 1
    units = json.loads(capsys.readouterr().out)["units"]
    # JSON has no NaN.
    right, wrong = (unit["error"] for unit in units)
    assert right < 1e-5
    assert wrong == "nan"
