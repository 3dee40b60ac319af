"""How numbers are written for people; the same in the terminal and on the page."""

from __future__ import annotations

import math


def as_number(value: float | str | None) -> float | None:
    """Return a number of the result document as a float, None where there is none.

    The document may hold non-finite numbers as the strings ``"nan"``, ``"inf"`` and ``"-inf"``.
    """
    return None if value is None else float(value)


def number_text(value: float | str | None) -> str:
    """Write an error or tolerance: ``0``, ``nan``, ``3.1e-06``; a dash where there is none."""
    number = as_number(value)
    if number is None:
        return "-"
    if not math.isfinite(number):
        return str(number)
    return "0" if number == 0 else f"{number:.1e}"


def value_text(value: object) -> str:
    """Write one element of a tensor: six digits of a float, anything else as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def seconds_text(seconds: float | None) -> str:
    """Write a duration: ``0.4 ms``, ``38 ms``, ``1.3 s``, ``2 min 5 s``; a dash for none."""
    if seconds is None:
        return "-"
    if seconds < 0.001:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def size_text(size_bytes: int) -> str:
    """Write a size in decimal units: ``812 B``, ``41 kB``, ``1.2 GB``."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.5:
            return f"{size:.1f} {unit}" if size < 9.95 else f"{size:.0f} {unit}"
    return f"{size / 1000:.1f} TB"


def count_text(count: int, noun: str) -> str:
    """Write a count with its noun: ``1 unit``, ``26 units``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
