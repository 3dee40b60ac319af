"""Bring a model up on a new platform: carve operator tests, then migrate operator by operator.

Importing the package is cheap: TVM is loaded with the first name that needs it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from relax_tapml._lazy import lazily

if TYPE_CHECKING:
    from relax_tapml.bringup.main_job import bring_up
    from relax_tapml.bringup.options import Options
    from relax_tapml.frontend.load.load_model import load_model
    from relax_tapml.frontend.model import Meaning, Model, Sample
    from relax_tapml.frontend.nn_module import from_nn_module
    from relax_tapml.frontend.onnx_model import from_onnx
    from relax_tapml.frontend.saved import save_model
    from relax_tapml.frontend.tflite_model import from_tflite
    from relax_tapml.frontend.torch_export import from_torch
    from relax_tapml.judge_kernel.verify_kernel import verify
    from relax_tapml.partition.bundle import load
    from relax_tapml.replays.replay import ReplayReport, replay
    from relax_tapml.results.build_comparison import BuildComparison
    from relax_tapml.results.kernel_report import KernelReport
    from relax_tapml.results.result_file import read_result
    from relax_tapml.results.run_result import RunResult
    from relax_tapml.two_builds.build_spec import BuildSpec
    from relax_tapml.two_builds.compare_builds import compare_builds

__all__ = [
    "BuildComparison",
    "BuildSpec",
    "KernelReport",
    "Meaning",
    "Model",
    "Options",
    "ReplayReport",
    "RunResult",
    "Sample",
    "bring_up",
    "compare_builds",
    "from_nn_module",
    "from_onnx",
    "from_tflite",
    "from_torch",
    "load",
    "load_model",
    "read_result",
    "replay",
    "save_model",
    "verify",
]

_HOMES = {
    "BuildComparison": "relax_tapml.results.build_comparison",
    "BuildSpec": "relax_tapml.two_builds.build_spec",
    "KernelReport": "relax_tapml.results.kernel_report",
    "Meaning": "relax_tapml.frontend.model",
    "Model": "relax_tapml.frontend.model",
    "Options": "relax_tapml.bringup.options",
    "ReplayReport": "relax_tapml.replays.replay",
    "RunResult": "relax_tapml.results.run_result",
    "Sample": "relax_tapml.frontend.model",
    "bring_up": "relax_tapml.bringup.main_job",
    "compare_builds": "relax_tapml.two_builds.compare_builds",
    "from_nn_module": "relax_tapml.frontend.nn_module",
    "from_onnx": "relax_tapml.frontend.onnx_model",
    "from_tflite": "relax_tapml.frontend.tflite_model",
    "from_torch": "relax_tapml.frontend.torch_export",
    "load": "relax_tapml.partition.bundle",
    "load_model": "relax_tapml.frontend.load.load_model",
    "read_result": "relax_tapml.results.result_file",
    "replay": "relax_tapml.replays.replay",
    "save_model": "relax_tapml.frontend.saved",
    "verify": "relax_tapml.judge_kernel.verify_kernel",
}


__getattr__ = lazily(__name__, _HOMES)


class _LastFinder:
    """The last finder of modules: explains why the passes are missing."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        del path, target
        if name == f"{__name__}.passes":
            from relax_tapml.errors import InstallationError

            folder = Path(__file__).parent
            raise InstallationError(
                f"{name}, which has relax_tapml's native library, is not in {folder}. If that is "
                "the source tree, it hides an installed relax_tapml: run this in another folder, "
                f"or build the library for it with: pip install -e {folder.parent}",
                name=name,
            )


sys.meta_path.append(_LastFinder)
