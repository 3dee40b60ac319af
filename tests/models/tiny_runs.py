"""Runs of ``tiny_model`` in the folder of a finished one, and what tests read of a result."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from tiny_model import UNITS, model
from transferred import command_line

from relax_tapml import bring_up
from relax_tapml.cli.present import present


def run_again(finished: Path, pipeline: Any = None, **options: Any) -> Any:
    """Continue a run, of which only what the options change is done again."""
    given = {"session": "inline", "resume": True, "repair": False, **options}
    return bring_up(model(), out=finished, device_pipeline=pipeline, **given)


def unit_of(result: Any, name: str) -> dict[str, Any]:
    """Return what a result has of a unit."""
    (found,) = (unit for unit in result.document["units"] if unit["name"] == name)
    return dict(found)


def verdicts(result: Any) -> dict[str, str]:
    """Return the verdict of each unit by name."""
    return {unit["name"]: unit["verdict"] for unit in result.document["units"]}


def only_wrong(unit: str, verdict: str) -> dict[str, str]:
    """Return verdicts of which each is a pass but one."""
    return {**dict.fromkeys(UNITS, "pass"), unit: verdict}


def all_but(*units: str) -> list[str]:
    """Return a boundary with the other units on the device."""
    return sorted(set(UNITS) - {*units})


def printed(result: Any) -> str:
    """Return what the command line prints of a result, on one line."""
    console = Console(file=io.StringIO(), width=100_000)
    present(result, out=result.out, console=console)
    return " ".join(console.file.getvalue().split())


def device_processes() -> list[psutil.Process]:
    """Return the processes of this project that this process has started and that still run."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "relax_tapml" in command_line(child)]
