"""What only a less accurate function of the platform lets pass is reported as of low precision."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import soft_cap
from rich.console import Console

from relax_tapml import bring_up, replay
from relax_tapml.cli.main import main
from relax_tapml.cli.present import present
from relax_tapml.errors import ExitCode
from relax_tapml.partition.lower import lower
from relax_tapml.targets.platforms._local import Local
from relax_tapml.targets.toolchain.low_precision_math import LowPrecisionMath

REASON = "nvcc --use_fast_math makes tanhf less accurate"
FAST = LowPrecisionMath(names=frozenset({"tanh"}), reason=REASON)
NAMES = [gvar.name_hint for gvar in lower(soft_cap.model().module).functions]
CAP, SIN = (next(n for n in NAMES if function in n) for function in ("tanh", "sin"))


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("caps")
    result = bring_up(soft_cap.model(), session="inline", strategy="isolated", out=out)
    assert result.verdict == "pass"
    assert all(unit["precision"] is None for unit in result.document["units"])
    return out


@pytest.fixture
def fast(monkeypatch):
    """This machine's CPU, with a tanh as CUDA's fast math has it."""
    monkeypatch.setattr(Local, "low_precision_math", lambda _self, _target: FAST)


def test_a_tanh_of_fast_math_passes_with_low_precision(suite, fast):
    """It is outside of the usual bound and inside of the wider one; the option is named."""
    report = replay(suite, session="inline", device_pipeline=soft_cap.tanh_fast)
    assert set(report.units.values()) == {"pass"}
    assert report.exit_code == ExitCode.PASS
    reasons = {unit: detail.precision for unit, detail in report.details.items()}
    assert reasons == {**dict.fromkeys(report.units, ""), CAP: REASON}
    assert REASON in report.details[CAP].worst.tolerance.origin


def test_a_right_tanh_has_full_precision(suite, fast):
    """Whatever the platform would allow."""
    report = replay(suite, session="inline")
    assert set(report.units.values()) == {"pass"}
    assert not any(detail.precision for detail in report.details.values())


def test_a_platform_without_fast_math_is_held_to_the_usual_bound(suite):
    """There 2**-12 is an error."""
    report = replay(suite, session="inline", device_pipeline=soft_cap.tanh_fast)
    assert [u for u, v in report.units.items() if v != "pass"] == [CAP]
    assert report.details[CAP].precision == ""


@pytest.mark.parametrize("pipeline", [soft_cap.tanh_wrong, soft_cap.sin_inaccurate])
def test_what_no_option_explains_is_a_mismatch(suite, fast, pipeline):
    """An error beyond the wider bound, and one of a function that the option does not change."""
    report = replay(suite, session="inline", device_pipeline=pipeline)
    wrong = CAP if pipeline is soft_cap.tanh_wrong else SIN
    assert {u for u, v in report.units.items() if v == "mismatch"} == {wrong}
    assert report.details[wrong].precision == ""


def test_a_run_tells_the_units_of_low_precision(fast, tmp_path):
    """It passes: the model's output may be off as far as that makes it. All outputs have why."""
    result = bring_up(
        soft_cap.model(),
        session="inline",
        repair=False,
        device_pipeline=soft_cap.tanh_fast,
        out=tmp_path,
    )
    assert (result.verdict, result.culprits) == ("pass", [])
    units = {unit["name"]: unit for unit in result.document["units"]}
    assert (units[CAP]["precision"], units[CAP]["precision_reason"]) == ("low", REASON)
    assert (units[SIN]["precision"], units[SIN]["precision_reason"]) == (None, "")
    console = Console(file=io.StringIO(), width=200)
    present(result, out=tmp_path, show_all=True, console=console)
    text = " ".join(console.file.getvalue().split())
    assert f"1 unit of low precision ({CAP}): {REASON}." in text
    assert "pass, low precision" in text
    assert REASON in (tmp_path / "report.html").read_text()


def test_the_replay_command_reports_it_too(suite, fast, capsys):
    """For people; the JSON has the field."""
    arguments = ["replay", str(suite), "--target", "llvm", "--session", "inline"]
    assert main([*arguments, "--device-pipeline", "soft_cap:tanh_fast"]) == 0
    assert f"{CAP}: pass, low precision: {REASON}\n" in capsys.readouterr().out
    assert main([*arguments, "--device-pipeline", "soft_cap:tanh_fast", "--json"]) == 0
    assert '"precision": "low"' in capsys.readouterr().out
