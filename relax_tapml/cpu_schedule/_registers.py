"""The vector registers of a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.target import codegen


@dataclass(frozen=True, kw_only=True)
class Registers:
    """How many vector registers there are, and of how many bits."""

    count: int
    bits: int

    def lanes(self, dtype: Any) -> int:
        """Return how many values of a dtype are computed by one instruction.

        Floats of less than 32 bits are computed as float32.
        """
        return max(1, self.bits // max(32, int(dtype.bits)))


def registers_of(target: Any) -> Registers:
    """Return the vector registers of a target's CPU."""
    features = {str(name) for name in codegen.llvm_get_cpu_features(target)}
    if "avx512f" in features:
        return Registers(count=32, bits=512)
    if "avx" in features:
        return Registers(count=16, bits=256)
    if "neon" in features:
        return Registers(count=32, bits=128)
    return Registers(count=16, bits=128)
