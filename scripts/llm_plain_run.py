"""Run a model of ``llm_models`` with PyTorch, as the source, and as the bundle of a run.

``python llm_plain_run.py MODEL SOURCE OUT`` prints one line of JSON: seconds of PyTorch and of the
source, each run twice, of which the second counts; and how far the bundle's outputs are from the
source's, the largest difference in units of the RMS of the source's. The source runs the first
sample, with its derived weights, as after the first call of a process. OUT is the output folder of
a run of the main command, whose kernels are not built again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from built_model import build_model
from llm_models import Decoder, decoder, model_of

import relax_tapml
from relax_tapml.arrays import Array
from relax_tapml.bringup import SideSpec
from relax_tapml.frontend.model import Model


def main() -> None:
    """Measure and print."""
    name, target, out = sys.argv[1:]
    built = decoder(name)
    torch_s = _torch_s(built, "cuda" if target.startswith("cuda") else "cpu")
    model = model_of(built)
    plain = build_model(
        model, Path(out) / "kernels", SideSpec.of(target, session="inline").trusted().target
    )
    functions = plain.functions()
    outputs = [model.run(functions, sample) for sample in model.samples]
    print(
        json.dumps(
            {
                "weights_bytes": sum(array.nbytes for array in model.params.values()),
                "torch_s": torch_s,
                "source_s": _second_s(lambda: model.run(functions, model.samples[0])),
                "bundle_apart": _bundle_apart(Path(out) / "bundle", model, outputs),
            }
        )
    )


def _torch_s(built: Decoder, device: str) -> float:
    module = built.module.to(device)
    [arguments, *_] = built.samples
    with torch.no_grad():
        seconds = _second_s(lambda: module(*(a.to(device) for a in arguments)).cpu())
    module.to("cpu")
    return seconds


def _bundle_apart(folder: Path, model: Model, outputs: list[list[Array]]) -> float | None:
    """Return how far a bundle is from the source; None if there is no bundle."""
    if not folder.is_dir():
        return None
    apart = 0.0
    with closing(relax_tapml.load(folder)) as bundle:
        for sample, wanted in zip(model.samples, outputs, strict=True):
            for found, array in zip(model.run(bundle, sample), wanted, strict=True):
                right = array.astype(np.float32)
                difference = np.abs(found.astype(np.float32) - right).max()
                apart = max(apart, float(difference / np.sqrt(np.square(right).mean())))
    return apart


def _second_s(run: Callable[[], Any]) -> float:
    run()
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
