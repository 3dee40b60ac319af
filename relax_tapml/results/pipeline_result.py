"""What a run found about a device's pipeline that changes Relax functions."""

from __future__ import annotations

from dataclasses import dataclass

from relax_tapml.compare.verdict import Verdict
from relax_tapml.results.step_result import StepResult


@dataclass(frozen=True, kw_only=True)
class PipelineResult:
    """How the module did as a whole that a device's pipeline returned.

    Parameters
    ----------
    verdict
        Of the whole module; ``inconclusive`` or ``skipped`` where it was not judged.
    reason
        Why, in one sentence; empty for a pass.
    passes
        The pass after which the module is wrong; several where what lies between them cannot be
        run. Empty unless one is found.
    functions
        The Relax functions whose change is wrong.
    changed
        The Relax functions that the pipeline changed.
    kernels
        Kernels of the changed module that are no units: they have been run with it only.
    restored
        Units that are wrong themselves; the module was run with their kernels as they are without
        the pipeline.
    """

    verdict: Verdict
    reason: str = ""
    passes: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()

    @property
    def culprits(self) -> list[str]:
        """Its entries of ``culprits``: ``pass:NAME``."""
        return [f"pass:{name}" for name in dict.fromkeys(self.passes)]


@dataclass(frozen=True, kw_only=True)
class PipelineRun:
    """The module that a device's pipeline returned, run as a whole: the step, and what follows."""

    step: StepResult
    result: PipelineResult
