"""A side's own pass, named on the command line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.errors import UsageError
from relax_tapml.files.machine import raise_machine_error


def load_pipeline(spec: str | tvm.transform.Pass | None) -> tvm.transform.Pass | None:
    """Return the Relax pass that ``MODULE:ATTR`` names; a pass or None is returned as it is.

    The current folder is importable. ``ATTR`` may be a pass, or a function that takes nothing and
    returns one.

    Raises
    ------
    UsageError
        It cannot be imported, or is not a pass.
    """
    if spec is None or isinstance(spec, tvm.transform.Pass):
        return spec
    module_name, colon, attribute = spec.partition(":")
    if not colon or not module_name or not attribute:
        raise UsageError(f"pipeline {spec!r}: expected MODULE:ATTR, such as my_kernels:pipeline")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise_machine_error(error, f"importing the pipeline {spec!r}")
        raise UsageError(
            f"pipeline {spec!r} cannot be imported: {error}. MODULE must be importable from "
            f"{Path.cwd()} and have ATTR"
        ) from error
    if not isinstance(found, tvm.transform.Pass) and callable(found):
        try:
            found = found()
        except Exception as error:
            raise_machine_error(error, f"making the pipeline {spec!r}")
            raise UsageError(
                f"pipeline {spec!r} raised {type(error).__name__}: {error}. ATTR must be a "
                "tvm.transform.Pass or a function that takes nothing and returns one"
            ) from error
    if not isinstance(found, tvm.transform.Pass):
        raise UsageError(
            f"pipeline {spec!r}: expected a tvm.transform.Pass or a function that returns one, got "
            f"{type(found).__name__}"
        )
    return found
