import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from relax_tapml.compare._row_halves import RowHalves
from relax_tapml.compare.comparison import compare
from relax_tapml.compare.power import (
    EXACT,
    InjectedError,
    is_above_tolerance,
    power_of,
)
from relax_tapml.compare.tolerances.elements import ElementTolerance
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.index import IndexTolerance
from relax_tapml.compare.tolerances.rule import RuleTolerance, tolerance_for
from relax_tapml.compare.verdict import Verdict

GROSS = (InjectedError.ZEROS, InjectedError.NEGATED, InjectedError.TENTH)
DTYPES = ["float16", "float32", "float64", "bfloat16"]

values = st.floats(-100, 100, width=16)
arrays = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=9), elements=values)


def within(atol, rtol=0.0):
    return RuleTolerance(atol=atol, rtol=rtol, origin="test")


def normal(shape=(4, 64), dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.dtype(dtype))


def injected(error, oracle):
    """What a kernel with this error returns."""
    if error is InjectedError.ZEROS:
        return np.zeros_like(oracle)
    if error is InjectedError.NEGATED:
        return -oracle
    factor = 1.1 if error is InjectedError.TENTH else 1.01
    return (oracle.astype("float64") * factor).astype(oracle.dtype)


@given(arrays, st.floats(0, 50), st.floats(0, 2), st.sampled_from(DTYPES))
def test_what_is_seen_is_what_would_be_a_mismatch(array, atol, rtol, dtype):
    """The power of a tolerance is what comparing a wrong result with it finds."""
    oracle = array.astype(np.dtype(dtype))
    tolerance = within(atol, rtol)
    power = power_of(oracle, tolerance)
    if power in (EXACT, None) or not np.abs(oracle).max() > 1e-3:
        return
    for error in InjectedError:
        if error is InjectedError.HALF_ROW:
            continue
        wrong = compare(oracle, injected(error, oracle), tolerance)
        is_near = math.isclose(wrong.ratio, 1.0, rel_tol=0.3)  # the result is rounded
        if not is_near:
            assert (error in power.sees) == (wrong.verdict is Verdict.MISMATCH), error


@given(arrays, st.floats(0, 50))
def test_zeros_in_half_of_a_row_are_seen_as_they_would_be_compared(oracle, atol):
    """Each half of each row that has values; a row is the last axis, if it is longer than 1."""
    power = power_of(oracle, within(atol))
    if power is EXACT or not np.abs(oracle).max() > 0:
        return
    last = oracle.shape[-1] if oracle.shape[-1] > 1 else oracle.size
    rows = oracle.reshape(-1, last)
    first = (last + 1) // 2
    are_seen = True
    for row in range(len(rows)):
        for half in (slice(0, first), slice(first, last)):
            if rows[row, half].any():
                wrong = rows.copy()
                wrong[row, half] = 0
                verdict = compare(oracle, wrong.reshape(oracle.shape), within(atol)).verdict
                are_seen &= verdict is Verdict.MISMATCH
    assert (InjectedError.HALF_ROW in power.sees) == are_seen


@given(st.integers(1, 7), st.integers(1, 9), st.data())
def test_halves_of_rows_do_not_depend_on_the_pieces_they_come_in(rows, length, data):
    """Blocks end anywhere in a row."""
    scores = data.draw(hnp.arrays(np.uint8, rows * length, elements=st.integers(0, 2)))
    whole, pieces = RowHalves((rows, length)), RowHalves((rows, length))
    whole.add(0, scores)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, rows * length - 1)))))
    for start, stop in zip([0, *cuts], [*cuts, rows * length], strict=True):
        if start < stop and (scores[start:stop] == 2).all():
            pieces.add_seen(start, stop - start)
        elif start < stop:
            pieces.add(start, scores[start:stop])
    assert pieces.are_seen == whole.are_seen


