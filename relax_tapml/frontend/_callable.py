"""A model from Python: ``package.module:callable``."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.errors import TapmlError, UsageError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.frontend._params import named_params, param_count
from relax_tapml.frontend._unpack_params import UnpackParams
from relax_tapml.frontend.model import Model
from relax_tapml.frontend.signature import signature_of
from relax_tapml.printable import error_line


def load_callable(spec: str) -> Model:
    """Import ``package.module:callable``, call it without arguments and return its model.

    The current directory can be imported from. The callable returns a ``Model``, or
    ``(IRModule, params)`` with parameters in a form ``named_params`` takes.

    Raises
    ------
    UsageError
        The module or callable does not exist, raises, or returns something else.
    """
    with _importable(Path.cwd()):
        function = _import("model", spec)
        attribute = spec.partition(":")[2]
        try:
            result = function()
        except TapmlError:
            raise
        except Exception as error:
            raise_machine_error(error, f"making the model {spec}")
            raise UsageError(f"model {spec} raised {error_line(error)}{_place(error)}") from error
    if isinstance(result, Model):
        return result
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], tvm.IRModule):
        return from_module(result[0], result[1], name=attribute)
    raise UsageError(
        f"model {spec} returned {_described(result)}, expected (IRModule, params) or a "
        "relax_tapml.frontend.model.Model."
    )


def import_callable(spec: str, what: str) -> Any:
    """Return ``package.module:callable``; the current directory can be imported from.

    ``what`` is what it is for, in messages. Raises ``UsageError`` as ``load_callable`` does.
    """
    with _importable(Path.cwd()):
        return _import(what, spec)


def from_module(module: tvm.IRModule, params: Any, *, name: str, entry: str = "main") -> Model:
    """Return a model without samples from Relax and parameters in a form ``named_params`` takes.

    A tuple-typed model parameter is unpacked; its items are named ``packed_params_0`` and so on.

    Raises
    ------
    UsageError
        The parameters do not match the entry function's.
    """
    module = UnpackParams(entry)(module)
    signature = signature_of(module, entry, param_count(params, entry))
    arrays = named_params(params, signature.param_names, entry)
    return Model(name=name, module=module, params=arrays, samples=(), entry=entry)


def _import(what: str, spec: str) -> Any:
    module_name, _, attribute = spec.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise UsageError(
                f"{what} {spec}: importing {module_name} failed: {error}{_place(error)}"
            ) from error
        raise UsageError(
            f"{what} {spec}: no module '{error.name}' here or in the environment. Run from the "
            "directory that holds it, or install its package."
        ) from error
    except Exception as error:
        raise_machine_error(error, f"importing {module_name}")
        raise UsageError(
            f"{what} {spec}: importing {module_name} raised {error_line(error)}{_place(error)}"
        ) from error
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            close = difflib.get_close_matches(part, dir(value), n=3)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            raise UsageError(f"{what} {spec}: {module_name} has no '{attribute}'.{hint}")
        value = getattr(value, part)
    if not callable(value):
        raise UsageError(f"{what} {spec}: {attribute} is {_described(value)}, not a callable.")
    return value


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Make the modules of ``folder`` importable within the block."""
    entry = str(folder)
    sys.path.insert(0, entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(entry)


def _place(error: Exception) -> str:
    """Return the line that raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" (at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"


def _described(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of ({', '.join(type(item).__name__ for item in value)})"
    return f"a {type(value).__name__}"
