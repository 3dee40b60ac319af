"""What ``relax-tapml replay`` prints, and the runs of its matrix."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relax_tapml.cli.matrix import print_matrix
from relax_tapml.cli.progress import Progress
from relax_tapml.compare.verdict import Verdict
from relax_tapml.report.findings import suspicions, tolerance_text
from relax_tapml.report.quantities import count_text, number_text, seconds_text, size_text
from relax_tapml.results.device_result import DeviceResult
from relax_tapml.results.json_codec import encode
from relax_tapml.results.matrix_result import CellResult, Column, MatrixResult
from relax_tapml.results.replay_result import ReplayResult
from relax_tapml.results.unit_result import ReplayedUnit


def print_replay(result: ReplayResult, target: str, *, as_json: bool) -> None:
    """Print how the units of one suite did on one target."""
    if as_json:
        _print_json(result)
    else:
        _print(result, target)


def run_matrix(
    folders: Sequence[Path],
    on: Sequence[tuple[str, str]],
    options: dict[str, Any],
    *,
    as_json: bool,
) -> int:
    """Replay suites on targets, each with its session, print the matrix, return the exit code."""
    from relax_tapml.replays.matrix import replay_matrix  # imports TVM

    columns = [Column(target=target, session=session) for target, session in on]
    with Progress().stage("replay") as stage:
        done: list[CellResult] = []

        def on_cell(cell: CellResult) -> None:
            done.append(cell)
            stage.update(len(done), len(folders) * len(columns))
            passed = f"{cell.passed} of {count_text(len(cell.units), 'unit')}"
            stage.say(f"{cell.suite} on {cell.target}: passed {passed}")

        matrix = replay_matrix(folders, columns, on_cell=on_cell, **options)
        stage.say(f"{count_text(len(folders), 'suite')} on {count_text(len(columns), 'target')}")
    if as_json:
        _print_json(matrix)
    else:
        print_matrix(matrix)
    return int(matrix.exit_code)


def _print(result: ReplayResult, target: str) -> None:
    has_devices = len(result.devices) > 1
    explained: dict[str, list[str]] = {}
    for unit in result.units:
        text = _explained(unit, has_devices=has_devices)
        if text:
            explained.setdefault(text, []).append(unit.name)
    for text, names in explained.items():
        sys.stdout.write(f"{', '.join(names)}: {text}\n")
    for name, device in result.devices.items() if has_devices else ():
        sys.stdout.write(f"device {name}: {_work(device)}\n")
    for sentence in suspicions(result.devices):
        sys.stdout.write(f"{sentence}\n")
    passed = sum(unit.verdict is Verdict.PASS for unit in result.units)
    passes = "passes" if passed == 1 else "pass"
    total = count_text(len(result.units), "unit")
    sys.stdout.write(f"{passed} of {total} {passes} alone on {target}\n")


def _explained(unit: ReplayedUnit, *, has_devices: bool) -> str:
    """Return why a unit does not pass, or passes with low precision; empty otherwise."""
    if unit.verdict is Verdict.PASS:
        return f"pass, low precision: {unit.precision_reason}" if unit.precision else ""
    text = f"{unit.verdict}: {unit.reason}"
    if unit.tolerance is not None:
        tolerance = tolerance_text(unit.tolerance, unit.tolerance_origin)
        text += f"\n  error {number_text(unit.error)}, {tolerance}"
    return f"{text}\n  on {unit.device}" if unit.device and has_devices else text


def _print_json(result: ReplayResult | MatrixResult) -> None:
    json.dump(encode(result), sys.stdout, indent=1, allow_nan=False)
    sys.stdout.write("\n")


def _work(device: DeviceResult) -> str:
    parts = [
        count_text(device.units, "unit"),
        seconds_text(device.seconds),
        f"{size_text(device.traffic.total)} moved",
    ]
    if device.faults:
        parts.append(count_text(device.faults, "fault"))
    if device.lost:
        parts.append(f"lost: {device.lost}")
    return ", ".join(parts)
