"""Bring a model up on a new platform: carve operator tests, then migrate operator by operator.

Importing the package is cheap: TVM is loaded with the first name that needs it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relax_tapml.bringup.bring_up import bring_up
    from relax_tapml.frontend.load.load_model import load_model
    from relax_tapml.frontend.model import Model, Sample
    from relax_tapml.frontend.nn_module import from_nn_module
    from relax_tapml.frontend.saved import save_model
    from relax_tapml.frontend.torch_export import from_torch
    from relax_tapml.partition.bundle import load
    from relax_tapml.replays.replay import replay

__all__ = [
    "Model",
    "Sample",
    "bring_up",
    "from_nn_module",
    "from_torch",
    "load",
    "load_model",
    "replay",
    "save_model",
]

_HOMES = {
    "Model": "relax_tapml.frontend.model",
    "Sample": "relax_tapml.frontend.model",
    "bring_up": "relax_tapml.bringup.bring_up",
    "from_nn_module": "relax_tapml.frontend.nn_module",
    "from_torch": "relax_tapml.frontend.torch_export",
    "load": "relax_tapml.partition.bundle",
    "load_model": "relax_tapml.frontend.load.load_model",
    "replay": "relax_tapml.replays.replay",
    "save_model": "relax_tapml.frontend.saved",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'relax_tapml' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


class _LastFinder:
    """Is asked for a module when nobody has found it, and says why the passes are missing."""

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
