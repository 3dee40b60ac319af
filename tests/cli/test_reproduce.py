"""``relax-tapml reproduce``."""

import pytest

from relax_tapml.cli.main import main


def test_two_files_and_the_command_to_run(finished, tmp_path, capsys):
    """DIR may be the output folder of a run."""
    folder = tmp_path / "report"
    unit = _first_unit(finished)
    assert main(["reproduce", str(finished), unit, "--output", str(folder)]) == 0
    script, data = sorted(folder.iterdir())
    assert (script.suffix, data.suffix) == (".py", ".safetensors")
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"{script}: unit {unit}, case main-")
    assert out[-1] == f"run: python {script}"


def _first_unit(finished):
    from relax_tapml.carve.open_suite import open_suite

    return next(iter(open_suite(finished).manifest.units))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["no_such_unit"], "has no case of unit 'no_such_unit', which is not there; it has"),
        (["UNIT", "--case", "x"], "has no case 'x'; it has main-"),
        (["UNIT"], "exists. Choose another folder or pass --force."),
    ],
)
def test_wrong_usage_is_told(finished, tmp_path, capsys, options, message):
    unit = _first_unit(finished)
    (tmp_path / f"{unit}.py").write_text("mine")
    named = [unit if option == "UNIT" else option for option in options]
    assert main(["reproduce", str(finished), *named, "--output", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / f"{unit}.py").read_text() == "mine"


def test_a_folder_without_a_suite_is_told(tmp_path, capsys):
    assert main(["reproduce", str(tmp_path), "add"]) == 3
    assert "is not a suite" in capsys.readouterr().err
