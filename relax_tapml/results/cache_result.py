"""What a run found about a model whose KV cache, or other state, lives on the device."""

from __future__ import annotations

from dataclasses import dataclass

from relax_tapml.compare.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class CacheResult:
    """How a model did with its KV cache, or recurrent state, on the device, which calls kernels.

    Before that, boundaries move one by one while the cache stays on the host: what its kernels read
    and write crosses for each call.

    Parameters
    ----------
    unit
        What makes the cache; a culprit if the model is wrong only so.
    others
        What makes other caches or states, of which the same was found.
    verdict
        Of the model; ``skipped`` or ``inconclusive`` where it was not judged.
    reason
        Why, in one sentence; empty for a pass.
    """

    unit: str
    verdict: Verdict
    reason: str = ""
    others: tuple[str, ...] = ()

    @property
    def units(self) -> tuple[str, ...]:
        """All units that the verdict is about."""
        return (self.unit, *self.others)

    @property
    def what(self) -> str:
        """What is kept on the device, for people."""
        return kept_text(self.unit)


def kept_text(unit: str) -> str:
    """Return what a function of the runtime makes, for people."""
    return "KV cache" if "kv_cache" in unit else "state"
