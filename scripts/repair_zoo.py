"""Bring tiny models up on a target, repair the units that fail, and bring them up again.

Prints for each architecture the units that failed, the layer of the fault with its evidence, and
how many units are on the target before and after. Returns 1 if a model does not pass with its
repairs, or if a unit that failed has none.

``python scripts/repair_zoo.py --target cuda``, or ``python scripts/repair_zoo.py mamba t5``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from zoo_models import ARCHITECTURES
from zoo_worker import imported

from relax_tapml import bring_up
from relax_tapml.bringup.repair_run import repair_run
from relax_tapml.repair.tried import UnitRepair

MODELS = ("llama", "gpt2", "qwen3", "gemma2", "t5", "mamba", "mixtral")


@dataclass(frozen=True, kw_only=True)
class RepairRow:
    """One architecture.

    Parameters
    ----------
    model
        Its name.
    units, before, after
        How many units it has, and how many pass alone without and with repairs.
    repairs
        Of the units that failed.
    verdict
        Of the run with repairs; of the first run where nothing failed.
    seconds
        Of all three.
    """

    model: str
    units: int
    before: int
    after: int
    repairs: tuple[UnitRepair, ...]
    verdict: str
    seconds: float

    @property
    def is_right(self) -> bool:
        """Whether each unit that failed has a repair, and the model passes with them."""
        return self.verdict == "pass" and all(one.chosen for one in self.repairs)


def repaired(name: str, target: str, out: Path) -> RepairRow:
    """Bring an architecture up, repair it, and bring it up again."""
    began = time.perf_counter()
    model = imported(ARCHITECTURES[name], "static")
    first = bring_up(model, target=target, out=out / "first")
    found = repair_run(out / "first", out / "first" / "repairs")
    last = first
    if any(one.chosen for one in found):
        passes = f"{out / 'first' / 'repairs'}:pipeline"
        last = bring_up(model, target=target, device_pipeline=passes, out=out / "last")
    before, after = (sum(u.verdict == "pass" for u in run.units) for run in (first, last))
    return RepairRow(
        model=name,
        units=len(first.units),
        before=before,
        after=after,
        repairs=tuple(found),
        verdict=str(last.verdict),
        seconds=time.perf_counter() - began,
    )


def main() -> int:
    """Repair the models and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL", help="of the zoo")
    parser.add_argument("--target", default="cuda", help="TVM target (default: cuda)")
    args = parser.parse_args()
    console = Console(width=140, highlight=False)
    table = Table("model", "units", "pass", "with repairs", "verdict", "s")
    rows = []
    for name in args.models:
        with tempfile.TemporaryDirectory(prefix="tapml-repair-") as folder:
            row = repaired(name, args.target, Path(folder))
        rows.append(row)
        for one in row.repairs:
            console.print(
                f"{name}: {one.unit}: {one.chosen or 'no repair'}: {one.layer}: {one.text}"
            )
        counts = map(str, (row.units, row.before, row.after))
        table.add_row(name, *counts, row.verdict, f"{row.seconds:.0f}")
    console.print(table)
    return 0 if all(row.is_right for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
