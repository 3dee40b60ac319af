from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from relax_tapml.cli.present import present

CULPRIT = "fused_reshape10_gelu_reshape11"


def shown(result: dict[str, Any], out: Path, width: int | None = 120, **options: bool) -> str:
    stream = io.StringIO()
    console = Console(file=stream, highlight=False, width=width, **options)  # type: ignore[arg-type]
    present(result, out=out, console=console)
    return stream.getvalue()


def test_only_what_did_not_pass_is_listed_and_the_rest_is_counted(
    result: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Piped: one line per unit, no colours, whatever the length of its name."""
    present(result, out=Path("dist/minilm"))
    text = capsys.readouterr().out
    assert "\x1b" not in text
    (row,) = [line for line in text.splitlines() if line.endswith("mismatch")]
    assert row.split() == [
        CULPRIT,
        "encoder.layer.*.intermediate.act",
        "6",
        "nan",
        "3.1e-06",
        "mismatch",
    ]
    assert "(25 more pass; relax-tapml report dist/minilm --all lists them)" in text
    assert f"1 of 26 units is wrong on cuda: {CULPRIT}." in text
    assert "fused_matmul4_add2" not in text


def test_all_lists_every_unit(result: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    present(result, out=Path("out"), show_all=True)
    text = capsys.readouterr().out
    assert "more pass" not in text
    for unit in result["units"]:
        assert f"  {unit['name']} " in text


@pytest.mark.parametrize("width", [20, 40, 80, 100, 200])
def test_nothing_is_cut_in_a_narrow_terminal(result: dict[str, Any], width: int) -> None:
    """Names fold, sentences wrap; no text is lost and no table row is wider than the terminal."""
    result["units"][0].update(verdict="crash", reason="the device died")
    text = shown(result, Path("out"), width=width)
    whole = "".join(text.split())
    for unit in (result["units"][0], result["units"][23]):
        assert unit["name"] in whole
    assert "encoder.layer.*.intermediate.act" in whole
    assert "…" not in text


def test_a_terminal_gets_colours(result: dict[str, Any], tmp_path: Path) -> None:
    text = shown(result, tmp_path, force_terminal=True, legacy_windows=False)
    assert "\x1b[1;31mmismatch" in text


def test_markup_in_names_is_text(result: dict[str, Any], tmp_path: Path) -> None:
    result["units"][23]["reason"] = "[bold]x[/bold] [/oops]"
    assert "[bold]x[/bold] [/oops]" in shown(result, tmp_path)


def test_next_command_repeats_what_the_run_was_given(
    result: dict[str, Any], tmp_path: Path
) -> None:
    """The command shows the failure again: same target, same session, same pipeline."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "bundle").mkdir()
    result.update(device_pipeline="kernels:wrong_gelu", target='{"kind": "cuda"}')
    text = shown(result, tmp_path)
    command = (
        f'Next:   pytest {tmp_path}/tests --tapml-target \'{{"kind": "cuda"}}\' '
        f"--tapml-session process --tapml-device-pipeline kernels:wrong_gelu -k {CULPRIT}"
    )
    assert command in text.splitlines()
    assert "keeps this unit on the host" in " ".join(text.split())


def test_a_pipeline_without_a_name_gives_no_command(result: dict[str, Any], tmp_path: Path) -> None:
    """Without the pass the command would show a pass where the run found a culprit."""
    (tmp_path / "tests").mkdir()
    result["device_pipeline"] = "WrongGelu"
    assert "Next:" not in shown(result, tmp_path)


def test_folders_that_are_not_there_are_not_promised(
    result: dict[str, Any], tmp_path: Path
) -> None:
    text = shown(result, tmp_path)
    assert "Next:" not in text
    assert "bundle" not in text


def test_a_pass_says_so_and_skipped_sites_are_counted(
    result: dict[str, Any], tmp_path: Path
) -> None:
    """Skipped is never silent."""
    for unit in result["units"]:
        unit["verdict"] = "pass"
    result.update(verdict="pass", culprits=[], skipped=[{"site": "main/1/x", "reason": "opaque"}])
    text = shown(result, tmp_path)
    assert "All 26 units run on cuda and agree with llvm within tolerance." in text
    assert "1 site skipped" in text
    assert "verdict" not in text


def test_a_source_that_disagrees_with_the_framework_is_reported(
    result: dict[str, Any], tmp_path: Path
) -> None:
    result["import_check"].update(verdict="mismatch", max_abs=0.5)
    assert "does not agree with the framework: max abs 5.0e-01" in shown(result, tmp_path)


def test_devices_that_are_not_believed_and_those_that_disagree_are_named(
    result: dict[str, Any], tmp_path: Path
) -> None:
    """The run accuses nobody, but says who said what."""
    first, *others = result["units"]
    for unit in others:
        unit["verdict"] = "pass"
    reason = "mismatch on h:1, but it passes on h:2: one of two devices is wrong"
    first.update(verdict="inconclusive", alone="inconclusive", reason=reason, device="h:1")
    result.update(
        verdict="inconclusive",
        culprits=[],
        reason=f"devices disagree about {first['name']}",
        devices={"h:3": {"suspect": "gave wrong answers for a, right on h:1"}},
    )
    text = " ".join(shown(result, tmp_path).split())
    assert f"Inconclusive on cuda: devices disagree about {first['name']}." in text
    assert f"{first['name']}: {reason}." in text
    assert "Device h:3 gave wrong answers for a, right on h:1; it got no more work." in text
    assert "It fails alone too" not in text


def test_why_units_were_not_judged_is_told_once(result: dict[str, Any], tmp_path: Path) -> None:
    """It is the reason of the run, also of one with culprits."""
    first, second, *others = result["units"]
    for unit in others:
        unit["verdict"] = "pass"
    for unit in (first, second):
        unit.update(verdict="inconclusive", reason="not judged: no device is left", device="")
    why = f"2 units were not judged ({first['name']}, {second['name']}): no device is left."
    result.update(verdict="inconclusive", culprits=[], reason=why)
    text = " ".join(shown(result, tmp_path).split())
    assert f"Inconclusive on cuda: {why}" in text
    assert text.count("no device is left") == 1
    others[0]["verdict"] = "mismatch"
    result.update(verdict="mismatch", culprits=[others[0]["name"]])
    text = " ".join(shown(result, tmp_path).split())
    assert f" {why}" in text
    assert text.count("no device is left") == 1


def test_what_crossed_is_a_table(result: dict[str, Any]) -> None:
    """Both ways, for all devices of a replay and all steps of a migration."""
    traffic = {"to_device": 45_000_000, "to_host": 1_500_000}
    result["devices"] = {
        name: {"suspect": "", "seconds": 0.625, "traffic": traffic} for name in ("one", "two")
    }
    step = {"verdict": "pass", "boundary": [], "bytes_moved": 70, "bytes_to_device": 40}
    step["seconds"] = {"shift": 3.0, "run": 41.0}
    result["steps"] = [step] * 3
    result["seconds"] |= {"replay": 0.0, "migrate": 1.0, "total": 150.0}  # of this run alone
    rows = [line.split() for line in shown(result, Path("out")).splitlines()]
    assert ["replay", "90", "MB", "3.0", "MB", "1.2", "s"] in rows
    assert ["migrate,", "3", "steps", "120", "B", "90", "B", "2", "min", "12", "s"] in rows
    assert ["this", "run", "2", "min", "30", "s"] in rows


def test_all_says_what_no_case_shows(
    result: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Inputs that never varied, and sums whose terms are not all seen."""
    result["units"][3].update(constant_inputs=["mask: all 0"], inexact="")
    result["units"][4].update(constant_inputs=[], inexact="a sum has exp in its terms")
    present(result, out=Path("out"), show_all=True)
    text = " ".join(capsys.readouterr().out.split())
    assert f"{result['units'][3]['name']}: the same in all cases: mask: all 0." in text
    assert f"{result['units'][4]['name']}: no exact sums: a sum has exp in its terms." in text
    assert text.count("the same in all cases") == text.count("no exact sums") == 1
