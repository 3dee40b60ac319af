"""Searches as pure state machines: whatever the device does, what they find is true."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_tapml.errors import UsageError
from relax_tapml.migrate.strategies._bisect import Bisect
from relax_tapml.migrate.strategies._linear import Linear
from relax_tapml.migrate.strategies._reduce import MOST_TOGETHER
from relax_tapml.migrate.strategies.registry import ISOLATED, STRATEGIES, strategy_named
from relax_tapml.migrate.strategies.search import Search
from relax_tapml.migrate.strategies.strategy import Finding, Outcome
from relax_tapml.results.step_result import Purpose

PARTS = [f"u{i}" for i in range(12)]
GOOD, BAD = Outcome(is_good=True), Outcome(is_good=False)


def fails(*sets):
    """A device on which the model is wrong when all parts of one of the sets are on it."""
    wrong = [frozenset(parts) for parts in sets]
    return lambda boundary: Outcome(is_good=not any(parts <= boundary for parts in wrong))


def drive(strategy, groups, device):
    """Run a search to its end; return it and what it proposed."""
    search = Search(strategy, groups)
    proposals = []
    while (proposal := search.propose()) is not None:
        assert search.remaining > 0
        proposals.append(proposal)
        search.settle(device(proposal.boundary))
    return search, proposals


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


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(wrong=failing_sets, groups=groupings)
def test_every_finding_is_a_smallest_failing_set(strategy, wrong, groups):
    """It fails, with any part less it does not; what is left on the device is right, and most."""
    device = fails(*wrong)
    search, _ = drive(strategy, groups, device)
    for finding in search.findings:
        parts = frozenset((finding.part, *finding.together))
        assert finding.is_complete
        assert not device(parts).is_good
        assert all(device(parts - {part}).is_good for part in parts)
    assert device(search.accepted).is_good
    sent_back = {finding.part for finding in search.findings}
    assert search.accepted | sent_back == set(PARTS)
    for part in sent_back:
        assert not device(search.accepted | {part}).is_good


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(wrong=failing_sets, groups=groupings, data=st.data())
def test_fed_with_the_outcomes_of_an_earlier_run_it_continues(strategy, wrong, groups, data):
    """A strategy has no other state than its outcomes."""
    device = fails(*wrong)
    whole, proposals = drive(strategy, groups, device)
    stopped = data.draw(st.integers(0, len(proposals)))
    resumed = Search(strategy, groups)
    for proposal in proposals[:stopped]:
        resumed.settle(device(proposal.boundary))
    for proposal in proposals[stopped:]:
        assert resumed.propose() == proposal
        resumed.settle(device(proposal.boundary))
    assert resumed.propose() is None
    assert (resumed.accepted, resumed.findings) == (whole.accepted, whole.findings)


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(wrong=failing_sets, groups=groupings)
def test_what_moved_is_what_the_last_good_step_had_not(strategy, wrong, groups):
    """The first step has nothing on the device, and each later one says what is new."""
    device = fails(*wrong)
    search = Search(strategy, groups)
    first = search.propose()
    assert (first.boundary, first.moved, first.purpose) == (frozenset(), (), Purpose.BASELINE)
    while (proposal := search.propose()) is not None:
        assert frozenset(proposal.moved) == proposal.boundary - search.accepted
        assert bool(proposal.moved) == (proposal is not first)
        search.settle(device(proposal.boundary))


def test_linear_moves_in_order_one_group_a_step():
    """The paper's algorithm: each step has what the last good one had, and the next group."""
    _, proposals = drive(Linear(), [["a", "b"], ["c"], ["d"]], fails({"c"}))
    assert [(sorted(p.boundary), p.purpose) for p in proposals] == [
        ([], Purpose.BASELINE),
        (["a", "b"], Purpose.MOVE),
        (["a", "b", "c"], Purpose.MOVE),
        (["c"], Purpose.REDUCE),
        (["a", "b", "d"], Purpose.MOVE),
    ]


def test_a_group_that_fails_moves_part_by_part():
    """One wrong part does not keep the rest of its group on the host."""
    search, proposals = drive(Linear(), [["a", "b", "c"]], fails({"b"}))
    assert [sorted(p.boundary) for p in proposals if p.purpose is Purpose.MOVE] == [
        ["a", "b", "c"],
        ["a"],
        ["a", "b"],
        ["a", "c"],
    ]
    assert search.accepted == {"a", "c"}
    assert [finding.part for finding in search.findings] == ["b"]


