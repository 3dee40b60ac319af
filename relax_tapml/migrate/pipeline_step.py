"""The module that a device's pipeline returned, run as a whole: one more step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import tvm
from tvm import tirx

from relax_tapml.compare.verdict import Verdict
from relax_tapml.migrate._pipeline_search import wrong_functions, wrong_passes
from relax_tapml.migrate.trial import Trial
from relax_tapml.migrate.whole_trial import WholeTrial
from relax_tapml.partition.device_side import reached
from relax_tapml.partition.graph_passes import GraphPasses, restored
from relax_tapml.partition.lower_for_target import dispatched
from relax_tapml.passes.operator_call import is_caller
from relax_tapml.results.pipeline_result import PipelineResult
from relax_tapml.results.step_result import Purpose, StepResult


@dataclass(frozen=True, kw_only=True)
class PipelineTrial:
    """Runs a model with what passes of the device's pipeline made of its module.

    Parameters
    ----------
    trial
        Device, samples, oracles and tolerances.
    passes
        Of the pipeline.
    wrong
        Units that are wrong themselves: name to the function that it is called by. Their kernels
        are put back to what they are without the pipeline.
    """

    trial: Trial
    passes: GraphPasses
    wrong: Mapping[str, str]

    def module(self, count: int) -> tvm.IRModule:
        """Return the module after ``count`` passes, without the kernels that are known as wrong."""
        module = self.passes.module(count)
        return restored(module, self.passes.plain, list(self.wrong.values()))[0]

    def incurable(self) -> list[str]:
        """Return the units that are wrong with the kernel that they have without the pipeline."""
        plain = self.passes.plain
        _, alike = restored(
            self.passes.module(len(self.passes.passes)), plain, list(self.wrong.values())
        )
        return [unit for unit, root in self.wrong.items() if root in alike]

    def step(self, module: tvm.IRModule) -> StepResult:
        """Run a module as a whole; see ``WholeTrial.step``."""
        return WholeTrial(trial=self.trial, purpose=Purpose.PIPELINE).step(module)


def judge_pipeline(
    trial: PipelineTrial, changed: tuple[str, ...]
) -> tuple[StepResult, PipelineResult]:
    """Run the module that a pipeline returned; where it is wrong, find the pass that made it so.

    Parameters
    ----------
    trial
        What runs.
    changed
        The Relax functions that the pipeline changed.

    Returns
    -------
    tuple
        The step, and the result for the pipeline. A pass is named only if the module is right
        without it, in the same kind of run.

    Raises
    ------
    DeviceUnavailable
        No session could be opened.
    """
    count = len(trial.passes.passes)
    whole = trial.module(count)
    step = trial.step(whole)
    finding = PipelineResult(
        verdict=step.verdict,
        reason=step.reason,
        changed=changed,
        kernels=_without_unit(dispatched(whole, trial.passes.target), trial.passes.plain),
        restored=tuple(trial.wrong),
    )
    if step.verdict is Verdict.PASS:
        return step, finding
    name = str(trial.passes.pipeline.info.name)
    incurable = trial.incurable()
    if incurable:
        reason = (
            f"what {name!r} changes was not judged: {', '.join(incurable)} is wrong without it too"
        )
        return step, replace(finding, verdict=Verdict.SKIPPED, reason=reason)
    if step.verdict is Verdict.FLAKY or not step.verdict.is_wrong:
        reason = f"the module that {name!r} returned fails now and then: {step.reason}"
        return step, replace(finding, verdict=Verdict.INCONCLUSIVE, reason=reason)
    control = trial.step(trial.module(0))
    if control.verdict is not Verdict.PASS:
        reason = (
            f"what {name!r} changes cannot be judged: as a whole the module fails on the device "
            f"also without it, {control.reason}"
        )
        return step, replace(finding, verdict=Verdict.INCONCLUSIVE, reason=reason)
    good, bad = wrong_passes(count, trial.module, trial.step, step)
    passes = tuple(trial.passes.names[good:bad])
    functions = wrong_functions(trial.module(good), trial.module(bad), trial.step, step)
    where = f" in {', '.join(functions)}" if functions else ""
    reason = f"with what {_named(passes)} changes{where} {_fails(step)}"
    return step, replace(finding, passes=passes, functions=functions, reason=reason)


def _named(passes: Sequence[str]) -> str:
    if len(passes) == 1:
        return f"pass {passes[0]!r}"
    return f"the passes {', '.join(map(repr, passes))}, which cannot be run apart,"


def _fails(step: StepResult) -> str:
    if step.verdict is Verdict.BUILD_ERROR:
        return f"the model cannot be built: {step.reason}"
    return f"the model fails {step.reason}"


def _without_unit(whole: tvm.IRModule, plain: tvm.IRModule) -> tuple[str, ...]:
    """Return the kernels that run in a module and that are no units of the model."""
    known = {gvar.name_hint for gvar in plain.functions}
    callers = [g.name_hint for g, function in whole.functions.items() if is_caller(function)]
    return tuple(
        gvar.name_hint
        for gvar, function in reached(whole, callers).items()
        if isinstance(function, tirx.PrimFunc) and gvar.name_hint not in known
    )
