"""64-bit integers as two words of 32 bits: expressions for targets that have no such integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from relax_tapml._compat import prim
from relax_tapml.repair._exact_float import exact_float

_BITS = 32
_HIGH = 2.0**32
_ZERO = tirx.const(0.0, "float32")


@dataclass(frozen=True)
class Words:
    """A 64-bit integer with a sign, as expressions of uint32.

    It wraps as such an integer does, while no expression of it wraps: TVM's code for LLVM is
    undefined where sums of uint32 do.

    Parameters
    ----------
    low, high
        Its words.
    """

    low: Any
    high: Any

    @classmethod
    def of(cls, expr: Any) -> Words:
        """Return the words of an expression of up to 32 bits."""
        dtype = str(expr.ty)
        if dtype == "bool" or dtype.startswith("uint"):
            return cls(_word(expr), _const(0))
        if dtype.startswith("int"):
            whole = tirx.Cast("int32", expr)
            return cls(_bits(whole), _bits(whole >> tirx.const(_BITS - 1, "int32")))
        return cls._of_float(tirx.Cast("float32", expr))

    @classmethod
    def _of_float(cls, x: Any) -> Words:
        size = tirx.abs(x)
        high = _word(size * exact_float(1 / _HIGH))
        low = _word(size - tirx.Cast("float32", high) * exact_float(_HIGH))
        found = cls(low, high)
        return cls.chosen(tirx.Select, x < _ZERO, -found, found)

    @classmethod
    def constant(cls, value: int) -> Words:
        """Return the words of a number."""
        return cls(_const(value & 0xFFFFFFFF), _const((value >> _BITS) & 0xFFFFFFFF))

    def __add__(self, other: Words) -> Words:
        return self._added(other, _const(0))

    def __sub__(self, other: Words) -> Words:
        return self._added(Words(~other.low, ~other.high), _const(1))

    def __neg__(self) -> Words:
        return Words.constant(0) - self

    def __mul__(self, other: Words) -> Words:
        low, high = _product(self.low, other.low)
        for one, factor in ((self.low, other.high), (self.high, other.low)):
            high, _ = _sum(high, _product(one, factor)[0], _const(0))
        return Words(low, high)

    def _added(self, other: Words, carry: Any) -> Words:
        low, carry = _sum(self.low, other.low, carry)
        high, _ = _sum(self.high, other.high, carry)
        return Words(low, high)

    def __and__(self, other: Words) -> Words:
        return Words(self.low & other.low, self.high & other.high)

    def __or__(self, other: Words) -> Words:
        return Words(self.low | other.low, self.high | other.high)

    def __xor__(self, other: Words) -> Words:
        return Words(self.low ^ other.low, self.high ^ other.high)

    def __lshift__(self, bits: int) -> Words:
        if bits == 0:
            return self
        if bits >= _BITS:
            return Words(_const(0), self.low << _const(bits - _BITS))
        carried = self.low >> _const(_BITS - bits)
        return Words(self.low << _const(bits), (self.high << _const(bits)) | carried)

    def __rshift__(self, bits: int) -> Words:
        if bits == 0:
            return self
        sign = _bits(self._signed >> tirx.const(_BITS - 1, "int32"))
        if bits >= _BITS:
            return Words(_bits(self._signed >> tirx.const(bits - _BITS, "int32")), sign)
        carried = self.high << _const(_BITS - bits)
        shifted = _bits(self._signed >> tirx.const(bits, "int32"))
        return Words((self.low >> _const(bits)) | carried, shifted)

    def less(self, other: Words) -> Any:
        """Return whether it is less than another."""
        is_less = self._signed < other._signed
        return tirx.Or(is_less, tirx.And(prim.EQ(self.high, other.high), self.low < other.low))

    def equals(self, other: Words) -> Any:
        """Return whether it is equal to another."""
        return tirx.And(prim.EQ(self.low, other.low), prim.EQ(self.high, other.high))

    @classmethod
    def chosen(cls, choose: Any, condition: Any, yes: Words, no: Words) -> Words:
        """Return one of two, by ``tirx.Select`` or ``tirx.if_then_else``."""
        return cls(choose(condition, yes.low, no.low), choose(condition, yes.high, no.high))

    def cast(self, dtype: str) -> Any:
        """Return it as a value of another dtype, rounded or wrapped."""
        if dtype == "bool":
            return prim.NE(self.low | self.high, _const(0))
        if dtype == "float32":
            return self._rounded()
        if dtype == "float16":  # What the first cast rounds is infinite here.
            return tirx.Cast(dtype, self._rounded())
        if dtype == "uint32":
            return self.low
        whole = _signed(self.low)
        return whole if dtype == "int32" else tirx.Cast(dtype, whole)

    @property
    def _signed(self) -> Any:
        return _signed(self.high)

    def _rounded(self) -> Any:
        """Return the float32 next to it; beyond 2**32 one of the two that are around it."""
        is_negative = self._signed < tirx.const(0, "int32")
        size = self.chosen(tirx.Select, is_negative, -self, self)
        high, low = (tirx.Cast("float32", word) for word in (size.high, size.low))
        value = high * exact_float(_HIGH) + low
        return tirx.Select(is_negative, _ZERO - value, value)


def _const(value: int) -> Any:
    return tirx.const(value, "uint32")


def _sum(one: Any, other: Any, carry: Any) -> tuple[Any, Any]:
    """Return a sum of words and what it carries, by its halves."""
    half, ones = _const(16), _const(0xFFFF)
    first = (one & ones) + (other & ones) + carry
    second = (one >> half) + (other >> half) + (first >> half)
    return (first & ones) | (second << half), second >> half


def _product(one: Any, other: Any) -> tuple[Any, Any]:
    """Return the words of a product of words, by the products of their halves."""
    half, ones = _const(16), _const(0xFFFF)
    a, b, c, d = one & ones, one >> half, other & ones, other >> half
    first = b * c + ((a * c) >> half)
    second = a * d + (first & ones)
    low = ((a * c) & ones) | (second << half)
    return low, b * d + (first >> half) + (second >> half)


def _word(expr: Any) -> Any:
    return tirx.Cast("uint32", expr)


def _signed(word: Any) -> Any:
    """Return a word as an int32; TVM's code for LLVM takes no 0 to reinterpret."""
    if isinstance(word, prim.IntImm):
        return tirx.const(word.value - ((word.value >> 31) << _BITS), "int32")
    return tirx.reinterpret("int32", word)


def _bits(expr: Any) -> Any:
    """Return the bits of an int32; a cast is one for the range of values in TVM's simplifier."""
    return tirx.reinterpret("uint32", expr)
