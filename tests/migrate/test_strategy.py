"""Searches as pure state machines: whatever the device does, what they say of it is true."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_tapml.migrate.strategy import (
    MOST_TOGETHER,
    Finding,
    Outcome,
    Purpose,
    Strategy,
    StrategyName,
)

PARTS = [f"u{i}" for i in range(12)]
GOOD, BAD = Outcome(is_good=True), Outcome(is_good=False)
SEARCHES = [StrategyName.LINEAR, StrategyName.BISECT]


def fails(*sets):
    """A device on which the model is wrong when all parts of one of the sets are on it."""
    wrong = [frozenset(parts) for parts in sets]
    return lambda boundary: Outcome(is_good=not any(parts <= boundary for parts in wrong))


def drive(name, groups, device):
    """Run a search to its end; return it and what it proposed."""
    strategy = Strategy(name, groups)
    proposals = []
    while (proposal := strategy.propose()) is not None:
        assert strategy.remaining > 0
        proposals.append(proposal)
        strategy.settle(device(proposal.boundary))
    return strategy, proposals


def singles(parts):
    return [(part,) for part in parts]


failing_sets = st.lists(st.sets(st.sampled_from(PARTS), min_size=1, max_size=4), max_size=4)
groupings = st.lists(st.integers(1, 4), min_size=len(PARTS), max_size=len(PARTS)).map(
    lambda sizes: [
        PARTS[sum(sizes[:i]) : sum(sizes[: i + 1])]
        for i in range(len(sizes))
        if PARTS[sum(sizes[:i]) : sum(sizes[: i + 1])]
    ]
)


@pytest.mark.parametrize("name", SEARCHES)
@given(wrong=failing_sets, groups=groupings)
def test_every_finding_is_a_smallest_failing_set(name, wrong, groups):
    """It fails, with any part less it does not; what is left on the device is right, and most."""
    device = fails(*wrong)
    strategy, _ = drive(name, groups, device)
    for finding in strategy.findings:
        parts = frozenset((finding.part, *finding.together))
        assert finding.is_complete
        assert not device(parts).is_good
        assert all(device(parts - {part}).is_good for part in parts)
    assert device(strategy.accepted).is_good
    sent_back = {finding.part for finding in strategy.findings}
    assert strategy.accepted | sent_back == set(PARTS)
    for part in sent_back:
        assert not device(strategy.accepted | {part}).is_good


@pytest.mark.parametrize("name", SEARCHES)
@given(wrong=failing_sets, groups=groupings, data=st.data())
def test_fed_with_the_outcomes_of_an_earlier_run_it_continues(name, wrong, groups, data):
    """A strategy has no other state than what it was told."""
    device = fails(*wrong)
    whole, proposals = drive(name, groups, device)
    stopped = data.draw(st.integers(0, len(proposals)))
    resumed = Strategy(name, groups)
    for proposal in proposals[:stopped]:
        resumed.settle(device(proposal.boundary))
    for proposal in proposals[stopped:]:
        assert resumed.propose() == proposal
        resumed.settle(device(proposal.boundary))
    assert resumed.propose() is None
    assert (resumed.accepted, resumed.findings) == (whole.accepted, whole.findings)


@pytest.mark.parametrize("name", SEARCHES)
@given(wrong=failing_sets, groups=groupings)
def test_what_moved_is_what_the_last_good_step_had_not(name, wrong, groups):
    """The first step has nothing on the device, and each later one says what is new."""
    device = fails(*wrong)
    strategy = Strategy(name, groups)
    first = strategy.propose()
    assert (first.boundary, first.moved, first.purpose) == (frozenset(), (), Purpose.BASELINE)
    while (proposal := strategy.propose()) is not None:
        assert frozenset(proposal.moved) == proposal.boundary - strategy.accepted
        assert bool(proposal.moved) == (proposal is not first)
        strategy.settle(device(proposal.boundary))


def test_linear_moves_in_order_one_group_a_step():
    """The paper's algorithm: each step has what the last good one had, and the next group."""
    _, proposals = drive(StrategyName.LINEAR, [["a", "b"], ["c"], ["d"]], fails({"c"}))
    assert [(sorted(p.boundary), p.purpose) for p in proposals] == [
        ([], Purpose.BASELINE),
        (["a", "b"], Purpose.MOVE),
        (["a", "b", "c"], Purpose.MOVE),
        (["c"], Purpose.REDUCE),
        (["a", "b", "d"], Purpose.MOVE),
    ]


def test_a_group_that_fails_moves_part_by_part():
    """One wrong part does not keep the rest of its group on the host."""
    strategy, proposals = drive(StrategyName.LINEAR, [["a", "b", "c"]], fails({"b"}))
    assert [sorted(p.boundary) for p in proposals if p.purpose is Purpose.MOVE] == [
        ["a", "b", "c"],
        ["a"],
        ["a", "b"],
        ["a", "c"],
    ]
    assert strategy.accepted == {"a", "c"}
    assert [finding.part for finding in strategy.findings] == ["b"]


