"""Bring a model up on a new platform: carve operator tests, then migrate operator by operator.

Importing the package is cheap: TVM is loaded with the first name that needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relax_tapml.carve.replay import replay
    from relax_tapml.frontend.load import load_model
    from relax_tapml.frontend.model import Model, Sample
    from relax_tapml.frontend.nn_module import from_nn_module
    from relax_tapml.frontend.saved import save_model
    from relax_tapml.frontend.torch_export import from_torch
    from relax_tapml.partition.bundle import load
    from relax_tapml.run import bring_up

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
    "bring_up": "relax_tapml.run",
    "from_nn_module": "relax_tapml.frontend.nn_module",
    "from_torch": "relax_tapml.frontend.torch_export",
    "load": "relax_tapml.partition.bundle",
    "load_model": "relax_tapml.frontend.load",
    "replay": "relax_tapml.carve.replay",
    "save_model": "relax_tapml.frontend.saved",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'relax_tapml' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
