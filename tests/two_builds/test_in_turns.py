"""Whether one build is slower, by rounds that are measured in turns."""

import random

import pytest

from relax_tapml.results.build_comparison import Pace
from relax_tapml.two_builds.in_turns import in_turns, pace_of, rounds_for, spread

UNITS = 30
COUNT = rounds_for(UNITS)


def rounds(ratio, noise=0.0, *, seed=0, count=COUNT):
    """Rounds of two builds on a machine that is as noisy, and that slows down by half."""
    random.seed(seed)
    return [
        (
            (1 + index / count) * random.lognormvariate(0, noise),
            (1 + index / count) * ratio * random.lognormvariate(0, noise),
        )
        for index in range(count)
    ]


def test_which_build_begins_changes():
    order = []
    found = in_turns(lambda: order.append("a") or 1.0, lambda: order.append("b") or 2.0, 3)
    assert found == [(1.0, 2.0)] * 3
    assert "".join(order) == "abbaab"


def test_a_change_is_beyond_the_threshold_and_the_spread():
    """Exchanging the builds exchanges the answer."""
    assert pace_of(rounds(1.2), UNITS, 0.1) is Pace.SLOWER
    assert pace_of([(b, a) for a, b in rounds(1.2)], UNITS, 0.1) is Pace.FASTER
    assert pace_of(rounds(1.09), UNITS, 0.1) is Pace.UNCHANGED
    noisy = rounds(1.2, noise=0.4)
    assert spread(noisy, UNITS)[0] < 1
    assert pace_of(noisy, UNITS, 0.1) is Pace.UNCHANGED


def test_what_a_call_of_the_vm_costs_does_not_count():
    short = [(a * 1e-6, b * 1e-6) for a, b in rounds(1.2)]
    assert pace_of(short, UNITS, 0.1) is Pace.UNCHANGED
    assert pace_of([(10 * a, 10 * b) for a, b in short], UNITS, 0.1) is Pace.SLOWER


def test_equal_builds_are_not_slower_however_noisy_the_machine_is():
    """Without any threshold; of 100 comparisons of 30 units, one may have a unit that looks so."""
    wrong = sum(
        pace_of(rounds(1.0, noise=0.3, seed=seed), UNITS, 1e-9) is not Pace.UNCHANGED
        for seed in range(100 * UNITS)
    )
    assert wrong <= 1


@pytest.mark.parametrize("units", [1, 30, 1000, 100_000])
def test_there_are_rounds_enough_to_show_a_change(units):
    assert pace_of(rounds(2.0, count=rounds_for(units)), units, 0.1) is Pace.SLOWER
    assert pace_of(rounds(2.0, count=4), units, 0.1) is Pace.UNCHANGED
