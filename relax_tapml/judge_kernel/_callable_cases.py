"""The cases of a unit, run by a Python callable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from relax_tapml.arrays import Array
from relax_tapml.compare.repeat import ROUNDS, is_failure
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceFault
from relax_tapml.judge_kernel._call_layout import Arguments
from relax_tapml.judge_kernel.callable_process import CallableProcess, CalledOnce
from relax_tapml.replays.unit.case_replay import CaseReplay, aggregate_rounds, faulted, judged
from relax_tapml.replays.unit.unwritten import both, is_certain, unwritten_text, without
from relax_tapml.suite.manifest import SuiteCase
from relax_tapml.suite.open_suite import Suite
from relax_tapml.targets.session.poison import Poison

OnOutputs = Callable[[SuiteCase, Sequence[Array]], None]


def run_cases(
    suite: Suite, process: CallableProcess, repeat: int, on_outputs: OnOutputs
) -> list[CaseReplay]:
    """Run all cases of a suite's only unit, round after round.

    Between two calls of one case are those of all others, so what is kept from a call is wrong in
    the next one. A case that has failed now and then is run more often.

    Parameters
    ----------
    suite
        Its cases are run in their order.
    process
        Calls the function; it is lost after a crash or a timeout, and the rest is skipped.
    repeat
        How often each case is run.
    on_outputs
        Called with each case, and with what it returned if it wrote all of that and nothing else.
    """
    [(unit, entry)] = suite.manifest.units.items()
    rounds: dict[str, list[CaseReplay]] = {case.name: [] for case in entry.cases}
    fault: CaseReplay | None = None
    number = 0
    while fault is None and number < (ROUNDS if _is_unsteady(rounds) else repeat):
        number += 1
        for case in entry.cases:
            try:
                ended = _run(suite, process, unit, case, on_outputs)
            except DeviceFault as error:
                fault = ended = faulted(unit, case, error)
            rounds[case.name].append(ended)
            if fault is not None:
                break
    return [
        aggregate_rounds(rounds[case.name])
        if rounds[case.name]
        else CaseReplay(unit=unit, case=case, verdict=Verdict.SKIPPED, reason="not run", runs=0)
        for case in entry.cases
    ]


def _is_unsteady(rounds: dict[str, list[CaseReplay]]) -> bool:
    return any(len({is_failure(one.verdict) for one in some}) == 2 for some in rounds.values())


def _run(
    suite: Suite, process: CallableProcess, unit: str, case: SuiteCase, on_outputs: OnOutputs
) -> CaseReplay:
    like = [suite.tensor(output.tensor) for output in case.outputs]
    inputs = [suite.tensor(item.tensor) for item in case.inputs]
    arguments = Arguments.of(suite.target_module(unit), case.function, len(like))
    poison = Poison.draw()
    called = process.call(arguments, inputs, like, poison)
    masks = called.untouched
    if any(m is not None and not is_certain(a) for m, a in zip(masks, like, strict=True)):
        again: CalledOnce = process.call(arguments, inputs, like, poison.inverted)
        masks = tuple(
            mask if mask is None or is_certain(array) else both(mask, other)
            for mask, other, array in zip(masks, again.untouched, like, strict=True)
        )
    unwritten = [
        without(mask, suite.tensor(output.unwritten) if output.unwritten else None)
        for mask, output in zip(masks, case.outputs, strict=True)
    ]
    texts = [
        unwritten_text(number, mask, poison)
        for number, mask in enumerate(unwritten)
        if mask is not None
    ]
    if not (texts or called.violations):
        on_outputs(case, called.outputs)
    return judged(suite, unit, case, called.outputs, [*texts, *called.violations])