@given(arrays)
def test_a_tolerance_of_nothing_sees_everything(oracle):
    """Any deviation is a mismatch then."""
    assert power_of(oracle, within(0.0)) == EXACT
    assert power_of(oracle, EqualTolerance(origin="test")) == EXACT


@given(arrays, st.floats(1e-3, 50), st.floats(1, 10))
def test_a_larger_tolerance_never_sees_more(oracle, atol, factor):
    """Neither errors nor terms, and it is blunt if the smaller one is."""
    smaller, larger = (power_of(oracle, within(a)) for a in (atol, atol * factor))
    assert set(larger.sees) <= set(smaller.sees)
    assert larger.is_blunt >= smaller.is_blunt
    assert larger.least >= smaller.least


@pytest.mark.parametrize(
    ("atol", "sees", "is_blunt"),
    [
        (0.001, list(InjectedError), False),
        (0.1, [*GROSS, InjectedError.HALF_ROW], False),
        (1.0, [InjectedError.ZEROS, InjectedError.NEGATED, InjectedError.HALF_ROW], True),
        (4.0, [InjectedError.NEGATED], True),
        (10.0, [], True),
    ],
)
def test_the_share_of_the_output_decides_what_is_seen(atol, sees, is_blunt):
    """Of a normal output: its RMS is about 1, its largest value about 3."""
    power = power_of(normal(), within(atol))
    assert power.share == pytest.approx(atol, rel=0.1)
    assert (list(power.sees), power.is_blunt) == (sees, is_blunt)
    assert bool(power.description) == is_blunt


def test_one_dropped_term_is_seen_up_to_a_length():
    """One of n equal terms is 1/n of the result; longer reductions are reported, not blunt."""
    power = power_of(np.full((2, 8), 4.0), within(0.01))
    assert power.terms == 399
    assert not power.is_blunt
    assert EXACT.terms is None


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "float32", "float16"])
def test_zeros_that_must_be_met_are_no_blunt_output(dtype):
    """Masks and paddings: any other value is seen, or would be flushed to zero."""
    oracle = np.zeros((3, 4), dtype)
    assert power_of(oracle, tolerance_for(oracle)) == EXACT
    flushed = within(2.0**-126)
    assert dtype != "float32" or power_of(oracle, flushed) == EXACT


def test_zeros_that_need_not_be_met_are():
    """The result of ``x - x`` is only certain to be small: zeros would pass."""
    power = power_of(np.zeros((3, 4), "float32"), within(0.1))
    assert power.is_blunt
    assert power.share == math.inf


def test_indices_and_whole_numbers_are_sharp_as_such():
    """Also where ties are allowed, and where all of them are 0."""
    table = normal((3, 8))
    tolerance = IndexTolerance(values=table, axis=-1, origin="test")
    assert power_of(table.argmax(axis=-1), tolerance) == EXACT
    # A rounded whole number may be its neighbour; 3 is not 0, and nothing is scaled by 1.1.
    bound = np.ones(4, "float32")
    power = power_of(np.array([3, 2, -3, 1], "int32"), ElementTolerance(bound=bound, origin="t"))
    assert not power.is_blunt
    assert InjectedError.TENTH not in power.sees


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn])
def test_what_a_dtype_cannot_hold_is_not_asked_of_it(dtype):
    """Scaled by 1.1, a float8 is itself or its neighbour, which is right."""
    oracle = normal(dtype=dtype)
    power = power_of(oracle, tolerance_for(oracle))
    assert not power.is_blunt
    assert InjectedError.TENTH not in power.sees


def test_mask_values_do_not_hide_that_the_others_are_not_judged():
    """Of a masked score, zeros would be seen at the mask only."""
    scores = normal()
    masked = np.where(np.arange(64) < 40, scores, np.float32(-1e9))
    assert power_of(masked, within(10.0)).is_blunt
    assert not power_of(masked, within(0.01)).is_blunt
    # A mask alone, and numbers that are just large.
    assert not power_of(np.where(scores > 0, 0, np.float32(-1e9)), within(1.0)).is_blunt
    assert not power_of(scores * np.float32(1e6), within(100.0)).is_blunt


