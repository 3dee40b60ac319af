"""Show and measure the stages of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from relax_tapml.progress import Reporter, Stage
from relax_tapml.results.run_result import StageSeconds


class StageClock:
    """The stages of one run, one after another; see ``Reporter``."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._began = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, title: str, key: str = "") -> Iterator[Stage]:
        """Run a stage; its seconds count for a field of ``StageSeconds``, by default its title."""
        key = key or title
        began = time.perf_counter()
        try:
            with self._reporter.stage(title) as stage:
                yield stage
        finally:
            spent = time.perf_counter() - began
            self._seconds[key] = self._seconds.get(key, 0.0) + spent

    @property
    def seconds(self) -> StageSeconds:
        """What each stage has taken so far, and all of them."""
        return StageSeconds(**self._seconds, total=time.perf_counter() - self._began)
