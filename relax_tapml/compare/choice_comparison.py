"""Compares a framework with a source that may make other choices among equal scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np

from relax_tapml.arrays import Array, is_same_value
from relax_tapml.compare.comparison import Comparison, compare, compare_all
from relax_tapml.compare.tolerances.choices import ChoiceTolerance
from relax_tapml.compare.tolerances.difference import absolute_difference
from relax_tapml.compare.tolerances.elements import ElementTolerance
from relax_tapml.compare.tolerances.rule import tolerance_for


def compare_with_choices(
    oracles: Sequence[Array], actuals: Sequence[Array], other_runs: Sequence[Sequence[Array]]
) -> list[Comparison]:
    """Compare outputs; each value with the nearest one of several runs with other choices.

    Parameters
    ----------
    oracles
        The framework's outputs.
    actuals
        The source's outputs, with its own choices.
    other_runs
        The source's outputs with other choices, run by run.

    Returns
    -------
    list of Comparison
        One for each output. A value that depends on a choice, and that no run has, is not judged:
        the framework may have made a choice that was not tried.
    """
    found = []
    for number, (oracle, actual) in enumerate(zip_longest(oracles, actuals)):
        others = [run[number] for run in other_runs if number < len(run)]
        is_plain = oracle is None or actual is None or not others
        kinds = {(a.shape, a.dtype) for a in (oracle, actual, *others) if a is not None}
        if is_plain or len(kinds) > 1:
            found += compare_all(
                [] if oracle is None else [oracle], [] if actual is None else [actual]
            )
            continue
        found.append(_compared(oracle, actual, np.array(others)))
    return found


def _compared(oracle: Array, actual: Array, others: Array) -> Comparison:
    rule = tolerance_for(oracle)
    choices = ChoiceTolerance(base=rule, alternatives=others, origin=rule.origin)
    nearest = choices.nearest(actual, oracle)
    allowed = rule.allowed(oracle)
    depends = np.any([absolute_difference(actual, other) > allowed for other in others], axis=0)
    is_met = (absolute_difference(nearest, oracle) <= allowed) | is_same_value(nearest, oracle)
    bound = np.where(depends & ~is_met, np.nan, allowed)
    origin = f"{rule.origin}; any choice among equal scores"
    compared = compare(oracle, nearest, ElementTolerance(bound=bound, origin=origin))
    return replace(compared, ties=int(np.count_nonzero(~is_same_value(nearest, actual))))
