"""Large arrays are compared part by part, with the findings of the whole."""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relax_tapml.compare.comparison import compare
from relax_tapml.compare.metrics import block, registry
from relax_tapml.compare.metrics.metric import Metric
from relax_tapml.compare.power import InjectedError
from relax_tapml.compare.tolerances.elements import ElementTolerance
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.rule import tolerance_for

SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -1e9, 3e38)


def drawn(seed, shape, dtype, faults):
    rng = np.random.default_rng(seed)
    oracle = rng.standard_normal(shape).astype(dtype)
    flat = oracle.reshape(-1)
    flat[rng.integers(0, flat.size, faults)] = np.asarray(rng.choice(SPECIAL, faults)).astype(dtype)
    actual = oracle.copy()
    if seed % 3:
        noise = 1e-3 * rng.standard_normal(shape)
        with np.errstate(all="ignore"):
            actual = (oracle.astype("float64") + noise).astype(dtype)
    wrong = actual.reshape(-1)
    some = rng.integers(0, flat.size, seed % 5)
    wrong[some] = np.asarray(rng.choice((*SPECIAL, 7.0), some.size)).astype(dtype)
    bound = np.abs(rng.standard_normal(shape)).astype("float32") * 0.05
    bound.reshape(-1)[rng.integers(0, flat.size, 3)] = np.nan
    tolerances = (
        tolerance_for(oracle),
        ElementTolerance(bound=bound, origin="bounds"),
        EqualTolerance(origin="equal"),
    )
    return oracle, actual, tolerances[seed % 7 % 3]


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(40, 7), (3, 5, 16), (25, 1, 2), (64,), (9, 30)]),
    dtype=st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16, np.float64]),
    faults=st.integers(0, 4),
)
@pytest.mark.filterwarnings("ignore:.*in cast")
def test_parts_together_find_what_the_whole_does(seed, shape, dtype, faults):
    oracle, actual, tolerance = drawn(seed, shape, dtype, faults)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block, "BLOCK_VALUES", 16)
        whole = compare(oracle, actual, tolerance)
        patch.setattr(block, "_PART_VALUES", 40)
        is_exact_or_flat = oracle.ndim == 1 or not tolerance.is_elementwise
        assert (len(block.parts_of(oracle, tolerance)) > 1) != is_exact_or_flat
        parts = compare(oracle, actual, tolerance)
    assert parts.metrics.keys() == whole.metrics.keys()
    for name, value in whole.metrics.items():
        assert parts.metrics[name] == (
            pytest.approx(value, rel=1e-9, nan_ok=True) if isinstance(value, float) else value
        ), name
    assert (parts.power is None) == (whole.power is None)
    if whole.power is not None:
        assert parts.power.sees == whole.power.sees
        assert parts.power.share == pytest.approx(whole.power.share, rel=1e-9, nan_ok=True)
    same = dataclasses.replace(parts, metrics=whole.metrics, power=whole.power)
    assert repr(same) == repr(whole)


class Firsts(Metric):
    """The flat indices that it saw, which it cannot join."""

    name = "firsts"

    def __init__(self):
        self.seen = []

    def add(self, block):
        self.seen.append(block.start)

    @property
    def value(self):
        return len(self.seen) if self.seen == sorted(self.seen) else -1


def test_a_metric_that_cannot_join_gets_all_blocks_in_order(monkeypatch):
    monkeypatch.setattr(registry, "METRICS", (Firsts, *registry.METRICS))
    monkeypatch.setattr(block, "BLOCK_VALUES", 10)
    monkeypatch.setattr(block, "_PART_VALUES", 40)
    values = np.ones((20, 10), "float32")
    assert compare(values, values).metrics["firsts"] == 20


@pytest.mark.parametrize("row", [0, 3, 4, 19])
def test_half_of_a_row_that_is_not_seen_counts_in_any_part(monkeypatch, row):
    """Its last half, where a part may end."""
    monkeypatch.setattr(block, "_PART_VALUES", 40)
    oracle = np.ones((20, 10), "float32")
    bound = np.full(oracle.shape, 1e-3, "float32")
    assert InjectedError.HALF_ROW in compare(oracle, oracle, bounds(bound)).power.sees
    bound[row, 5:] = 2.0
    assert InjectedError.HALF_ROW not in compare(oracle, oracle, bounds(bound)).power.sees


@pytest.mark.parametrize("row", [0, 19])
def test_mask_values_of_any_part_are_none_of_the_scale(monkeypatch, row):
    oracle = np.ones((20, 10), "float32")
    oracle[row] = -1e9
    whole = compare(oracle, oracle, bounds(np.full(oracle.shape, 0.5, "float32")))
    monkeypatch.setattr(block, "_PART_VALUES", 40)
    parts = compare(oracle, oracle, bounds(np.full(oracle.shape, 0.5, "float32")))
    assert parts.power == whole.power
    # Where masks are all that a part has, too.
    bound = np.full(oracle.shape, 0.5, "float32")
    bound[:row] = bound[row + 1 :] = np.nan
    assert compare(oracle, oracle, bounds(bound)).power.share == pytest.approx(5e-10)


def bounds(values):
    return ElementTolerance(bound=values, origin="bounds")
