"""A model from Python: ``package.module:callable``, with arguments if it takes any."""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import importlib.util
import inspect
import sys
import sysconfig
import traceback
import warnings
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
from relax_tapml.frontend.torch_export import from_torch
from relax_tapml.printable import error_line

_RETURNS = (
    "a relax_tapml.Model, (IRModule, params), a torch.export.ExportedProgram, or (torch.nn.Module, "
    "example inputs)"
)
# What ast raises about a text.
_UNREADABLE = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)
# Code that is not the user's lies there, or in a folder site-packages.
_NOT_THEIRS = ("<", sysconfig.get_path("stdlib"), str(Path(__file__).resolve().parent.parent))


def load_callable(spec: str) -> Model:
    """Import ``package.module:callable[:arguments]``, call it and return its model.

    The current directory can be imported from. ``arguments`` are separated by commas, and may have
    names: ``my.models:llama:tiny,layers=4``. What Python reads as a literal is passed as one, all
    else as text. Commas within brackets or quotes separate nothing.

    The callable returns a ``Model``; ``(IRModule, params)`` with parameters in a form
    ``named_params`` takes; a ``torch.export.ExportedProgram``; or a ``torch.nn.Module`` and its
    example inputs, as ``from_torch`` takes them.

    Raises
    ------
    UsageError
        The module or callable does not exist, raises, takes other arguments, or returns something
        else.
    """
    name, arguments = _split(spec)
    with _importable(Path.cwd()):
        function = _import("model", name)
        attribute = name.partition(":")[2]
        positional, named = _read_arguments(spec, arguments)
        _check_call(spec, function, positional, named)
        try:
            result = function(*positional, **named)
        except TapmlError:
            raise
        except Exception as error:
            raise_machine_error(error, f"making the model {spec}")
            raise UsageError(f"model {spec} raised {error_line(error)}{_place(error)}") from error
    if isinstance(result, Model):
        return result
    if isinstance(result, tuple) and len(result) == 2:
        first, second = result
        if isinstance(first, tvm.IRModule):
            return from_module(first, second, name=attribute)
        if _is_torch(first, "nn.Module"):
            return from_torch(first, _as_arguments(second), name=attribute)
    if _is_torch(result, "export.ExportedProgram"):
        return from_torch(result, name=attribute)
    raise UsageError(f"model {spec} returned {_described(result)}, expected {_RETURNS}.")


def _split(spec: str) -> tuple[str, str]:
    """Divide ``package.module:callable:arguments``."""
    module, separator, rest = spec.partition(":")
    attribute, _, arguments = rest.partition(":")
    return f"{module}{separator}{attribute}", arguments


def _read_arguments(spec: str, text: str) -> tuple[list[Any], dict[str, Any]]:
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for name, value in _divided(spec, text):
        if name is None:
            positional.append(_value(value))
        elif name in named:
            raise UsageError(f"model {spec}: the argument {name} is given twice. Give it once")
        else:
            named[name] = _value(value)
    return positional, named


def _divided(spec: str, text: str) -> list[tuple[str | None, str]]:
    """Return each argument's name, None without one, and the text of its value."""
    as_python = _divided_as_python(text)
    if as_python is not None:
        return as_python
    if set(text) & set("()[]{}'\""):
        raise UsageError(
            f"model {spec}: the arguments cannot be told apart, since brackets or quotes in them "
            "are not those of Python. Put a text that holds any into quotes, and the whole name "
            "into those of the shell: \"package.module:callable:'a (b',layers=4\""
        )
    parts: list[tuple[str | None, str]] = []
    for part in text.split(",") if text else []:
        name, separator, value = part.partition("=")
        is_named = bool(separator) and name.strip().isidentifier()
        parts.append((name.strip(), value) if is_named else (None, part))
    return parts


def _divided_as_python(text: str) -> list[tuple[str | None, str]] | None:
    """Return what ``_divided`` does if Python can read the text as arguments, else None."""
    source = f"f({text})"
    try:
        with warnings.catch_warnings(action="ignore"):
            call = ast.parse(source, mode="eval").body
    except _UNREADABLE:
        return None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return None  # A bracket in the text closed the call.
    if call.end_col_offset != len(source.encode()):
        return None
    if any(keyword.arg is None for keyword in call.keywords):  # Two stars.
        return None
    values: list[tuple[str | None, ast.expr]] = [(None, value) for value in call.args]
    values += [(keyword.arg, keyword.value) for keyword in call.keywords]
    return [(name, ast.get_source_segment(source, value) or "") for name, value in values]


def _value(text: str) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.literal_eval(text.strip())
    except _UNREADABLE:
        return text.strip()


def _check_call(spec: str, function: Any, positional: list[Any], named: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # Some builtins have none.
        return
    try:
        signature.bind(*positional, **named)
    except TypeError as error:
        raise UsageError(
            f"model {spec}: {error}; the callable takes {signature}. Give arguments behind a colon,"
            " separated by commas: package.module:callable:tiny,layers=4"
        ) from error


def _is_torch(value: Any, name: str) -> bool:
    """Whether a value is of a class of PyTorch, which is imported if any value is."""
    kind: Any = sys.modules.get("torch")
    for part in name.split("."):
        kind = getattr(kind, part, None)
    return kind is not None and isinstance(value, kind)


def _as_arguments(inputs: Any) -> Any:
    """Return example inputs as positional or keyword arguments; a single tensor is one."""
    return (inputs,) if _is_torch(inputs, "Tensor") else inputs


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
    """Return the innermost line of the user's code that raised, or of any if none of it did."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" (at {error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if "site-packages" not in frame.filename and not frame.filename.startswith(_NOT_THEIRS)
    ]
    if not frames:
        return ""
    frame = (own or frames)[-1]
    return f" (at {frame.filename}:{frame.lineno})"


def _described(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of ({', '.join(type(item).__name__ for item in value)})"
    return f"a {type(value).__name__}"
