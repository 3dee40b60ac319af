"""Bring tiny models up on a target, with repairs of the units that fail there.

Prints for each architecture the units that failed, the layer of the fault with its evidence, and
how many units are on the target before and after. Returns 1 if a model does not pass with its
repairs, or has a unit that is not on the target.

``python scripts/repair_zoo.py --target cuda``, or ``python scripts/repair_zoo.py mamba t5``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from zoo_models import ARCHITECTURES
from zoo_worker import imported

from relax_tapml import RunResult, bring_up
from relax_tapml.report.quantities import call_text

MODELS = ("llama", "gpt2", "qwen3", "gemma2", "t5", "mamba", "mixtral")


def is_right(result: RunResult) -> bool:
    """Whether all units are on the target, and the model passes, with repairs where some failed."""
    if result.repair is None:
        return result.verdict == "pass"
    return result.repair.verdict == "pass" and result.repair.repaired_on_device == len(result.units)


def print_repairs(name: str, result: RunResult, console: Console) -> None:
    """Print what was found for each unit that failed."""
    for unit in result.units:
        if unit.repair is None:
            continue
        layer = "no kernel could be judged" if unit.blame is None else unit.blame.layer
        text = "" if unit.blame is None else unit.blame.text
        speed = call_text(unit.repair.call_s, unit.repair.own_call_s)
        chosen = unit.repair.chosen or "no repair"
        spent = sum(tried.seconds for tried in unit.repair.tried)
        console.print(f"{name}: {unit.name}: {chosen} ({speed}): {layer}: {text} [{spent:.0f} s]")


def main() -> int:
    """Bring the models up and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL", help="of the zoo")
    parser.add_argument("--target", default="cuda", help="TVM target (default: cuda)")
    parser.add_argument("--session", default="process", help="where it runs (default: process)")
    args = parser.parse_args()
    console = Console(width=140, highlight=False, markup=False)
    table = Table(
        "model", "units", "pass", "with repairs", "on the target", "verdict", "repair, s", "s"
    )
    results = []
    for name in args.models:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="tapml-repair-") as folder:
            result = bring_up(
                imported(ARCHITECTURES[name], "static"),
                target=args.target,
                session=args.session,
                out=Path(folder) / "run",
            )
        results.append(result)
        print_repairs(name, result, console)
        repair = result.repair
        passed = sum(unit.verdict == "pass" for unit in result.units)
        moved = sum(bool(unit.on_device) for unit in result.units)
        counts = (
            len(result.units),
            passed,
            passed if repair is None else repair.repaired_passed,
            moved if repair is None else repair.repaired_on_device,
        )
        table.add_row(
            name,
            *map(str, counts),
            str(result.verdict if repair is None else repair.verdict),
            f"{result.seconds.repair:.0f}",
            f"{time.perf_counter() - began:.0f}",
        )
    console.print(table)
    return 0 if all(map(is_right, results)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
