"""Numbers in strict JSON."""

from __future__ import annotations

import math
from typing import Any


def json_number(value: Any) -> float | int | bool | str | None:
    """Return a number as strict JSON can hold it: NaN and infinities as strings."""
    if value is None or isinstance(value, bool | int | str):
        return value
    number = float(value)
    return number if math.isfinite(number) else str(number)
