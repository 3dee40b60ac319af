from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relax_tapml.cli.main import main
from relax_tapml.results.json_codec import decode
from relax_tapml.results.run_result import RunResult


@pytest.fixture
def folder(document: dict[str, Any], tmp_path: Path) -> Path:
    (tmp_path / "result.json").write_text(json.dumps(document), encoding="utf-8")
    return tmp_path


def test_report_renders_the_page_and_prints_the_findings(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(folder)]) == 0
    assert "1 of 26 units is wrong" in (folder / "report.html").read_text(encoding="utf-8")
    assert "1 of 26 units is wrong" in capsys.readouterr().out


def test_json_prints_the_document(
    folder: Path, document: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """With the fields that an older version left out."""
    assert main(["report", str(folder), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {name: printed[name] for name in ("schema", "verdict", "culprits", "versions")} == {
        name: document[name] for name in ("schema", "verdict", "culprits", "versions")
    }
    assert decode(printed, RunResult) == decode(document, RunResult)


def test_a_missing_result_ends_with_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: expected the output folder")


def test_wrong_arguments_end_with_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["reprot"])
    assert ended.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["capture", "replay", "report"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert "--verbose" in capsys.readouterr().out
