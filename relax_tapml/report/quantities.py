"""How numbers are written for people; the same in the terminal and on the page."""

from __future__ import annotations

import math
from collections.abc import Mapping


def number_text(value: float | None) -> str:
    """Write an error or tolerance: ``0``, ``nan``, ``3.1e-06``, ``0.0666``; a dash for none.

    Where it is neither small nor large it is written as in the reasons of comparisons.
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(float(value))
    if 1e-3 <= abs(value) < 999.5:
        return f"{value:.3g}"
    return "0" if value == 0 else f"{value:.1e}"


def value_text(value: object) -> str:
    """Write one element of a tensor: six digits of a float, anything else as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def metrics_text(metrics: Mapping[str, object]) -> str:
    """Write all metrics of a comparison on one line; a dash for one that has no value.

    Of counts by name, such as ``nonfinite``, those that are not 0.
    """
    parts = []
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            counts = ", ".join(f"{key} {count}" for key, count in value.items() if count)
            text = f"({counts})" if counts else "0"
        else:
            text = "-" if value is None else value_text(value)
        parts.append(f"{name} {text}")
    return ", ".join(parts)


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


def call_time_text(seconds: float | None) -> str:
    """Write the duration of a call: ``0.743 us``, ``38 ms``; a dash for none."""
    if seconds is None or seconds >= 1e-3:
        return seconds_text(seconds)
    return f"{seconds * 1e6:.3g} us"


def call_text(call_s: float | None, own_call_s: float | None) -> str:
    """Write how long a call of a kernel takes beside another one; empty where it is not known.

    ``12.3 us a call, 1.4 x the time of the wrong one``.
    """
    if call_s is None:
        return ""
    text = f"{call_time_text(call_s)} a call"
    if own_call_s:
        text += f", {call_s / own_call_s:.2g} x the time of the wrong one"
    return text


def about_text(seconds: float) -> str:
    """Write a duration that is not known well: ``about 20 s``, ``about 4 min``, ``under 1 s``."""
    return "under 1 s" if seconds < 0.95 else f"about {rough_text(seconds)}"


def rough_text(seconds: float) -> str:
    """Write a duration in few digits: ``20 s``, ``4 min``, ``1.5 h``."""
    if seconds < 0.95:
        return "under 1 s"
    if seconds < 9.5:
        return f"{seconds:.0f} s"
    if seconds < 97.5:
        return f"{round(seconds / 5) * 5} s"
    if seconds < 97.5 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 9.95 else f"{hours:.0f} h"


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
