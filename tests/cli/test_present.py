from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from made_results import changed, run_of, step, unit
from rich.console import Console

from relax_tapml.cli.present import present
from relax_tapml.compare.verdict import Verdict
from relax_tapml.results.device_result import DeviceResult
from relax_tapml.results.import_result import (
    ImportFinding,
    ImportResult,
    WrongNode,
    WrongValue,
)
from relax_tapml.results.run_result import RunResult, SkippedSite, StageSeconds
from relax_tapml.results.step_result import StepSeconds
from relax_tapml.targets.session.traffic import Traffic

CULPRIT = "fused_reshape10_gelu_reshape11"


def printed(result: RunResult, out: Path, width: int | None = 120, **options: bool) -> str:
    stream = io.StringIO()
    console = Console(file=stream, highlight=False, width=width, **options)  # type: ignore[arg-type]
    present(result, out=out, console=console)
    return stream.getvalue()


def test_only_what_did_not_pass_is_listed_and_the_rest_is_counted(
    result: RunResult, capsys: pytest.CaptureFixture[str]
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


def test_all_lists_every_unit(result: RunResult, capsys: pytest.CaptureFixture[str]) -> None:
    present(result, out=Path("out"), show_all=True)
    text = capsys.readouterr().out
    assert "more pass" not in text
    for one in result.units:
        assert f"  {one.name} " in text


@pytest.mark.parametrize("width", [20, 40, 80, 100, 200])
def test_nothing_is_cut_in_a_narrow_terminal(result: RunResult, width: int) -> None:
    """Names fold, sentences wrap; no text is lost and no table row is wider than the terminal."""
    result = changed(result, {0: {"verdict": Verdict.CRASH, "reason": "the device exited"}})
    text = printed(result, Path("out"), width=width)
    whole = "".join(text.split())
    for one in (result.units[0], result.units[23]):
        assert one.name in whole
    assert "encoder.layer.*.intermediate.act" in whole
    assert "…" not in text


def test_a_terminal_gets_colours(result: RunResult, tmp_path: Path) -> None:
    text = printed(result, tmp_path, force_terminal=True, legacy_windows=False)
    assert "\x1b[1;31mmismatch" in text


def test_markup_in_names_is_text(result: RunResult, tmp_path: Path) -> None:
    result = changed(result, {23: {"reason": "[bold]x[/bold] [/oops]"}})
    assert "[bold]x[/bold] [/oops]" in printed(result, tmp_path)


def test_next_command_repeats_what_the_run_was_given(result: RunResult, tmp_path: Path) -> None:
    """The command shows the failure again: same target, same session, same pipeline."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "bundle").mkdir()
    pipeline = "kernels:wrong_gelu"
    result = replace(result, device_pipeline=pipeline, target='{"kind": "cuda"}')
    text = printed(result, tmp_path)
    command = (
        f'        pytest {tmp_path}/tests --tapml-target \'{{"kind": "cuda"}}\' '
        f"--tapml-session process --tapml-device-pipeline kernels:wrong_gelu -k {CULPRIT}"
    )
    assert command in text.splitlines()
    assert f"Next:   relax-tapml reproduce {tmp_path} {CULPRIT}" in text.splitlines()
    assert "keeps this unit on the host" in " ".join(text.split())


def test_a_pipeline_without_a_name_gives_no_replay(result: RunResult, tmp_path: Path) -> None:
    """Without the pass it would show a pass where the run found a culprit.

    The kernel that the pass made is in the folder, so it can be reproduced.
    """
    (tmp_path / "tests").mkdir()
    text = printed(replace(result, device_pipeline="WrongGelu"), tmp_path)
    assert "pytest" not in text.replace(str(tmp_path), "")
    assert "relax-tapml reproduce" in text


def test_the_next_command_selects_the_tests_of_any_unit(tmp_path: Path) -> None:
    """Their names are made from that of the unit: identifiers, and not of any length."""
    (tmp_path / "tests").mkdir()
    names = ("vm.builtin.reshape", "x" * 200)
    units = [unit(name, "mismatch") for name in names]
    text = printed(run_of(units, culprits=list(names), verdict=Verdict.MISMATCH), tmp_path)
    assert text.rstrip().endswith(f"-k 'vm_builtin_reshape or {'x' * 120}'")


def test_folders_that_are_not_there_are_not_promised(result: RunResult, tmp_path: Path) -> None:
    text = printed(result, tmp_path)
    assert "Next:" not in text
    assert "bundle" not in text


def test_a_pass_is_stated_and_skipped_sites_are_counted(result: RunResult, tmp_path: Path) -> None:
    """Skipped is never silent."""
    result = changed(
        result,
        {23: {"verdict": Verdict.PASS}},
        verdict=Verdict.PASS,
        culprits=[],
        skipped=(SkippedSite(site="main/1/x", reason="opaque"),),
    )
    text = printed(result, tmp_path)
    assert "All 26 units run on cuda and agree with llvm within tolerance." in text
    assert "1 site skipped" in text
    assert "1 site of x: opaque" in text
    assert "verdict" not in text


def test_a_source_that_disagrees_with_the_framework_is_reported(
    result: RunResult, tmp_path: Path
) -> None:
    assert result.import_check is not None
    check = replace(result.import_check, verdict=Verdict.MISMATCH, max_abs=0.5)
    result = replace(result, import_check=check)
    assert "does not agree with the framework: max abs 0.5" in printed(result, tmp_path)


def test_a_node_that_is_imported_wrongly_is_named_with_its_script(
    result: RunResult, tmp_path: Path
) -> None:
    """Where, how far off, which others are alike, and the command that shows it."""
    node = WrongNode(
        node="sub_3",
        operator="aten.sub.Tensor",
        module="net.head",
        source="model.py:12: a - b",
        reason="differs by up to 2",
        worst=WrongValue(index=(0, 5), expected=1.0, got=-1.0),
        tolerance=1e-4,
        alike=("sub_4",),
        script="import/sub_3.py",
    )
    finding = ImportFinding(text="", nodes=(node,))
    import_ = ImportResult(verdict=Verdict.MISMATCH, finding=finding)
    text = " ".join(printed(replace(result, import_=import_), tmp_path).split())
    assert (
        "aten.sub.Tensor is imported wrongly: node sub_3 in net.head, model.py:12: a - b: differs "
        "by up to 2. Farthest off at [0, 5]: expected 1, got -1, allowed 1.0e-04. So "
        "are sub_4." in text
    )
    assert f"Next: python {tmp_path / 'import' / 'sub_3.py'}" in text
    together = ImportFinding(text="each of 12 nodes is right by itself")
    import_ = ImportResult(verdict=Verdict.MISMATCH, finding=together)
    text = printed(replace(result, import_=import_), tmp_path)
    assert "Each of 12 nodes is right by itself." in text


def test_devices_that_are_not_trusted_and_those_that_disagree_are_named(
    result: RunResult, tmp_path: Path
) -> None:
    """The run blames no unit, but names the devices."""
    reason = "mismatch on h:1, but it passes on h:2: one of two devices is wrong"
    disputed = unit("gelu", "inconclusive", alone="inconclusive", reason=reason, device="h:1")
    result = run_of(
        [disputed, unit("sum")],
        verdict=Verdict.INCONCLUSIVE,
        reason="devices disagree about gelu",
        devices={"h:3": DeviceResult(suspect="gave wrong answers for a, right on h:1")},
    )
    text = " ".join(printed(result, tmp_path).split())
    assert "Inconclusive on cuda: devices disagree about gelu." in text
    assert f"gelu: {reason}." in text
    assert "Device h:3 gave wrong answers for a, right on h:1; it got no more work." in text
    assert "It fails alone too" not in text


def test_why_units_were_not_judged_is_stated_once(tmp_path: Path) -> None:
    """It is the reason of the run, also of one with culprits."""
    units = [
        *(unit(name, "inconclusive", reason="not judged: no device is left") for name in "ab"),
        unit("c"),
    ]
    why = "2 units were not judged (a, b): no device is left."
    result = run_of(units, verdict=Verdict.INCONCLUSIVE, reason=why)
    text = " ".join(printed(result, tmp_path).split())
    assert f"Inconclusive on cuda: {why}" in text
    assert text.count("no device is left") == 1
    units[2] = unit("c", "mismatch")
    result = run_of(units, verdict=Verdict.MISMATCH, culprits=["c"], reason=why)
    text = " ".join(printed(result, tmp_path).split())
    assert f" {why}" in text
    assert text.count("no device is left") == 1


def test_what_crossed_is_a_table(result: RunResult) -> None:
    """Both ways, for all devices of a replay and all steps of a migration."""
    device = DeviceResult(seconds=0.625, traffic=Traffic(to_device=45_000_000, to_host=1_500_000))
    tried = step(bytes_moved=70, bytes_to_device=40, seconds=StepSeconds(shift=3.0, run=41.0))
    result = replace(
        result,
        devices={"one": device, "two": device},
        steps=(tried,) * 3,
        seconds=StageSeconds(migrate=1.0, total=150.0),  # of this run alone
    )
    rows = [line.split() for line in printed(result, Path("out")).splitlines()]
    assert ["replay", "90", "MB", "3.0", "MB", "1.2", "s"] in rows
    assert ["migrate,", "3", "steps", "120", "B", "90", "B", "2", "min", "12", "s"] in rows
    assert ["this", "run", "2", "min", "30", "s"] in rows


def test_all_lists_what_no_case_tests(
    result: RunResult, capsys: pytest.CaptureFixture[str]
) -> None:
    """Inputs that never varied, and sums whose terms are not all seen."""
    inexact = "a sum has exp in its terms"
    result = changed(result, {3: {"constant_inputs": ("mask: all 0",)}, 4: {"inexact": inexact}})
    present(result, out=Path("out"), show_all=True)
    text = " ".join(capsys.readouterr().out.split())
    assert f"{result.units[3].name}: the same in all cases: mask: all 0." in text
    assert re.search(rf"{result.units[4].name}: [^:]*: a sum has exp in its terms\.", text)
    assert text.count("the same in all cases") == 1


def test_all_lists_every_metric(result: RunResult, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever its name."""
    result = changed(result, {3: {"metrics": {"values": 12, "brand_new": 0.5}}})
    line = f"{result.units[3].name}: values 12, brand_new 0.5"
    present(result, out=Path("out"))
    assert line not in capsys.readouterr().out
    present(result, out=Path("out"), show_all=True)
    assert line in capsys.readouterr().out
