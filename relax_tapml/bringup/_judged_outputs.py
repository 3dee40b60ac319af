"""Which outputs of a model are judged, and which of them only in name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relax_tapml.arrays import Array
from relax_tapml.compare.power import Power, power_of
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.results.run_result import OutputPower
from relax_tapml.results.unit_result import PowerResult


@dataclass(frozen=True, kw_only=True)
class JudgedOutput:
    """What the tolerance of one output of one sample sees.

    Parameters
    ----------
    sample
        Its name.
    output
        Its position.
    power
        None where no value of it is judged.
    """

    sample: str
    output: int
    power: Power | None

    @property
    def is_sharp(self) -> bool:
        """Whether a step that is grossly wrong there is seen."""
        return self.power is not None and not self.power.is_blunt

    @property
    def result(self) -> OutputPower:
        """It as it stands in ``result.json``."""
        power = PowerResult.of(self.power)
        return OutputPower(
            sample=self.sample,
            output=self.output,
            share=power.share,
            terms=power.terms,
            sees=power.sees,
            blunt=power.blunt,
        )


def judged_outputs(
    samples: Sequence[str],
    oracles: Sequence[Sequence[Array]],
    tolerances: Sequence[Sequence[Tolerance]],
) -> list[JudgedOutput]:
    """Return what is seen of each output of each sample that has values.

    Parameters
    ----------
    samples
        Their names.
    oracles, tolerances
        For each sample, the source's outputs and how far from them a right target may be.
    """
    return [
        JudgedOutput(sample=sample, output=number, power=power_of(oracle, tolerance))
        for sample, outputs, allowed in zip(samples, oracles, tolerances, strict=True)
        for number, (oracle, tolerance) in enumerate(zip(outputs, allowed, strict=True))
        if oracle.size
    ]


def blunt_outputs_text(outputs: Sequence[JudgedOutput]) -> str:
    """Return why no step can be accepted, if no output of any sample is judged sharply."""
    if not outputs or any(output.is_sharp for output in outputs):
        return ""
    best = min(outputs, key=lambda item: float("inf") if item.power is None else item.power.least)
    seen = "none of its values is judged" if best.power is None else best.power.description
    others = {1: "", 2: "; the other sees no more"}.get(
        len(outputs), f"; the other {len(outputs) - 1} see no more"
    )
    return (
        f"no output of the model can tell right from wrong (of {best.sample!r}, output "
        f"{best.output}: {seen}{others}), so no step is accepted and nothing stays on the device: "
        "units are judged alone only"
    )
