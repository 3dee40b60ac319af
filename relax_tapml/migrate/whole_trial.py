"""One run of a whole module on the device: a step without a boundary."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import dataclass, replace

import tvm

from relax_tapml.compare.comparison import compare_all, worst
from relax_tapml.compare.repeat import repeated
from relax_tapml.compare.verdict import FAULTS, Verdict, verdict_of
from relax_tapml.errors import DeviceFault
from relax_tapml.frontend.model import Functions
from relax_tapml.migrate.trial import Trial
from relax_tapml.partition.built_functions import weight_names
from relax_tapml.partition.hybrid import HybridModule
from relax_tapml.partition.split_functions import SplitFunctions
from relax_tapml.partition.whole_module import WholeModule, WholeProgram, build_whole
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.passes.operator_call import operator_call
from relax_tapml.results.step_result import Purpose, StepResult, StepSeconds
from relax_tapml.targets.session.attempts import retry_if_killed, was_killed
from relax_tapml.targets.session.traffic import Traffic


@dataclass(frozen=True, kw_only=True)
class WholeTrial:
    """Runs whole modules on the device and compares the model's outputs with the source's.

    Parameters
    ----------
    trial
        Device, samples, oracles and tolerances.
    purpose
        Why.
    makers
        The units that make objects, whose objects shall be on the device, with the functions of the
        model that concern them; the others run on the host. None to run all on the device.
    """

    trial: Trial
    purpose: Purpose
    makers: Collection[str] | None = None

    def step(self, module: tvm.IRModule) -> StepResult:
        """Run a module as a whole and compare the model's outputs with the source's.

        Raises
        ------
        LoweringError
            It does not compile.
        DeviceUnavailable
            No session could be opened.
        ObjectsMeet
            A call takes objects of both sides.
        """
        trial = self.trial
        sides = trial.sides
        began = time.perf_counter()
        built_before = sides.library.built_count
        program = build_whole(module, sides.target, sides.library)
        shift_s = time.perf_counter() - began
        step = StepResult(
            boundary=tuple(sorted(trial.groups)),
            purpose=self.purpose,
            verdict=Verdict.BUILD_ERROR,
            reason=program.failed,
            runs=0,
            seconds=StepSeconds(shift=shift_s, run=0.0),
            kernels_built=sides.library.built_count - built_before,
            regions=1,
        )
        return step if program.failed else self._run(step, program)

    def _run(self, step: StepResult, program: WholeProgram) -> StepResult:
        trial = self.trial
        _ = trial.device.session  # Opening it is no part of the step.
        attempts = repeated(lambda: self._attempt(program), trial.repeat)
        failed = [item for item in attempts if item.verdict is not Verdict.PASS]
        first = failed[0] if failed else attempts[0]
        verdict, reason = first.verdict, first.reason
        if 0 < len(failed) < len(attempts):
            verdict, reason = Verdict.FLAKY, f"in {len(failed)} of {len(attempts)} runs {reason}"
        moved = attempts[0].traffic
        return replace(
            step,
            verdict=verdict,
            reason=reason,
            error=first.error,
            runs=len(attempts),
            failures=len(failed),
            seconds=StepSeconds(
                shift=(step.seconds.shift or 0.0) + attempts[0].link_s,
                run=sum(item.run_s for item in attempts),
            ),
            bytes_moved=moved.total,
            bytes_to_device=moved.to_device,
        )

    def _is_pure(self) -> bool:
        """Whether nothing in the model itself may write to what it is given."""
        lowered = self.trial.sides.lowered
        calls = (operator_call(call, lowered) for _, call in annotated_calls(lowered))
        return not any(found is not None and found.may_write for found in calls)

    def _split(self, whole: WholeModule) -> Functions:
        """Return the functions that are called: those of the device, or of both sides."""
        if self.makers is None:
            return whole
        sides = self.trial.sides
        making = {
            site.function for site, _ in annotated_calls(sides.lowered) if site.unit in self.makers
        }
        return SplitFunctions(whole, HybridModule(sides.host, sides.partition(())), making)

    def _attempt(self, program: WholeProgram) -> _Attempt:
        """Run every sample; again where the process of the device was killed meanwhile."""
        return retry_if_killed(lambda: self._attempted(program), lambda item: item.is_killed)

    def _attempted(self, program: WholeProgram) -> _Attempt:
        """Run every sample; the first that differs ends it, and a failure ends the session."""
        trial = self.trial
        device = trial.device
        weights = weight_names(trial.sides.lowered)
        began = time.perf_counter()
        before = device.traffic
        linked: float | None = None
        verdict, reason, error = Verdict.PASS, "", 0.0
        is_killed = False
        try:
            is_pure = self._is_pure()
            whole = WholeModule(
                program, device.session, trial.model.params, weights, keeps_inputs=is_pure
            )
            functions = self._split(whole)
            linked = time.perf_counter()
            samples = list(enumerate(trial.model.samples))
            if trial.model.params:
                # What has been written over a weight shows in a run after that.
                samples.append(samples[0])
            for index, sample in samples:
                outputs = trial.model.run(functions, sample)
                comparisons = compare_all(trial.oracles[index], outputs, trial.tolerances[index])
                found = worst(comparisons)
                error = max(error, found.error)
                if found.verdict is not Verdict.PASS:
                    number = next(i for i, item in enumerate(comparisons) if item is found)
                    output = f", output {number}" if len(comparisons) > 1 else ""
                    reason = f"on {sample.name!r}{output}: {found.reason}"
                    if not math.isnan(found.allowed):
                        reason += f" (error {found.error:.2g}, tolerance {found.allowed:.2g})"
                    verdict, error = found.verdict, found.error
                    break
                changed = whole.overwritten() if is_pure else ""
                if changed:
                    verdict = Verdict.MISMATCH
                    reason = f"on {sample.name!r}: {changed}"
                    break
        except DeviceFault as fault:
            verdict, reason = verdict_of(fault), str(fault)
            is_killed = was_killed(fault)
        ended = time.perf_counter()
        attempt = _Attempt(
            verdict=verdict,
            reason=reason,
            error=None if verdict in FAULTS else error,
            link_s=(linked or ended) - began,
            run_s=ended - (linked or ended),
            traffic=device.traffic - before,
            is_killed=is_killed,
        )
        if verdict is not Verdict.PASS:
            device.close()
        return attempt


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    verdict: Verdict
    reason: str
    error: float | None
    link_s: float
    run_s: float
    traffic: Traffic
    is_killed: bool
