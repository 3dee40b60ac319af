import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_tapml.migrate.strategy import LinearStrategy, Proposal

UNITS = st.lists(st.text("abcdefgh", min_size=1, max_size=3), unique=True, max_size=12)


@given(order=UNITS, data=st.data())
def test_exactly_the_bad_units_are_left_out(order, data):
    """For any set of bad units all others are accepted, in one step each after the first."""
    bad = frozenset(data.draw(st.sets(st.sampled_from(order)))) if order else frozenset()
    strategy = LinearStrategy(order)
    moved = []
    while (proposal := strategy.propose()) is not None:
        assert strategy.propose() == proposal
        last_good = strategy.accepted
        if proposal.moved is None:
            assert proposal.boundary == frozenset()
        else:
            assert proposal.boundary - last_good == {proposal.moved}
            assert last_good < proposal.boundary
        moved.append(proposal.moved)
        strategy.settle(is_good=not proposal.boundary & bad)
    assert moved == [None, *order]
    assert strategy.accepted == frozenset(order) - bad


@given(order=UNITS, data=st.data())
def test_settling_again_what_was_settled_continues_where_it_was(order, data):
    """A strategy fed the results of an earlier run proposes what that run would have next."""
    verdicts = [True, *data.draw(st.lists(st.booleans(), max_size=len(order)))]
    first, second = LinearStrategy(order), LinearStrategy(order)
    for is_good in verdicts:
        assert first.propose() is not None
        first.settle(is_good=is_good)
    for is_good in verdicts:
        second.settle(is_good=is_good)
    assert first.propose() == second.propose()
    assert first.accepted == second.accepted


def test_after_a_bad_first_step_nothing_is_tried():
    """With nothing on the device the source itself failed: moving units proves nothing."""
    strategy = LinearStrategy(["a", "b"])
    assert strategy.propose() == Proposal(boundary=frozenset(), moved=None)
    strategy.settle(is_good=False)
    assert strategy.propose() is None
    assert strategy.accepted == frozenset()


def test_there_is_nothing_to_settle_at_the_end():
    """A result without a proposal is a bug of the caller."""
    strategy = LinearStrategy([])
    strategy.settle(is_good=True)
    with pytest.raises(ValueError, match=r"^there is no step to settle$"):
        strategy.settle(is_good=True)
