"""The records of a store: sites, calls, and the values of arguments and results.

A value is written as a short string, a ref: the refs of the native queue (see
``docs/internals.md``), except that a tensor is named by its digest, ``t:DIGEST``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TensorValue:
    """A tensor of the store; ``CaptureStore.tensor(digest)`` returns its elements.

    Parameters
    ----------
    digest
        Name of the content: bytes, dtype and shape.
    dtype
        TVM's name, ``float32``, ``int4``, ``float32x4``.
    shape
        In elements of ``dtype``.
    """

    digest: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ParameterValue:
    """A parameter or constant, recorded once under its name."""

    name: str


@dataclass(frozen=True, kw_only=True)
class OpaqueValue:
    """An object whose content is not recorded, such as a KV cache."""

    type_key: str


Value = (
    TensorValue | ParameterValue | OpaqueValue | tuple[int, ...] | int | float | bool | str | None
)
"""A tuple is a shape."""


@dataclass(frozen=True, kw_only=True)
class SiteRecord:
    """The description of a site by the caller of the recorder.

    Parameters
    ----------
    site
        ``main/012/fused_matmul_add2``.
    function, unit, kind
        The Relax function, the unit called, and how it is called, such as ``call_tir``.
    description
        Anything else, as JSON values.
    """

    site: str
    function: str
    unit: str
    kind: str
    description: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CallRecord:
    """One execution of a site.

    Parameters
    ----------
    sample
        The sample that was run.
    frame, function, call
        The ordinal of the function's execution in the sample, the function's name, and the
        ordinal of the call in that execution; among what was recorded.
    site
        The site called.
    inputs
        Leaves of the arguments, as they were before the call.
    outputs
        Leaves of the results; None when the call never returned.
    """

    sample: str
    frame: int
    function: str
    call: int
    site: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...] | None


def scalar_ref(value: tuple[int, ...] | int | float | str | None) -> str:
    """Write a value that is no tensor, parameter or object as a ref."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"b:{int(value)}"
    if isinstance(value, int):
        return f"i:{value}"
    if isinstance(value, float):
        return f"f:{value.hex()}"
    if isinstance(value, str):
        return f"str:{value}"
    return "s:" + ",".join(map(str, value))


def parse_ref(ref: str) -> Value:
    """Read a ref back; the caller fills in the dtype and shape of a tensor.

    Raises
    ------
    ValueError
        ``ref`` is not a ref.
    """
    kind, _, text = ref.partition(":")
    match kind:
        case "t":
            return TensorValue(digest=text, dtype="", shape=())
        case "p":
            return ParameterValue(name=text)
        case "s":
            return tuple(map(int, text.split(","))) if text else ()
        case "i":
            return int(text)
        case "f":
            return float.fromhex(text)
        case "b":
            return text == "1"
        case "str":
            return text
        case "none":
            return None
        case "object":
            return OpaqueValue(type_key=text)
    raise ValueError(f"{ref!r} is not a capture ref")
