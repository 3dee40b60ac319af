"""8-bit integers as expressions of int32, for targets that have none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from relax_tapml._compat import prim


@dataclass(frozen=True)
class ByteNumber:
    """An 8-bit integer.

    Parameters
    ----------
    value
        An int32 with the number.
    """

    value: Any
    is_signed = True

    @classmethod
    def of(cls, expr: Any) -> ByteNumber:
        """Return what a cast of an expression gives."""
        return cls.wrapped(tirx.Cast("int32", expr))

    @classmethod
    def wrapped(cls, value: Any) -> ByteNumber:
        """Return the number of the last eight bits of an int32."""
        if cls.is_signed:
            return cls(((value + _const(128)) & _const(255)) - _const(128))
        return cls(value & _const(255))

    @classmethod
    def constant(cls, value: int) -> ByteNumber:
        """Return a number."""
        return cls(_const(value))

    def __add__(self, other: ByteNumber) -> ByteNumber:
        return self.wrapped(self.value + other.value)

    def __sub__(self, other: ByteNumber) -> ByteNumber:
        return self.wrapped(self.value - other.value)

    def __mul__(self, other: ByteNumber) -> ByteNumber:
        return self.wrapped(self.value * other.value)

    def __and__(self, other: ByteNumber) -> ByteNumber:
        return type(self)(self.value & other.value)

    def __or__(self, other: ByteNumber) -> ByteNumber:
        return type(self)(self.value | other.value)

    def __xor__(self, other: ByteNumber) -> ByteNumber:
        return type(self)(self.value ^ other.value)

    def __lshift__(self, bits: int) -> ByteNumber:
        return self.wrapped(self.value << _const(bits))

    def __rshift__(self, bits: int) -> ByteNumber:
        return type(self)(self.value >> _const(bits))

    def less(self, other: ByteNumber) -> Any:
        """Return whether it is less than another."""
        return self.value < other.value

    def equals(self, other: ByteNumber) -> Any:
        """Return whether it is equal to another."""
        return prim.EQ(self.value, other.value)

    @classmethod
    def chosen(cls, choose: Any, condition: Any, yes: ByteNumber, no: ByteNumber) -> ByteNumber:
        """Return one of two, by ``tirx.Select`` or ``tirx.if_then_else``."""
        return cls(choose(condition, yes.value, no.value))

    def cast(self, dtype: str) -> Any:
        """Return it as a value of another dtype."""
        if dtype == "bool":
            return prim.NE(self.value, _const(0))
        return self.value if dtype == "int32" else tirx.Cast(dtype, self.value)


class UnsignedByte(ByteNumber):
    """An 8-bit integer without a sign."""

    is_signed = False


def _const(value: int) -> Any:
    return tirx.const(value, "int32")
