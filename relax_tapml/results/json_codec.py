"""Results to JSON and back: the one codec of ``result.json``, ``state.json`` and ``--json``.

A result is a frozen dataclass. Its fields are the fields of the JSON object; ``import_`` stands for
``import``, which Python keeps for itself. Strict JSON has no NaN and no infinity, so a ``Number``
that is not finite is written as the string ``nan``, ``inf`` or ``-inf``.
"""

from __future__ import annotations

import keyword
import math
from dataclasses import fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import numpy as np

from relax_tapml.errors import StoreError

Result = TypeVar("Result")

Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
"""How many; bytes of a large disk fit."""

Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]

if TYPE_CHECKING:
    Number = float
    Value = float | int | bool
    MetricValue = float | int | dict[str, int]
else:

    class _Kind(type):
        """Of types that mark a field for ``_number``; what that returns is an instance of them."""

        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, int | float | dict)

    class Number(metaclass=_Kind):
        """A float that may be NaN or infinite."""

    class Value(metaclass=_Kind):
        """One element of a tensor."""

    class MetricValue(metaclass=_Kind):
        """The value of a metric: a number, or counts by name."""


NOT_IN_JSON = {"json": False}
"""The metadata of a field that is not written, and has its default when it is read."""

_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def encode(result: Any) -> Any:
    """Return a result as JSON values: objects, lists, strings, finite numbers, bool and None."""
    if is_dataclass(result):
        # Fields that a document left out are attributes of the class, so not `vars`.
        return {
            item.name.removesuffix("_"): encode(getattr(result, item.name))
            for item in fields(result)
            if item.metadata != NOT_IN_JSON
        }
    if isinstance(result, dict):
        return {str(key): encode(item) for key, item in result.items()}
    if isinstance(result, list | tuple):
        return [encode(item) for item in result]
    if isinstance(result, StrEnum):
        return str(result)
    if isinstance(result, np.generic):
        result = result.item()
    if isinstance(result, float) and not math.isfinite(result):
        return str(result)
    return result


def decode(document: Any, kind: type[Result]) -> Result:
    """Return JSON values as a result; fields that ``kind`` does not have are left out.

    Raises
    ------
    msgspec.ValidationError
        A field without a default is missing, or a value is of another type; the message names the
        place.
    """
    if isinstance(document, dict) and is_dataclass(kind):
        reserved = {item.name for item in fields(kind) if keyword.iskeyword(item.name[:-1])}
        document = {f"{k}_" if f"{k}_" in reserved else k: item for k, item in document.items()}
    return msgspec.convert(document, kind, dec_hook=_number)


def read_as(document: Any, kind: type[Result], path: Path, *, fix: str) -> Result:
    """Return the JSON values of a file as a result.

    Raises
    ------
    StoreError
        It is none; the message names the place in the file.
    """
    try:
        return decode(document, kind)
    except (msgspec.ValidationError, RecursionError, OverflowError, MemoryError) as error:
        raise StoreError(f"{path} is damaged: {error}. {fix}") from error


def _number(kind: Any, value: Any) -> MetricValue:
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if kind is not Number and isinstance(value, int):
        return value
    if kind is MetricValue and isinstance(value, dict):
        return msgspec.convert(value, dict[str, Count])
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise ValueError(f"expected a number, nan, inf or -inf, got {type(value).__name__}")
    return float(value)
