"""How many planted faults are repaired, and how often their layer is named.

Tiny models of the zoo are carved once. Then faults are planted in one layer each: in what a device
pipeline returns, in schedules, in generated source, in what compile options do, in the definition
that the target is given. ``repair_unit`` looks for a right kernel, and where it finds none, the
kernel as it was lowered is judged on another target, too. Faults that do not make a unit wrong do
not count.

Exits with 1 if there are fewer than 60 faults of six architectures, if fewer than 90 % of the
layers are right, or if a repair took more than 30 s.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import tvm
from repair_faults import FAULTS, Fault
from rich.console import Console
from rich.table import Table

from relax_tapml import bring_up
from relax_tapml.compare.verdict import Verdict
from relax_tapml.frontend.model import Model
from relax_tapml.partition.device_side import device_side
from relax_tapml.partition.kernel_library import unit_kernels
from relax_tapml.repair.alternative import Alternative, Layer
from relax_tapml.repair.alternatives.registry import ALTERNATIVES
from relax_tapml.repair.blame import blamed
from relax_tapml.repair.elsewhere import judge_elsewhere
from relax_tapml.repair.search import Failing, repair_unit, replaced
from relax_tapml.suite.model_beside import model_beside
from relax_tapml.suite.open_suite import Suite, open_suite
from relax_tapml.targets.open_session import open_device
from relax_tapml.targets.platforms.parse_target import parse_target

MODELS = ("llama", "gpt2", "bert", "vit", "t5", "mamba")
LEAST_FAULTS, LEAST_MODELS, LEAST_LAYERS = 60, 6, 0.9
MOST_SECONDS = 30.0
# So that the alternative that has begun then, and the other target, end in time.
_BUDGET_S = 22.0
# Of each fault and model; the first units that it makes wrong.
_PLACES = 1
_TRIES = 4
# pocl ends the process that links a kernel whose name is no name of a file.
_LONGEST_NAME = 120
_OTHER = {"llvm": "opencl", "opencl": "llvm"}


@dataclass(frozen=True, kw_only=True)
class Planted:
    """What came of a fault in one unit.

    Parameters
    ----------
    model, unit, fault
        Where it was.
    verdict
        Of the unit with it.
    chosen
        The alternative that is right; empty if none is.
    layer, text
        What was said of it.
    seconds, processor_s
        Of ``repair_unit`` and of the other target, by the clock and of all cores together.
    """

    model: str
    unit: str
    fault: Fault
    verdict: Verdict
    chosen: str
    layer: Layer
    text: str
    seconds: float
    processor_s: float

    @property
    def is_layer_right(self) -> bool:
        """Whether the layer is that of the fault.

        Of a fault in code generation that no alternative avoids, nothing can tell whether the
        driver has it.
        """
        unknown = self.fault.layer is Layer.CODE_GENERATION and not self.chosen
        return self.layer is self.fault.layer or (unknown and self.layer is Layer.UNKNOWN)


def plant(
    model: str,
    out: Path,
    faults: Sequence[Fault] = FAULTS,
    alternatives: Sequence[Alternative] = ALTERNATIVES,
) -> Iterator[Planted]:
    """Plant each fault in the units of a finished run.

    Parameters
    ----------
    model
        Its name.
    out
        The run's output folder.
    faults
        Which; all by default.
    alternatives
        Those that are tried.
    """
    sides = {target: _Side.of(out, target) for target in {one.target for one in faults}}
    for fault in faults:
        side = sides[fault.target]
        places = 0
        for unit in _candidates(side, fault):
            found = _planted(model, out, side, unit, fault, alternatives)
            if found is not None:
                yield found
                places += 1
            if places == _PLACES:
                break


@dataclass(frozen=True, kw_only=True)
class _Side:
    """A run's suite and kernels for a target."""

    target: tvm.target.Target
    suite: Suite
    units: tvm.IRModule

    @classmethod
    def of(cls, out: Path, name: str) -> _Side:
        target = parse_target(name, "inline")
        suite = open_suite(out, target, trust=True)
        lowered = model_beside(suite)
        if lowered is None:
            raise ValueError(f"{out} has no lowered.json")
        units = device_side(lowered, target, None, suite.target_kernels()).units
        return cls(target=target, suite=suite, units=units)


def _candidates(side: _Side, fault: Fault) -> list[str]:
    """Return units of one kernel in which a fault can show, not always the same first."""
    kernels = unit_kernels(side.units)
    units = [
        unit
        for unit in side.suite.manifest.units
        if kernels.get(unit) == [unit] and len(unit) <= _LONGEST_NAME
    ]
    start = sum(map(ord, fault.name)) % max(1, len(units))
    chosen: list[str] = []
    for unit in [*units[start:], *units[:start]]:
        change = fault.pipeline or fault.definition
        kernel = side.units[unit]
        if fault.fits(kernel) and (change is None or change(kernel) is not None):
            chosen.append(unit)
        if len(chosen) == _TRIES:
            break
    return chosen


