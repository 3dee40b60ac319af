"""Testing of kernels: carved suites under pytest, broken and correct variants of a kernel.

Importing this package is cheap, because every pytest run of the environment does it: TVM is loaded
with the first name that needs it. The functions ``mutants`` and ``variants`` are in the packages of
these names.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relax_tapml.testing.detection import Detector
    from relax_tapml.testing.kernel import build_kernels
    from relax_tapml.testing.mutants import Mutant
    from relax_tapml.testing.unit_cases import kernel_cases
    from relax_tapml.testing.variants import Variant

_HOMES = {
    "Detector": "relax_tapml.testing.detection",
    "Mutant": "relax_tapml.testing.mutants",
    "Variant": "relax_tapml.testing.variants",
    "build_kernels": "relax_tapml.testing.kernel",
    "kernel_cases": "relax_tapml.testing.unit_cases",
}

__all__ = ["Detector", "Mutant", "Variant", "build_kernels", "kernel_cases"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'relax_tapml.testing' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
