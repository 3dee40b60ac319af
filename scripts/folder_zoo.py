"""Load a checkpoint folder of every architecture of the zoo with ``hf:FOLDER``.

Each model is saved as ``save_pretrained`` does and loaded by the front door. A decoder with a cache
must give the logits that the model gives without one. Each row is made in a process of its own and
kept in ``--out``. Return 1 if a row is not right.

``python scripts/folder_zoo.py llama vit whisper`` or ``... --all``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from zoo_models import ARCHITECTURES
from zoo_pool import Row, Task, make_rows

from relax_tapml.errors import TapmlError
from relax_tapml.frontend.load.load_model import load_model
from relax_tapml.frontend.model import Model

_MOST_APART = 1e-4


@dataclass(kw_only=True)
class FolderRow(Row):
    """What came of one architecture.

    Parameters
    ----------
    kind
        The class of transformers that was saved.
    functions
        Of the model that was loaded.
    inputs
        Shapes of the first sample's arrays.
    apart
        How far logits with a cache are from those without one, at most; -1 without a cache.
    """

    kind: str = ""
    functions: str = ""
    inputs: str = ""
    apart: float = -1.0


def main() -> int:
    """Run what was asked for; return 0 if every row is right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="architectures, e.g. llama")
    parser.add_argument("--all", action="store_true", help="all of them")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time (default: 1)")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for each model")
    parser.add_argument("--out", type=Path, default=Path("folder-zoo"), help="folder for results")
    parser.add_argument("--again", action="store_true", help="also those that are there")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - ARCHITECTURES.keys())
    if unknown or bool(args.names) == args.all:
        parser.error(f"name architectures, or --all; there are: {', '.join(ARCHITECTURES)}")
    tasks = [
        Task(file=name, blank=FolderRow(name=name), arguments=(name,))
        for name in (ARCHITECTURES if args.all else args.names)
    ]
    made = make_rows(
        tasks, work, args.out, jobs=args.jobs, is_again=args.again,
        timeout_s=args.timeout, preloaded=["folder_zoo"],
    )  # fmt: skip
    wrong = 0
    for row in made:
        wrong += row.stage != "done" or bool(row.reason)
        apart = f"{row.apart:.1e} from no cache" if row.apart >= 0 else "no cache"
        said = row.reason or f"{row.kind} {row.functions}, {apart}, {row.inputs}"
        print(f"{row.name:<20} {row.stage}: {said}", flush=True)
    print(f"{len(tasks) - wrong} of {len(tasks)} folders are loaded and right")
    return int(wrong > 0)


def work(name: str, path: Path) -> None:
    """Save and load an architecture and write its row to ``path``; its output goes beside it."""
    log = path.with_suffix(".log").open("w")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    warnings.filterwarnings("ignore")
    began = time.perf_counter()
    row = FolderRow(name=name)
    folder = path.with_suffix(".model")
    module = ARCHITECTURES[name].build().module.model
    row.kind = type(module).__name__
    module.save_pretrained(folder)
    row.save(path)
    try:
        _load(row, module, folder)
    except TapmlError as error:
        row.reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    row.seconds["total"] = time.perf_counter() - began
    row.save(path)
    shutil.rmtree(folder)


def _load(row: FolderRow, module: torch.nn.Module, folder: Path) -> None:
    model = load_model(f"hf:{folder}")
    row.functions = " ".join(sorted(gvar.name_hint for gvar in model.module.functions))
    row.inputs = " ".join(str(array.shape) for array in model.samples[0].arrays)
    if model.drive is not None:
        row.apart = _apart(model, module)
        if not row.apart <= _MOST_APART:
            row.reason = f"with a cache, logits are {row.apart:.2g} from those without one"
    row.stage = "done"


def _apart(model: Model, module: torch.nn.Module) -> float:
    worst = 0.0
    for sample in model.samples:
        assert model.reference is not None
        logits = np.concatenate(model.reference(sample), axis=1)
        ids = torch.tensor(np.concatenate(sample.arrays, axis=1))
        with torch.no_grad():
            expected = module(input_ids=ids, use_cache=False).logits.numpy()
        worst = max(worst, float(np.abs(logits - expected).max()))
    return worst


if __name__ == "__main__":
    raise SystemExit(main())