@pytest.mark.parametrize("count", [1, 2, 3, 33, 400])
def test_bisect_needs_few_steps(count):
    """Two if all is right; for one wrong part about log2(n) more, and for a pair twice that."""
    parts = [f"u{i}" for i in range(count)]
    log = math.ceil(math.log2(count))
    _, proposals = drive(Bisect(), singles(parts), fails())
    assert len(proposals) == 2
    for wrong in {0, count // 2, count - 1}:
        search, proposals = drive(Bisect(), singles(parts), fails({parts[wrong]}))
        assert [finding.part for finding in search.findings] == [parts[wrong]]
        assert len(proposals) <= 2 + log + 2
        pair = {parts[0], parts[wrong]}
        search, proposals = drive(Bisect(), singles(parts), fails(pair))
        assert len(proposals) <= 2 + 2 * log + 4


def test_a_large_failing_set_is_reported_as_far_as_it_was_found():
    """Whoever reads it must know that it is not all."""
    search, _ = drive(Linear(), singles(PARTS), fails(PARTS))
    (finding,) = search.findings
    assert finding.part == PARTS[-1]
    assert not finding.is_complete
    assert finding.together == tuple(PARTS[-1 - MOST_TOGETHER : -1])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_after_a_bad_baseline_nothing_is_tried(strategy):
    """With nothing on the device the source itself failed: moving units proves nothing."""
    search = Search(strategy, singles("ab"))
    search.settle(BAD)
    assert search.propose() is None
    assert search.remaining == 0
    assert (search.accepted, search.findings) == (frozenset(), ())


def test_a_strategy_has_one_name():
    """``isolated`` is none: each unit was replayed alone, and no boundary is tried."""
    assert [strategy_named(strategy.name) for strategy in STRATEGIES] == list(STRATEGIES)
    assert strategy_named(ISOLATED) is None
    with pytest.raises(UsageError, match=r"^--strategy random: expected one of linear, bisect, is"):
        strategy_named("random")


def test_there_is_nothing_to_settle_at_the_end():
    """An outcome without a proposal is a bug of the caller."""
    search = Search(Linear(), [])
    search.settle(GOOD)
    with pytest.raises(ValueError, match=r"^there is no step to settle$"):
        search.settle(GOOD)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("unsteady", PARTS)
def test_a_flaky_part_goes_back_and_no_other(strategy, unsteady):
    """The step in which it fails blames what moved last; the reruns do not."""

    def device(boundary):
        if unsteady not in boundary:
            return GOOD
        return Outcome(is_good=False, is_flaky=True, flaky=frozenset({unsteady}))

    search, proposals = drive(strategy, singles(PARTS), device)
    (finding,) = search.findings
    assert (finding.part, finding.is_flaky) == (unsteady, True)
    assert unsteady in proposals[finding.step].boundary
    assert search.accepted == set(PARTS) - {unsteady}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_flaky_with_others_only_is_blamed_on_what_moved(strategy):
    """No part is flaky alone; the part with which it begins is named, as flaky."""

    def device(boundary):
        return Outcome(is_good=False, is_flaky=True) if {"u3", "u7"} <= boundary else GOOD

    search, proposals = drive(strategy, singles(PARTS), device)
    (finding,) = search.findings
    assert finding == Finding(part="u7", step=finding.step, is_flaky=True)
    assert {"u3", "u7"} <= proposals[finding.step].boundary
    assert search.accepted == set(PARTS) - {"u7"}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_part_that_failed_beside_a_flaky_one_is_tried_again(strategy):
    """It failed twice because of the other, which shows when a smaller set is looked for."""
    outcomes = {
        frozenset("ab"): [BAD, GOOD],
        frozenset("b"): [Outcome(is_good=False, is_flaky=True, flaky=frozenset("a"))],
    }

    def device(boundary):
        return outcomes[boundary].pop(0) if outcomes.get(boundary) else GOOD

    search, _ = drive(strategy, singles("ab"), device)
    assert [(f.part, f.is_flaky) for f in search.findings] == [("a", True)]
    assert search.accepted == {"b"}


def test_all_pairs_of_a_small_model_are_named():
    """Linear and bisect find each pair, whichever of the two moves last."""
    for pair in combinations(PARTS[:6], 2):
        for strategy in STRATEGIES:
            search, _ = drive(strategy, singles(PARTS[:6]), fails(pair))
            (finding,) = search.findings
            assert (*finding.together, finding.part) == pair
