"""The process of ``zoo.py`` that brings one architecture up."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import random
import shutil
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from kernel_faults import a_little_off, breaks
from zoo_models import ARCHITECTURES, BATCH, STEPS, TOKENS, Architecture, Built
from zoo_pool import Row

from relax_tapml import Model, bring_up
from relax_tapml.errors import TapmlError
from relax_tapml.frontend.torch_export import from_torch

# Kernels of tiny models need no optimiser, which takes most of the time of building them.
_LLVM = json.dumps({"kind": "llvm", "opt-level": 1})
_STATIC_SHAPES = [(BATCH, TOKENS), (BATCH, TOKENS)]
_SYMBOLIC_SHAPES = [(BATCH, TOKENS), (3, 24), (1, 8)]


@dataclass(kw_only=True)
class ZooRow(Row):
    """What came of one architecture.

    Parameters
    ----------
    family, shapes
        Which; ``shapes`` is static or symbolic.
    units, sites, skipped
        How many there are, and how many sites were not compared.
    clean
        Verdict of the run with right kernels.
    broken, named
        The unit whose kernel was made wrong, and what the run named.
    """

    family: str
    shapes: str
    units: int = 0
    sites: int = 0
    skipped: int = 0
    clean: str = ""
    broken: str = ""
    named: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """Whether right kernels passed and exactly the broken one was named."""
        return self.stage == "done" and not self.reason


def work(name: str, shapes: str, path: Path) -> None:
    """Bring an architecture up and write its row to ``path``; its output goes beside it."""
    log = path.with_suffix(".log").open("w")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    faulthandler.enable(log)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    row = ZooRow(name=name, family=ARCHITECTURES[name].family, shapes=shapes)
    row.save(path)
    began = time.perf_counter()
    folder = path.with_suffix(".run")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _bring_up(ARCHITECTURES[name], row, path, folder)
    except TapmlError as error:
        row.reason = f"{type(error).__name__}: {error}"
    row.seconds["total"] = time.perf_counter() - began
    row.save(path)
    if row.is_right:
        shutil.rmtree(folder)


def _bring_up(architecture: Architecture, row: ZooRow, path: Path, folder: Path) -> None:
    row.stage = "import"
    row.save(path)
    began = time.perf_counter()
    model = imported(architecture, row.shapes)
    row.seconds["import"] = time.perf_counter() - began
    row.stage = "clean"
    row.save(path)
    began = time.perf_counter()
    result = _run(model, folder).document
    row.seconds |= {"clean": time.perf_counter() - began, **result["seconds"]}
    row.units, row.sites = result["model"]["units"], result["model"]["sites"]
    row.skipped = len(result["skipped"])
    row.clean = result["verdict"]
    if row.clean != "pass":
        row.named = result["culprits"]
        reasons = {unit["name"]: unit["reason"] for unit in result["units"]}
        reason = "; ".join(f"{name}: {reasons[name]}" for name in row.named)
        row.reason = reason or result["reason"]
        return
    row.stage = "broken"
    passed = [unit["name"] for unit in result["units"] if unit["verdict"] == "pass"]
    row.broken = random.Random(f"{row.name} {row.shapes}").choice(passed)
    row.save(path)
    began = time.perf_counter()
    result = _run(
        model, folder, device_pipeline=breaks(row.broken, a_little_off), resume=True, repair=False
    ).document
    row.seconds["broken"] = time.perf_counter() - began
    row.named = result["culprits"]
    if row.named != [row.broken]:
        row.reason = f"{row.broken} is wrong, named: {', '.join(row.named) or 'nothing'}"
    row.stage = "done"


def imported(architecture: Architecture, shapes: str) -> Model:
    """Return an architecture with samples; ``shapes`` is static or symbolic."""
    built = architecture.build()
    is_symbolic = shapes == "symbolic"
    extents = _SYMBOLIC_SHAPES if is_symbolic else _STATIC_SHAPES
    samples = [built.inputs(seed, *extent) for seed, extent in enumerate(extents)]
    return from_torch(
        built.module,
        samples[0],
        samples=samples,
        name=architecture.name,
        dynamic_shapes=(_dynamic_shapes(built),) if is_symbolic else None,
    )


def _dynamic_shapes(built: Built) -> tuple[dict[int, Any], ...]:
    tokens = torch.export.Dim("tokens", min=4, max=60)
    half = torch.export.Dim("half", min=2, max=30)
    dims = {
        "batch": torch.export.Dim("batch", min=1, max=16),
        "tokens": tokens,
        "half": half,
        "sound": STEPS * tokens,
    }
    return tuple({axis: dims[name] for axis, name in by_axis.items()} for by_axis in built.dims)


def _run(model: Model, folder: Path, **options: Any) -> Any:
    return bring_up(
        model,
        source=_LLVM,
        target=_LLVM,
        session="inline",
        strategy="bisect",
        cases_per_unit=2,
        is_probed=False,
        out=folder,
        **options,
    )
