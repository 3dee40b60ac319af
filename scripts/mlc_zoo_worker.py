"""The process of ``mlc_zoo.py`` that brings one architecture up."""

from __future__ import annotations

import faulthandler
import importlib.util
import json
import logging
import os
import shutil
import sys
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from mlc_models import CONFIGS
from zoo_pool import Row

from relax_tapml import bring_up
from relax_tapml.errors import TapmlError
from relax_tapml.frontend.load.load_model import load_model
from relax_tapml.targets.platforms.parse_target import parse_target

# Kernels of tiny models need no optimiser, which takes most of the time of building them.
_PLAIN_LLVM = json.dumps({"kind": "llvm", "opt-level": 1})


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is done with each model; see the options of ``mlc_zoo.py``."""

    mlc: str
    quantization: str
    source: str
    target: str
    session: str
    also: tuple[str, ...]
    is_run: bool


@dataclass(kw_only=True)
class MLCRow(Row):
    """What came of one architecture.

    Parameters
    ----------
    made
        The targets for which MLC makes the module.
    units, carved, alone, moved
        How many units there are, how many of them have cases, pass alone, and run on the target.
    verdict, culprits
        Of the run; no verdict if there was none.
    """

    made: list[str] = field(default_factory=list)
    units: int = 0
    carved: int = 0
    alone: int = 0
    moved: int = 0
    verdict: str = ""
    culprits: list[str] = field(default_factory=list)


def work(name: str, job: Job, path: Path) -> None:
    """Bring an architecture up and write its row to ``path``; its output goes beside it."""
    log = path.with_suffix(".log").open("w")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    faulthandler.enable(log)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    row = MLCRow(name=name)
    row.save(path)
    began = time.perf_counter()
    folder = path.with_suffix(".run")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _import_mlc(job.mlc)
        _bring_up(row, job, path, folder)
    except TapmlError as error:
        reason = f"{type(error).__name__}: {error}"
        row.reason = "; ".join(filter(None, [row.reason, " ".join(reason.split())]))
    row.seconds["total"] = time.perf_counter() - began
    row.save(path)
    shutil.rmtree(folder, ignore_errors=True)


def _import_mlc(checkout: str) -> None:
    """Make ``mlc_llm`` importable without its C++ library, which a compilation does not need."""
    os.environ["SKIP_LOADING_MLCLLM_SO"] = "1"
    if checkout:
        package = ModuleType("mlc_llm")
        package.__path__ = [f"{checkout}/python/mlc_llm"]
        sys.modules["mlc_llm"] = package
    elif importlib.util.find_spec("mlc_llm") is None:
        raise SystemExit("mlc_llm is not installed: give a checkout of its source with --mlc")


def _bring_up(row: MLCRow, job: Job, path: Path, folder: Path) -> None:
    row.stage = "make"
    row.save(path)
    folder.mkdir()
    config = folder / "config.json"
    config.write_text(json.dumps({"model_type": row.name, **CONFIGS[row.name]}))
    model = load_model(f"mlc:{config}", quantization=job.quantization, source=job.source)
    row.made = [job.source]
    for target in job.also:
        try:
            assert model.for_target is not None
            model.for_target(parse_target(target))
        except TapmlError as error:
            row.reason = f"{target}: {error}"
        else:
            row.made.append(target)
    if not job.is_run:
        row.stage = "done"
        return
    row.stage = "run"
    row.save(path)
    document = bring_up(
        model,
        source=_PLAIN_LLVM if job.source == "llvm" else job.source,
        target=_PLAIN_LLVM if job.target == "llvm" else job.target,
        session=job.session,
        strategy="bisect",
        cases_per_unit=2,
        is_probed=False,
        out=folder / "out",
    ).document
    row.stage = "done"
    units = document["units"]
    row.units = len(units)
    row.carved = sum(unit["cases"] > 0 for unit in units)
    row.alone = sum(unit["alone"] == "pass" for unit in units)
    row.moved = sum(unit["on_device"] for unit in units)
    row.verdict, row.culprits = document["verdict"], document["culprits"]
    reasons = [f"{u['name']}: {u['reason']}" for u in units if u["name"] in row.culprits]
    row.reason = "; ".join(filter(None, [row.reason, *reasons, document["reason"]]))