def test_values_that_are_not_judged_do_not_count():
    """They are neither sharp nor blunt; where none is judged there is no power at all."""
    oracle = normal((2, 8))
    bound = np.full((2, 8), 10.0, "float32")
    bound[0, 0] = 1e-3
    assert not power_of(oracle, ElementTolerance(bound=bound, origin="test")).is_blunt
    bound[0, 0] = np.nan
    assert power_of(oracle, ElementTolerance(bound=bound, origin="test")).is_blunt
    nothing = ElementTolerance(bound=np.full((2, 8), np.nan, "float32"), origin="test")
    assert power_of(oracle, nothing) is None
    assert not compare(oracle, oracle, nothing).is_sharp
    assert power_of(np.ones((0, 4)), within(1.0)) is None


def test_infinities_are_compared_and_nan_alone_detects_nothing():
    """A mask of infinities is exact; a NaN equals any other NaN, for any cause."""
    mask = np.array([0, -np.inf, 0, -np.inf], "float32")
    assert power_of(mask, tolerance_for(mask)) == EXACT
    power = power_of(np.full(4, np.nan, "float32"), within(0.0))
    assert power.is_blunt
    assert power.description == "every judged value is NaN"
    oracle = normal()
    oracle[0, 0] = np.nan
    assert not power_of(oracle, within(0.01)).is_blunt


def test_power_of_many_blocks_is_that_of_the_whole():
    """Arrays are judged in parts; the one value that sees something may be in any."""
    oracle = np.full((3, 70_000), 0.25, "float32")
    assert power_of(oracle, within(0.5)).is_blunt
    oracle[2, -1] = 100
    power = power_of(oracle, within(0.5))
    assert not power.is_blunt
    assert InjectedError.HALF_ROW not in power.sees


def test_a_comparison_has_the_power_of_its_tolerance_and_a_mismatch_none():
    """The power of a mismatch is not computed."""
    oracle = normal()
    right = compare(oracle, oracle + np.float32(1e-4), within(1e-3))
    assert right.power == power_of(oracle, within(1e-3))
    assert right.is_sharp
    blunt = compare(oracle, oracle, within(10.0))
    assert blunt.verdict is Verdict.PASS
    assert not blunt.is_sharp
    assert compare(oracle, -oracle, within(1e-3)).power is None
    assert compare(np.ones(0), np.ones(0)).is_empty


def test_a_negative_cosine_never_passes():
    """Whatever is allowed: where most of the oracle is more than its error, it is a mismatch."""
    oracle = np.concatenate([np.full(60, 1.0), np.full(40, 1.1)])
    bound = np.where(oracle > 1, 100.0, 0.5)
    actual = np.where(oracle > 1, -50.0, oracle)
    comparison = compare(oracle, actual, ElementTolerance(bound=bound, origin="test"))
    assert is_above_tolerance(oracle, comparison.tolerance)
    assert comparison.verdict is Verdict.MISMATCH
    assert "(cosine -0." in comparison.reason


def test_what_rounding_leaves_may_point_anywhere_but_is_no_ground_for_a_pass():
    """The rounding errors of ``x - x`` have any sign on a right device: blunt, and no mismatch."""
    oracle = normal() * np.float32(1e-7)
    opposite = compare(oracle, -oracle, within(1e-6))
    assert (opposite.verdict, opposite.is_sharp) == (Verdict.PASS, False)
    # One row of large noise beside a row that is known well.
    oracle = np.stack([normal((64,)), normal((64,), seed=1) * 30])
    bound = np.stack([np.full(64, 1e-3), np.full(64, 1e3)]).astype("float32")
    actual = np.stack([oracle[0], -oracle[1]])
    mixed = compare(oracle, actual, ElementTolerance(bound=bound, origin="test"))
    assert (mixed.verdict, mixed.is_sharp) == (Verdict.PASS, False)