def _planted(
    model: str,
    out: Path,
    side: _Side,
    unit: str,
    fault: Fault,
    alternatives: Sequence[Alternative],
) -> Planted | None:
    """Return what came of a fault in a unit; None if the unit is right with it."""
    own = lowered = side.units
    if fault.definition is not None:
        own = lowered = replaced(lowered, {unit: fault.definition(lowered[unit])})
    if fault.pipeline is not None:
        own = replaced(lowered, {unit: fault.pipeline(lowered[unit])})
    target, other = side.target, parse_target(_OTHER[fault.target], "inline")
    with (
        tempfile.TemporaryDirectory(prefix="tapml-fault-") as kernels,
        fault.patch(),
        closing(open_device("inline", target)) as device,
        closing(open_device("inline", other)) as second,
    ):
        began, used = time.monotonic(), _processor_s()
        failing = Failing(
            suite=side.suite,
            units=own,
            lowered=lowered,
            target=target,
            device=device,
            kernels=Path(kernels),
        )
        found = repair_unit(failing, unit, budget_s=_BUDGET_S, alternatives=alternatives)
        if not found.verdict.is_wrong:
            return None
        layer, text = found.layer, found.text
        if not found.chosen:
            there = open_suite(out, other, trust=True)
            judged = judge_elsewhere(there, unit, lowered, other, second, Path(kernels))
            layer, text = blamed(found.tried, [judged])
        seconds, used = time.monotonic() - began, _processor_s() - used
    return Planted(
        model=model,
        unit=unit,
        fault=fault,
        verdict=found.verdict,
        chosen=found.chosen,
        layer=layer,
        text=text,
        seconds=seconds,
        processor_s=used,
    )


def _processor_s() -> float:
    """Return the seconds of processors of this process and of compilers that have ended."""
    return sum(os.times()[:4])


def carve(name: str, model: Model, folder: Path) -> Path:
    """Capture and carve a model, and return the output folder."""
    out = folder / name
    bring_up(
        model,
        out=out,
        strategy="bisect",
        session="inline",
        cases_per_unit=2,
        is_probed=False,
    )
    return out


def report(found: Sequence[Planted], console: Console) -> bool:
    """Print the table by kind; return whether the limits are kept."""
    table = Table(
        "fault in", "planted", "repaired", "layer right", "s, mean", "s, most", "core s, most"
    )
    kinds = dict.fromkeys(one.fault.kind for one in found)
    for kind in (*kinds, "all"):
        rows = [one for one in found if kind in (one.fault.kind, "all")]
        seconds = [one.seconds for one in rows]
        table.add_row(
            kind,
            str(len(rows)),
            str(sum(bool(one.chosen) for one in rows)),
            str(sum(one.is_layer_right for one in rows)),
            f"{sum(seconds) / len(seconds):.1f}",
            f"{max(seconds):.1f}",
            f"{max(one.processor_s for one in rows):.1f}",
        )
    console.print(table)
    right = sum(one.is_layer_right for one in found)
    models = {one.model for one in found}
    return (
        len(found) >= LEAST_FAULTS
        and len(models) >= LEAST_MODELS
        and right >= LEAST_LAYERS * len(found)
        and max(one.seconds for one in found) <= MOST_SECONDS
    )


def main() -> int:
    """Plant the faults and print the table."""
    from zoo_models import ARCHITECTURES
    from zoo_worker import imported

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL", help="of the zoo")
    parser.add_argument("--runs", type=Path, help="folder of runs of the models that are finished")
    args = parser.parse_args()
    console, log = Console(width=120, highlight=False), Console(stderr=True, highlight=False)
    found: list[Planted] = []
    with tempfile.TemporaryDirectory(prefix="tapml-repair-faults-") as folder:
        for name in args.models:
            if args.runs is None:
                out = carve(name, imported(ARCHITECTURES[name], "static"), Path(folder))
            else:
                out = args.runs / name
            for one in plant(name, out):
                found.append(one)
                mark = "" if one.is_layer_right else f" [{one.fault.layer} it is]"
                log.print(
                    f"{name}/{one.unit}: {one.fault.name}: {one.chosen or 'no repair'}, "
                    f"{one.layer}{mark}: {one.text} "
                    f"({one.seconds:.1f} s, {one.processor_s:.1f} core s)",
                    markup=False,
                    soft_wrap=True,
                )
    return 0 if report(found, console) else 1


if __name__ == "__main__":
    raise SystemExit(main())
