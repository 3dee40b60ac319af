"""A side's own pass, named on the command line."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.errors import UsageError
from relax_tapml.files.machine import raise_machine_error


def load_pipeline(spec: str | tvm.transform.Pass | None) -> tvm.transform.Pass | None:
    """Return the Relax pass that ``MODULE:ATTR`` names; a pass or None is returned as it is.

    The current folder is importable. ``ATTR`` may be a pass, or a function that takes nothing and
    returns one. ``MODULE`` may also be the path of a ``.py`` file, or of a folder with an
    ``__init__.py``. Several of them, separated by commas, are applied in order.

    Raises
    ------
    UsageError
        It cannot be imported, or is not a pass.
    """
    if spec is None or isinstance(spec, tvm.transform.Pass):
        return spec
    if "," in spec:
        passes = [load_pipeline(one.strip()) for one in spec.split(",")]
        return tvm.transform.Sequential(passes, name=spec)
    module_name, colon, attribute = spec.rpartition(":")
    if not colon or not module_name or not attribute:
        raise UsageError(f"pipeline {spec!r}: expected MODULE:ATTR, such as my_kernels:pipeline")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = _module(module_name)
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


def _module(name: str) -> Any:
    """Import a module by its name, or from a file or folder."""
    path = Path(name)
    file = path / "__init__.py" if path.is_dir() else path
    if file.suffix != ".py" or not file.is_file() or not ("/" in name or name.endswith(".py")):
        return importlib.import_module(name)
    content = str(file.resolve()).encode() + file.read_bytes()
    own = f"relax_tapml_pipeline_{hashlib.sha256(content).hexdigest()[:16]}"
    if own in sys.modules:
        return sys.modules[own]
    spec = importlib.util.spec_from_file_location(own, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[own] = module
    spec.loader.exec_module(module)
    return module
