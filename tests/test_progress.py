"""The time that a stage has left."""

import pytest

from relax_tapml.progress import Pace


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def test_what_was_expected_counts_until_parts_are_done(clock):
    """And no longer than that: a stage that takes longer has no known end."""
    pace = Pace(100.0, clock)
    assert pace.left_s == 100
    clock.seconds = 30
    assert pace.left_s == 70
    clock.seconds = 101
    assert pace.left_s is None
    assert Pace(None, clock).left_s is None


def test_parts_that_are_done_say_how_fast_it_is(clock):
    """Three of twelve took 30 seconds, so nine take 90."""
    pace = Pace(1000.0, clock)
    pace.update(0, 12)
    clock.seconds = 30
    pace.update(3, 12)
    assert pace.left_s == 90
    assert pace.done_share == 0.25


def test_another_total_begins_another_part(clock):
    """What a resumed stage has done already says nothing about how fast it is."""
    pace = Pace(None, clock)
    pace.update(4, 4)
    clock.seconds = 50
    pace.update(50, 100)
    assert pace.left_s is None
    clock.seconds = 60
    pace.update(60, 100)
    assert pace.left_s == 40
