"""Tensors that are made instead of held."""

from __future__ import annotations

import hashlib

import ml_dtypes
import numpy as np
import pytest

from relax_tapml.arrays import hashed
from relax_tapml.suite.recipe import Recipe

PINNED = "e92659a239b2e26bcc6cee1c14d553a8ed0fb5e5df6ede81077e16f0a4e93bb7"


def test_a_recipe_makes_the_same_everywhere():
    """Its hash is no library's."""
    made = Recipe(seed=3, magnitude=2, parts=4, part=1, exponent=-2).array("float16", (3, 1000))
    assert hashlib.sha256(made.tobytes()).hexdigest() == PINNED


def test_values_are_small_whole_numbers_times_a_power_of_two():
    """Never zero, of both signs, about alike in number."""
    made = Recipe(seed=0, magnitude=3, exponent=-4).array("float32", (100_000,)) * 16
    values, counts = np.unique(made, return_counts=True)
    np.testing.assert_array_equal(values, [-3, -2, -1, 1, 2, 3])
    assert counts.min() > 0.95 * counts.max()
    assert (Recipe(seed=0, magnitude=3, is_signed=False).array("float32", (1000,)) > 0).all()


def test_parts_share_the_places():
    """Each is other than zero in one of them, and the same there as in the whole."""
    parts = [
        Recipe(seed=5, magnitude=2, parts=4, part=n).array("float32", (64, 64)) for n in range(4)
    ]
    whole = Recipe(seed=5, magnitude=2).array("float32", (64, 64))
    np.testing.assert_array_equal(sum(parts), whole)
    np.testing.assert_array_equal(sum(part != 0 for part in parts), 1)
    for part in parts:
        assert 0.2 < (part != 0).mean() < 0.3


def test_tensors_differ_by_seed_and_agree_in_parts_of_a_million():
    """The hash of a place is that of its number."""
    one, other = (Recipe(seed=n, magnitude=8).array("float32", (1000,)) for n in (1, 2))
    assert (one != other).mean() > 0.8
    long = Recipe(seed=1, magnitude=8).array("float32", ((1 << 20) + 1000,))
    np.testing.assert_array_equal(long[:1000], one)
    assert len(np.unique(long[-1000:])) == 16


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("magnitude", [1, 3, 5000, 1 << 20])
@pytest.mark.parametrize(("parts", "is_signed"), [(1, True), (3, False)])
def test_each_value_is_that_of_its_hash(dtype, magnitude, parts, is_signed):
    """However it is computed."""
    recipe = Recipe(
        seed=4, magnitude=magnitude, parts=parts, part=parts - 1, exponent=-3, is_signed=is_signed
    )
    made = recipe.array(dtype, (500,))
    seed = int(hashed(np.array([4], np.uint64))[0])
    for place, value in enumerate(made):
        number = int(hashed(np.array([(place + seed) % 2**64], np.uint64))[0])
        whole = 1 + (number >> 40) % magnitude
        if is_signed and not number & 1:
            whole = -whole
        if (number >> 8) % parts != parts - 1:
            whole = 0
        assert value == np.float64(whole / 8).astype(made.dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float64"])
def test_dtypes(dtype):
    """Of any float that holds the values."""
    made = Recipe(seed=1, magnitude=2).array(dtype, (2, 0, 3))
    assert made.dtype == np.dtype(getattr(ml_dtypes, dtype, dtype))
    assert made.shape == (2, 0, 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"magnitude": 0},
        {"magnitude": 1, "parts": 2, "part": 2},
        {"magnitude": 1, "seed": -1},
        {"magnitude": 1, "exponent": 10**9},
        {"magnitude": 1.5},
        {"magnitude": True},
    ],
)
def test_recipes_of_strangers_are_checked(fields):
    """The message names the number."""
    with pytest.raises(ValueError, match=r"of a generated tensor is .*, expected a whole number"):
        Recipe(**{"seed": 0, **fields})


@pytest.mark.parametrize(
    ("dtype", "shape"), [("int32", (2,)), ("float32", (1 << 40,)), ("float32", (-1, -1)), ("x", ())]
)
def test_a_tensor_must_be_one(dtype, shape):
    """Before memory is taken for it."""
    with pytest.raises(ValueError, match=r"cannot be generated|is not a dtype"):
        Recipe(seed=0, magnitude=1).array(dtype, shape)
