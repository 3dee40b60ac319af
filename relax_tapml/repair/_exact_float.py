"""Float constants as the bits that they have, for code generators that write few digits."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx


def exact_float(value: float) -> Any:
    """Return a float32 constant as its bits."""
    return tirx.reinterpret("float32", tirx.const(float_bits(value), "uint32"))


def float_bits(value: float) -> int:
    """Return the bits of a number as float32."""
    return int(np.float32(value).view(np.uint32))
