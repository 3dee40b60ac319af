"""Tensors most of whose places along an axis are copies of a few."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_tapml.suite.copies import Copies


@st.composite
def copies(draw):
    count = draw(st.integers(1, 400))
    places = draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=40))
    return Copies(axis=draw(st.integers(0, 2)), places=np.array(sorted(places)), count=count)


@given(copies(), st.integers(1, 2000), st.booleans())
def test_every_place_is_held_or_a_copy_of_one(item, together, is_alone):
    """Held places stay, and what is made of copies alone has the same copies.

    However many values are copied at once, by threads that share the work.
    """
    shape = [1, 3] if is_alone else [2, 3]
    shape.insert(item.axis, item.count)
    with mock.patch("relax_tapml.suite.copies._TOGETHER", together):
        _check_copies(item, shape)


def _check_copies(item, shape):
    array = np.random.default_rng(0).integers(0, 99, shape).astype(np.float16)
    whole = item.whole(item.held(array))
    assert (whole.shape, whole.dtype) == (array.shape, array.dtype)
    np.testing.assert_array_equal(item.held(whole), item.held(array))
    np.testing.assert_array_equal(whole, item.held(array).take(item.sources, item.axis))
    np.testing.assert_array_equal(item.whole(item.held(whole * 2 + 1)), whole * 2 + 1)


@given(copies())
def test_no_place_is_a_copy_of_what_its_neighbour_is(item):
    """The last column, read as the one before it, is the fault that kernels have most."""
    if len(item.places) < 3:
        return
    inside = item.sources[item.places[0] : item.places[-1] + 1]
    assert (np.diff(inside) != 0).all()


def test_places_at_any_distance_are_copies_of_others():
    """A kernel that reads all columns, or one of each tile, some way off is seen."""
    sources = Copies(axis=0, places=np.arange(0, 6400, 100), count=6400).sources
    for distance in (2, 3, 4, 16, 32, 64, 128, 1024):
        assert np.mean(sources[distance:] == sources[:-distance]) < 0.06


@pytest.mark.parametrize("places", [[], [0, 0], [2, 1], [-1, 1], [0, 4]])
def test_other_places_are_refused(places):
    with pytest.raises(ValueError, match="ascending numbers below 4"):
        Copies(axis=0, places=np.array(places, np.int64), count=4)
