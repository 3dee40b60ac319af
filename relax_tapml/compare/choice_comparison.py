"""A framework's outputs against those of a source that may choose otherwise among equal scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np

from relax_tapml.arrays import Array, is_same_value
from relax_tapml.compare.comparison import Comparison, compare, compare_all
from relax_tapml.compare.difference import absolute_difference
from relax_tapml.compare.tolerance import ChoiceTolerance, ElementTolerance, tolerance_for


def compare_with_choices(
    oracles: Sequence[Array], actuals: Sequence[Array], turned: Sequence[Sequence[Array]]
) -> list[Comparison]:
    """Compare outputs, each value with the nearest of what comes of several choices.

    Parameters
    ----------
    oracles
        The framework's outputs.
    actuals
        The source's, with its own choices.
    turned
        The source's with other choices, run by run.

    Returns
    -------
    list of Comparison
        One for each output. A value that depends on a choice, and is none of those that came of
        them, is not judged: the framework may have made a choice that was not tried.
    """
    found = []
    for number, (oracle, actual) in enumerate(zip_longest(oracles, actuals)):
        others = [run[number] for run in turned if number < len(run)]
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
