"""What a run says about a device's pipeline that changes Relax functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from relax_tapml.compare.verdict import Verdict
from relax_tapml.results.run_result import INCONCLUSIVE

FAILED = (Verdict.CRASH, Verdict.TIMEOUT, Verdict.MISMATCH, Verdict.BUILD_ERROR)
"""Verdicts of the changed module that name a pass, the gravest first."""


@dataclass(frozen=True, kw_only=True)
class PipelineFinding:
    """How the module did as a whole that a device's pipeline returned.

    Parameters
    ----------
    verdict
        Of the whole module; ``inconclusive`` or ``skipped`` where nothing can be said.
    reason
        Why, in one sentence; empty for a pass.
    passes
        The pass after which the module is wrong; several where what lies between them cannot be
        run. Empty unless one is found.
    functions
        Those of its changes that are wrong, each the name of a function that it changed.
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
        """What is named in ``culprits``: ``pass:NAME``."""
        return [f"pass:{name}" for name in dict.fromkeys(self.passes)]

    def document(self) -> dict[str, Any]:
        """Return the finding as it stands in ``result.json``."""
        fields = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {**fields, "verdict": str(self.verdict)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> PipelineFinding:
        """Read back what ``document`` returned."""
        names = ("passes", "functions", "changed", "kernels", "restored")
        lists = {name: tuple(document[name]) for name in names if name in document}
        return cls(verdict=Verdict(document["verdict"]), reason=document["reason"], **lists)


def joined_verdict(
    verdict: str, culprits: Sequence[str], reason: str, finding: PipelineFinding | None
) -> tuple[str, list[str], str]:
    """Return verdict, culprits and reason of a run, with what was found about its pipeline.

    Parameters
    ----------
    verdict, culprits, reason
        What the units say.
    finding
        None where the pipeline changed no Relax function.
    """
    if finding is None:
        return verdict, list(culprits), reason
    found = finding.culprits
    if found:
        if not culprits:
            return str(finding.verdict), found, ""
        return verdict, [*culprits, *found], reason
    if culprits:
        return verdict, list(culprits), reason
    if finding.verdict is not Verdict.PASS:
        return INCONCLUSIVE, [], finding.reason
    # Kernels may all be new, so that no unit was judged; the model was, as a whole.
    units_open = verdict == INCONCLUSIVE and reason != NOTHING_COMPARED
    return (verdict, [], reason) if units_open else (str(Verdict.PASS), [], "")


NOTHING_COMPARED = "no unit was compared on the target"
"""What ``inconclusive_reason`` says of a run whose units were all skipped."""
