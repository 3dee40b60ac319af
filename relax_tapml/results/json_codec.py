"""Results to JSON and back: the one codec of ``result.json``, ``state.json`` and ``--json``.

A result is a frozen dataclass. Its fields are the fields of the JSON object; ``import_`` stands for
``import``, which Python keeps for itself. Strict JSON has no NaN and no infinity, so a ``Number``
that is not finite is written as the string ``nan``, ``inf`` or ``-inf``.
"""

from __future__ import annotations

import keyword
import math
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

Result = TypeVar("Result")

Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
"""How many; bytes of a large disk fit."""

Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]

if TYPE_CHECKING:
    Number = float
    Value = float | int | bool
else:

    class _Kind(type):
        """Of types that mark a field for ``_number``; what that returns is an instance of them."""

        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, int | float)

    class Number(metaclass=_Kind):
        """A float that may be NaN or infinite."""

    class Value(metaclass=_Kind):
        """One element of a tensor."""


_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def encode(result: Any) -> Any:
    """Return a result as JSON values: objects, lists, strings, finite numbers, bool and None."""
    return _strict(msgspec.to_builtins(result))


def decode(document: Any, kind: type[Result]) -> Result:
    """Return JSON values as a result; fields that ``kind`` does not have are left out.

    Raises
    ------
    msgspec.ValidationError
        A field without a default is missing, or a value is of another type. The message says where.
    """
    return msgspec.convert(_python_names(document), kind, dec_hook=_number)


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.removesuffix("_"): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _python_names(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            f"{key}_" if keyword.iskeyword(key) else key: _python_names(item)
            for key, item in value.items()
        }
    return [_python_names(item) for item in value] if isinstance(value, list) else value


def _number(kind: type, value: Any) -> float | int | bool:
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if kind is Value and isinstance(value, bool | int):
        return value
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise ValueError(f"expected a number, nan, inf or -inf, got {type(value).__name__}")
    return float(value)
