"""Show, measure and foresee the stages of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from relax_tapml.bringup._plan import Plan
from relax_tapml.progress import Reporter, Stage
from relax_tapml.results.run_result import Estimate, StageSeconds

# The fields of ``StageSeconds`` that stages with other titles count for.
_KEYS = {"model": "lower", "plan": "lower", "source": "build_kernels", "kernels": "build_kernels"}


class StageClock:
    """The stages of one run, one after another; see ``Reporter``.

    Attributes
    ----------
    estimate
        What the run was expected to take; None before ``expect``.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.estimate: Estimate | None = None
        self._reporter = reporter
        self._began = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, title: str) -> Iterator[Stage]:
        """Run a stage; its seconds count for a field of ``StageSeconds``."""
        with self._measured(_KEYS.get(title, title)), self._reporter.stage(title) as stage:
            yield stage

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Measure the part of the stage ``model`` in which a model is loaded."""
        with self._measured("load"):
            yield

    def expect(self, plan: Plan, stage: Stage) -> None:
        """Show what is to come, and keep it; the second time it is better known."""
        stage.say(plan.text)
        self._reporter.expect(plan.seconds)
        seconds = dict(self._seconds)
        for title, expected_s in plan.seconds.items():
            key = _KEYS.get(title, title)
            seconds[key] = seconds.get(key, 0.0) + expected_s
        total = time.perf_counter() - self._began + plan.total_s
        found = StageSeconds(**seconds, total=total)
        first = found if self.estimate is None else self.estimate.first
        self.estimate = Estimate(first=first, corrected=None if self.estimate is None else found)

    @property
    def seconds(self) -> StageSeconds:
        """What each stage has taken so far, and all of them."""
        return StageSeconds(**self._seconds, total=time.perf_counter() - self._began)

    @contextmanager
    def _measured(self, key: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[key] = self._seconds.get(key, 0.0) + time.perf_counter() - began
