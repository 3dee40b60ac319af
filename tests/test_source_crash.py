"""A source that crashes ends the run with a message, and loses nothing that was known."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import crashing
import pytest
from broken_pipelines import breaks, scale
from tiny_model import model

from relax_tapml import bring_up
from relax_tapml.errors import LoweringError, SourceError
from relax_tapml.migrate.source import Source


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("division_by_zero", "died of SIGFPE on sample 's1', in main/000/fused_add_floor_divide"),
        ("wild_gather", "died of SIGSEGV on sample 's0', in main/001/take"),
        ("wild_scatter", "died of SIGSEGV on sample 's0', in main/000/scatter_elements"),
    ],
)
def test_a_crash_of_the_source_names_operator_and_sample(name, told, tmp_path):
    """It is no verdict about the target, and the folder says so too."""
    with pytest.raises(SourceError) as caught:
        bring_up(getattr(crashing, name)(), session="inline", out=tmp_path / "out")
    assert str(caught.value).startswith(f"the source llvm {told}. A source must run the whole ")
    document = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (document["verdict"], document["culprits"]) == ("inconclusive", [])
    assert document["reason"] == str(caught.value)


def test_a_source_that_aborts_ends_the_command_line_with_3(models, tmp_path):
    """One line on stderr, and no signal."""
    environment = {**os.environ, "PYTHONPATH": str(models)}
    command = [sys.executable, "-m", "relax_tapml.build", "crashing:aborting", "--out", "out"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    told = "error: the source llvm died of SIGABRT on sample 'ones', in main/001/die. A source"
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_crash_while_constants_are_folded_is_an_error(tmp_path):
    """Lowering runs kernels too."""
    with pytest.raises(LoweringError, match=r"take, run on constants of the model, died of SIGSEG"):
        bring_up(crashing.wild_constant(), session="inline", out=tmp_path / "out")


@pytest.fixture
def late_crash(monkeypatch):
    """The source fails after the units have been replayed."""

    def fail(*_args):
        raise SourceError("the source fell over")

    monkeypatch.setattr(Source, "tolerances", fail)


@pytest.mark.usefixtures("late_crash")
def test_culprits_outlive_a_late_error_of_the_source(tmp_path):
    """They were judged on recorded inputs; the reason says what happened afterwards."""
    result = bring_up(
        model(), session="inline", out=tmp_path / "out", device_pipeline=breaks("softmax", scale)
    )
    assert (result.verdict, result.culprits, int(result.exit_code)) == ("mismatch", ["softmax"], 1)
    assert result.document["reason"] == "the migration stopped: the source fell over"
    assert len(result.document["units"]) == 8


@pytest.mark.usefixtures("late_crash")
def test_without_culprits_a_late_error_is_raised_and_units_are_kept(tmp_path):
    """Nothing was found, and nothing can be said about the rest."""
    with pytest.raises(SourceError, match=r"^the source fell over$"):
        bring_up(model(), session="inline", out=tmp_path / "out")
    document = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (document["verdict"], document["culprits"]) == ("inconclusive", [])
    assert {unit["verdict"] for unit in document["units"]} == {"pass"}
