"""How long each stage took, one after the other, for people."""

from __future__ import annotations

from dataclasses import dataclass

from relax_tapml.results.run_result import StageSeconds


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """One stage: its seconds, and where it lies between the first and the last, in percent."""

    name: str
    seconds: float
    before_percent: float
    percent: float


def stage_times(seconds: StageSeconds) -> list[StageTime]:
    """Return the stages that took time, in order.

    Lowering is what is left of ``lower`` without loading the model, which it contains.
    """
    parts = (
        ("loading the model", seconds.load),
        ("lowering", max(0.0, seconds.lower - seconds.load)),
        ("source and kernels", seconds.build_kernels),
        ("capture", seconds.capture),
        ("carve", seconds.carve),
        ("replay", seconds.replay),
        ("migrate", seconds.migrate),
        ("repair", seconds.repair),
    )
    whole = sum(one for _, one in parts) or 1.0
    times, before = [], 0.0
    for name, one in parts:
        if one:
            percent = 100 * one / whole
            times.append(
                StageTime(
                    name=name,
                    seconds=one,
                    before_percent=min(before, 100.0),
                    percent=min(percent, 100.0),
                )
            )
            before += percent
    return times
