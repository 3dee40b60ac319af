"""What an origin says of a sample."""

from __future__ import annotations

from relax_tapml.derive._sampled import Sampled, sampled


def test_blocks_are_told_by_their_worst():
    """The largest factor, the smallest sample, and all elements together."""
    parts = [sampled((1, 64, 64), (1, 64, 900), 4.0), sampled((1, 64, 16), (1, 64, 100), 9.5)]
    joined = Sampled.joined(parts)
    assert (joined.count, joined.total, joined.factor) == (64 * 80, 64 * 1000, 9.5)
    assert "5120 of 64000 elements (64 rows x 16 columns in each of 2 blocks)" in joined.text
    assert "up to 9.5 times" in joined.text
    assert "31.2% of the columns" in joined.text
    assert "rows do" not in joined.text


def test_a_sample_of_everything_is_not_told():
    assert not sampled((2, 3, 4), (2, 3, 4), 1.5).text