@pytest.mark.parametrize("count", [1, 2, 3, 33, 400])
def test_bisect_needs_few_steps(count):
    """Two if all is right; for one wrong part about log2(n) more, and for a pair twice that."""
    parts = [f"u{i}" for i in range(count)]
    log = math.ceil(math.log2(count))
    _, proposals = drive(StrategyName.BISECT, singles(parts), fails())
    assert len(proposals) == 2
    for wrong in {0, count // 2, count - 1}:
        strategy, proposals = drive(StrategyName.BISECT, singles(parts), fails({parts[wrong]}))
        assert [finding.part for finding in strategy.findings] == [parts[wrong]]
        assert len(proposals) <= 2 + log + 2
        pair = {parts[0], parts[wrong]}
        strategy, proposals = drive(StrategyName.BISECT, singles(parts), fails(pair))
        assert len(proposals) <= 2 + 2 * log + 4


def test_a_large_company_is_told_as_far_as_it_was_found():
    """Whoever reads it must know that it is not all."""
    strategy, _ = drive(StrategyName.LINEAR, singles(PARTS), fails(PARTS))
    (finding,) = strategy.findings
    assert finding.part == PARTS[-1]
    assert not finding.is_complete
    assert finding.together == tuple(PARTS[-1 - MOST_TOGETHER : -1])


@pytest.mark.parametrize("name", SEARCHES)
def test_after_a_bad_baseline_nothing_is_tried(name):
    """With nothing on the device the source itself failed: moving units proves nothing."""
    strategy = Strategy(name, singles("ab"))
    strategy.settle(BAD)
    assert strategy.propose() is None
    assert strategy.remaining == 0
    assert (strategy.accepted, strategy.findings) == (frozenset(), ())


def test_isolated_tries_nothing():
    """Each unit was replayed alone; no boundary is moved."""
    assert Strategy(StrategyName.ISOLATED, singles("ab")).propose() is None


def test_there_is_nothing_to_settle_at_the_end():
    """An outcome without a proposal is a bug of the caller."""
    strategy = Strategy(StrategyName.LINEAR, [])
    strategy.settle(GOOD)
    with pytest.raises(ValueError, match=r"^there is no step to settle$"):
        strategy.settle(GOOD)


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("unsteady", PARTS)
def test_a_flaky_part_goes_back_and_nobody_else(name, unsteady):
    """The step in which it shows accuses what moved last; the votes do not."""

    def device(boundary):
        if unsteady not in boundary:
            return GOOD
        return Outcome(is_good=False, is_flaky=True, flaky=frozenset({unsteady}))

    strategy, proposals = drive(name, singles(PARTS), device)
    (finding,) = strategy.findings
    assert (finding.part, finding.is_flaky) == (unsteady, True)
    assert unsteady in proposals[finding.step].boundary
    assert strategy.accepted == set(PARTS) - {unsteady}


@pytest.mark.parametrize("name", SEARCHES)
def test_what_is_flaky_in_company_only_is_said_of_what_moved(name):
    """No part is flaky alone; the part with which it begins is told, as flaky."""

    def device(boundary):
        return Outcome(is_good=False, is_flaky=True) if {"u3", "u7"} <= boundary else GOOD

    strategy, proposals = drive(name, singles(PARTS), device)
    (finding,) = strategy.findings
    assert finding == Finding(part="u7", step=finding.step, is_flaky=True)
    assert {"u3", "u7"} <= proposals[finding.step].boundary
    assert strategy.accepted == set(PARTS) - {"u7"}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_part_that_failed_beside_a_flaky_one_is_tried_again(name):
    """It failed twice because of the other, which shows while its company is looked for."""
    outcomes = {
        frozenset("ab"): [BAD, GOOD],
        frozenset("b"): [Outcome(is_good=False, is_flaky=True, flaky=frozenset("a"))],
    }

    def device(boundary):
        return outcomes[boundary].pop(0) if outcomes.get(boundary) else GOOD

    strategy, _ = drive(name, singles("ab"), device)
    assert [(f.part, f.is_flaky) for f in strategy.findings] == [("a", True)]
    assert strategy.accepted == {"b"}


def test_all_pairs_of_a_small_model_are_named():
    """Linear and bisect find each pair, whichever of the two moves last."""
    for pair in combinations(PARTS[:6], 2):
        for name in SEARCHES:
            strategy, _ = drive(name, singles(PARTS[:6]), fails(pair))
            (finding,) = strategy.findings
            assert (*finding.together, finding.part) == pair
