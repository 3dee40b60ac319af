"""How long runs were expected to take, beside how long they took, stage by stage.

``python scripts/plan_and_outcome.py minilm llm_models:llama_small_float16`` runs the main command
on each model. A folder is taken for the output of a run that has been. The first plan is made after
lowering, the second after the source has run; a stage that was over by then is left out of it.

Exits with 1 if the first plan of the stages to come, all together, is off by more than a factor of
``--within``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

from rich.console import Console
from rich.table import Table

from relax_tapml.results.result_file import read_result
from relax_tapml.results.run_result import RunResult, StageSeconds

SCRIPTS = Path(__file__).resolve().parent
# They are over when the first plan is made, or are no stages.
PAST = {"load", "lower", "total"}
STAGES = [field.name for field in fields(StageSeconds) if field.name not in PAST]


def run(model: str, options: list[str], out: Path) -> RunResult:
    """Run the main command on a model; return what it found."""
    command = [sys.executable, "-m", "relax_tapml.build", model, "--out", str(out), *options]
    paths = [str(SCRIPTS), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
    return read_result(out)


def seconds_of(stages: StageSeconds | None, stage: str) -> float:
    """Return the seconds of a stage; 0 where it was not foreseen or not done."""
    return getattr(stages, stage, None) or 0.0


def table(name: str, result: RunResult) -> tuple[Table, float]:
    """Return the table of a run, and by which factor its first plan was off."""
    made = Table("stage", "first plan", "second plan", "took", "took / first", title=name)
    estimate, took = result.estimate, result.seconds
    first = None if estimate is None else estimate.first
    second = None if estimate is None else estimate.corrected
    sums = [sum(seconds_of(plan, stage) for stage in STAGES) for plan in (first, second, took)]
    rows = [[seconds_of(plan, stage) for plan in (first, second, took)] for stage in STAGES]
    for stage, row in (*zip(STAGES, rows, strict=True), ("all of them", sums)):
        ratio = f"{row[2] / row[0]:.2f}" if row[0] else "-"
        made.add_row(stage, *(f"{value:.1f}" for value in row), ratio)
    made.add_row(f"verdict {result.verdict}, {len(result.steps)} steps {result.strategy}")
    factor = max(sums[0], 1e-9) / max(sums[2], 1e-9)
    return made, max(factor, 1 / factor)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="+", help="a model, or the output folder of a run")
    parser.add_argument("--within", type=float, default=2.0, help="factor that is right (2)")
    parser.add_argument("--target", default="llvm", help="as for relax_tapml.build (llvm)")
    parser.add_argument("--source", default="llvm", help="as for relax_tapml.build (llvm)")
    args = parser.parse_args()
    console = Console(width=100, highlight=False)
    is_good = True
    for model in args.model:
        with tempfile.TemporaryDirectory(prefix="tapml-plan-") as scratch:
            if (Path(model) / "result.json").is_file():
                result = read_result(Path(model))
            else:
                options = ["--source", args.source, "--target", args.target]
                result = run(model, options, Path(scratch) / "out")
        made, factor = table(model, result)
        console.print(made)
        is_good &= factor <= args.within
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
