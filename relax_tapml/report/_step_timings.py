"""The picture of step timings: shift and run of each step on a log scale."""

from __future__ import annotations

from dataclasses import dataclass

from relax_tapml.report._log_scale import LogScale
from relax_tapml.report.quantities import seconds_text
from relax_tapml.results.run_result import RunResult

_HEIGHT = 150
_LEFT = 80
_WIDTH = 1180
_TOP = 10
_BOTTOM = 24


@dataclass(frozen=True, kw_only=True)
class Point:
    """One step; ``shift_y`` or ``run_y`` is None where that part did not happen."""

    step: int
    x: float
    shift_y: float | None
    run_y: float | None
    text: str


@dataclass(frozen=True, kw_only=True)
class StepTimings:
    """The picture in pixels."""

    points: tuple[Point, ...]
    levels: tuple[tuple[str, float], ...]
    ticks: tuple[tuple[int, float], ...]
    left: int
    width: int
    height: int


def lay_out_timings(result: RunResult) -> StepTimings:
    """Place the shift and run seconds of every step of a run."""
    seconds = [step.seconds for step in result.steps]
    scale = LogScale.spanning(value for one in seconds for value in (one.shift, one.run))
    pitch = (_WIDTH - _LEFT - 12) / max(len(seconds), 1)

    def y_of(value: float | None) -> float | None:
        if value is None:
            return None
        return _TOP + (1 - scale.position(value)) * (_HEIGHT - _TOP - _BOTTOM)

    points = tuple(
        Point(
            step=number,
            x=_LEFT + (number - 0.5) * pitch,
            shift_y=y_of(one.shift),
            run_y=y_of(one.run),
            text=", ".join(
                f"{name} {seconds_text(value)}"
                for name, value in (("shift", one.shift), ("run", one.run))
                if value is not None
            ),
        )
        for number, one in enumerate(seconds, 1)
    )
    every = next((k for k in (1, 2, 5, 10, 20, 50, 100, 1000) if k * pitch >= 22), 10_000)
    return StepTimings(
        points=points,
        levels=tuple((seconds_text(v), y_of(v) or 0.0) for v in scale.decades(6)),
        ticks=tuple((p.step, p.x) for p in points if p.step % every == 0 or p.step == 1),
        left=_LEFT,
        width=_WIDTH,
        height=_HEIGHT,
    )
