"""What a run is asked to do is checked before anything is done."""

import pytest
import tvm

from relax_tapml.bringup.options import Options
from relax_tapml.errors import UsageError
from relax_tapml.migrate.move_groups import By


def test_choices_may_be_plain_strings():
    """As from Python or a command line."""
    options = Options(strategy="bisect", by="layer")
    assert (options.strategy, options.by) == ("bisect", By.LAYER)


def test_targets_may_be_objects():
    """They are kept as text, so results and the state of a run have them."""
    target = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64"})
    options = Options(source=target, target=target)
    assert options.source == options.target == str(target)
    assert [side.target.attrs["mcpu"] for side in options.sides()] == ["x86-64"] * 2


@pytest.mark.parametrize(("migrate", "limit"), [("all", None), ("next", 1), ("3", 3), (0, 0)])
def test_how_many_moves_may_be_made(migrate, limit):
    assert Options(migrate=migrate).plan.limit == limit


@pytest.mark.parametrize(
    ("fields", "name", "is_free"),
    [
        ({}, "linear", True),
        ({"strategy": "linear"}, "linear", False),
        ({"strategy": "bisect"}, "bisect", False),
        ({"migrate": "next"}, "linear", False),
    ],
)
def test_a_strategy_that_is_given_is_obeyed(fields, name, is_free):
    """Without one the size of the model decides, unless single moves are asked for."""
    plan = Options(**fields).plan
    assert plan.strategy.name == name
    assert (plan.bisect_above_s is not None) == is_free


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strategy": "random"}, "--strategy random: expected one of linear, bisect, isolated"),
        ({"by": "day"}, "--by day: expected one of unit, kind, layer, function, site"),
        ({"migrate": "some"}, "--migrate some: expected all, next or a number"),
        ({"migrate": "-1"}, "--migrate -1: expected all, next or a number"),
        ({"strategy": "bisect", "migrate": "next"}, "--migrate next: bisect begins with all"),
        ({"repeat": 0}, "--repeat 0: expected at least 1"),
        ({"cases_per_unit": 0}, "--cases-per-unit 0: expected at least 1"),
        ({"timeout_s": 0}, "--timeout 0: expected more than 0 seconds"),
        ({"session": "moon"}, "session 'moon' of target llvm: expected inline, process"),
    ],
)
def test_wrong_usage_names_the_option_and_what_it_takes(fields, message):
    with pytest.raises(UsageError) as caught:
        Options(**fields)
    assert str(caught.value).startswith(message)
