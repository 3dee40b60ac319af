"""Run a model of ``llm_models`` once with PyTorch and once as the source, and print the seconds.

``python llm_plain_run.py MODEL SOURCE KERNELS`` prints one line of JSON; kernels that are in the
folder KERNELS already are not built again. Each is run twice, and the second run counts.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from llm_models import Decoder, decoder, model_of

from relax_tapml.bringup import SideSpec, build_source, lower_model
from relax_tapml.progress import SILENT


def main() -> None:
    """Measure and print."""
    name, target, kernels = sys.argv[1:]
    built = decoder(name)
    torch_s = _torch_s(built, "cuda" if target.startswith("cuda") else "cpu")
    model = model_of(built)
    source = build_source(model, lower_model(model), SideSpec.of(target), Path(kernels)).source
    print(
        json.dumps(
            {
                "weights_bytes": sum(array.nbytes for array in model.params.values()),
                "torch_s": torch_s,
                "source_s": _second_s(lambda: source.run(SILENT)),
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


def _second_s(run: Callable[[], Any]) -> float:
    run()
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
