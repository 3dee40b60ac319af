"""Which calls are captured, as it is written on a command line."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relax_tapml.bringup.capture_plan import CapturePlan
from relax_tapml.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", CapturePlan()),
        ("4", CapturePlan(most_calls=4)),
        ("2GB", CapturePlan(most_bytes=2_000_000_000)),
        ("1.5 MiB", CapturePlan(most_bytes=3 << 19)),
        ("100kb/8", CapturePlan(most_bytes=100_000, every=8)),
        ("all/16", CapturePlan(every=16)),
        ("1/2", CapturePlan(most_calls=1, every=2)),
    ],
)
def test_it_is_a_number_or_a_size_and_a_period(text, expected):
    assert CapturePlan.parse(text) == expected


@example(None, 8033, 1)
@given(st.none() | st.integers(1, 1000), st.none() | st.integers(1, 10**13), st.integers(1, 1000))
def test_its_text_is_read_as_the_same(calls, size, every):
    plan = CapturePlan(most_calls=None if size else calls, most_bytes=size, every=every)
    read = CapturePlan.parse(plan.text)
    assert (read.most_calls, read.every) == (plan.most_calls, every)
    assert (read.most_bytes or 0) == pytest.approx(size or 0, rel=1e-9)


@pytest.mark.parametrize("text", ["", "some", "0", "0GB", "-1", "2 bytes", "4/0", "all/", "2GB/x"])
def test_anything_else_is_refused(text):
    with pytest.raises(UsageError, match=r"^--capture-calls .*: expected all, a number of calls"):
        CapturePlan.parse(text)
