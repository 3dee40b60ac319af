"""Which pass of a pipeline makes a module wrong, and with what it changes in which function."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import tvm

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import LoweringError
from relax_tapml.partition.graph_passes import mixed, suspects
from relax_tapml.partition.lower_for_target import rebound
from relax_tapml.results.step_result import StepResult

_MOST_FUNCTIONS = 8

Try = Callable[[tvm.IRModule], StepResult]


def wrong_passes(
    count: int, module: Callable[[int], tvm.IRModule], run: Try, failed: StepResult
) -> tuple[int, int]:
    """Bisect the passes of a pipeline, without those after which the module is unfinished.

    Parameters
    ----------
    count
        Of the passes; the module is wrong after all of them, and right after none.
    module
        Returns the module after some of them.
    run
        Runs it.
    failed
        The step after all of them.

    Returns
    -------
    tuple
        After how many passes the module is last right and first wrong, with none between them that
        can be run.
    """
    good, bad = 0, count
    between = list(range(1, count))
    while between:
        middle = between[len(between) // 2]
        is_right = _is_right(partial(module, middle), run, failed)
        if is_right is None:
            between.remove(middle)
        elif is_right:
            good, between = middle, [k for k in between if k > middle]
        else:
            bad, between = middle, [k for k in between if k < middle]
    return good, bad


def wrong_functions(
    before: tvm.IRModule, after: tvm.IRModule, run: Try, failed: StepResult
) -> tuple[str, ...]:
    """Find the functions whose change makes a module wrong.

    With one change after another taken over, the first that makes the module wrong is found by
    halving, and put back to look for the next.

    Parameters
    ----------
    before, after
        The last right module and the first wrong one.
    run
        Runs a module.
    failed
        How the wrong one does.

    Returns
    -------
    tuple
        Names of functions of both; empty if what they are made of cannot be run.
    """
    after = rebound(after, before)
    rest = suspects(before, after)
    found: list[str] = []

    def is_right(kept: list[str]) -> bool:
        # What cannot be run is no evidence.
        return _is_right(lambda: mixed(before, after, kept), run, failed) is not False

    if len(rest) == 1:
        return tuple(rest)
    while rest and len(found) < _MOST_FUNCTIONS and not is_right(rest):
        good, bad = 0, len(rest)
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if is_right(rest[:middle]) else (good, middle)
        found.append(rest.pop(bad - 1))
    return tuple(found)


def _is_right(module: Callable[[], tvm.IRModule], run: Try, failed: StepResult) -> bool | None:
    """Whether a module is right; None if it cannot be run, or fails in another way.

    Between two passes a module may be unfinished, which is no fault.
    """
    try:
        verdict = run(module()).verdict
    except LoweringError:
        return None
    if verdict is Verdict.PASS:
        return True
    return False if verdict is failed.verdict else None
