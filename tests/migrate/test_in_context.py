"""What is said about units after a migration."""

from __future__ import annotations

import made_results
import pytest

from relax_tapml.compare.verdict import Verdict
from relax_tapml.migrate.in_context import InContext, contexts
from relax_tapml.migrate.move_groups import MoveGroup
from relax_tapml.migrate.strategies.strategy import Finding
from relax_tapml.results.step_result import Exhaustion

GROUPS = {name: MoveGroup(name=name, unit=name, sites=frozenset()) for name in "abc"}


def step(verdict=Verdict.MISMATCH, reason="on 'x': differs by up to 2", **fields):
    given = {"reason": reason, "error": 2.0, "runs": 2, "failures": 2, **fields}
    return made_results.step(verdict=verdict, **given)


STEPS = [step(Verdict.PASS, ""), step()]
WHY = "the model fails on 'x': differs by up to 2"


def told(*findings, accepted=(), groups=GROUPS, steps=STEPS):
    return contexts(groups, frozenset(accepted), findings, steps)


def test_without_findings_only_the_place_is_told():
    """What is on the device is there; what was not moved yet is not, and nothing is wrong."""
    assert told(accepted="ac") == {
        "a": InContext(on_device=True),
        "b": InContext(on_device=False),
        "c": InContext(on_device=True),
    }


def test_a_part_that_fails_without_company_is_the_only_one_told():
    """With the verdict, reason and error of its step."""
    found = told(Finding(part="b", step=1), accepted="ac")
    assert found["b"] == InContext(
        on_device=False,
        verdict=Verdict.MISMATCH,
        reason=f"passes alone, but with it on the device {WHY}",
        error=2.0,
        runs=2,
        failures=2,
    )
    assert found["a"].verdict is found["c"].verdict is None


def test_a_pair_is_told_of_both():
    """One of them is on the device: without the other the model is right."""
    found = told(Finding(part="c", step=1, together=("a",)), accepted="ab")
    assert found["c"].reason == f"passes alone, but with it and a together on the device {WHY}"
    assert found["a"].reason == f"passes alone, but with it and c together on the device {WHY}"
    assert (found["a"].on_device, found["c"].on_device) == (True, False)
    assert (found["a"].together, found["c"].together) == (("c",), ("a",))
    assert found["b"].verdict is None


def test_a_company_that_was_not_found_in_full_accuses_no_other():
    """It may be any of them; the reason says how many there are at least."""
    found = told(Finding(part="c", step=1, together=("a", "b"), is_complete=False))
    assert found["a"].verdict is found["b"].verdict is None
    assert found["c"].reason == (
        f"passes alone, but with it and at least 2 others on the device (a, b, ...) {WHY}"
    )


def test_a_flaky_unit_is_told_with_its_votes():
    """Alone it fails now and then, and so did the model."""
    steps = [step(Verdict.FLAKY, "in 1 of 10 runs died", flaky={"b": (3, 10)})]
    found = told(Finding(part="b", step=0, is_flaky=True), steps=steps)
    assert (found["b"].verdict, found["b"].reason) == (
        Verdict.FLAKY,
        "fails 3 of 10 times alone, and so did the model: in 1 of 10 runs died",
    )
    assert (found["b"].failures, found["b"].runs) == (3, 10)


def test_a_unit_that_wears_a_session_out_is_told_with_its_calls():
    """As what it ended with, whoever moved when it was found."""
    worn = Exhaustion(calls=127, verdict=Verdict.CRASH, reason="was terminated by SIGABRT")
    steps = [step(Verdict.FLAKY, "in 1 of 10 runs died", exhausting={"b": worn})]
    found = told(Finding(part="b", step=0, is_flaky=True), steps=steps)
    assert (found["b"].verdict, found["b"].right_calls) == (Verdict.CRASH, 126)
    assert found["b"].reason == worn.text
    assert found["b"].reason.startswith(
        "right at first, but wrong after 126 calls in one session, alone: was terminated by "
        "SIGABRT."
    )
    assert [name for name, context in found.items() if context.verdict] == ["b"]


def test_what_is_flaky_in_company_only_says_so():
    """The votes had nothing to say."""
    steps = [step(Verdict.FLAKY, "in 1 of 10 runs died", runs=10, failures=1)]
    found = told(Finding(part="b", step=0, is_flaky=True), steps=steps)
    assert found["b"].reason == (
        "passes alone, but with it on the device the model fails in 1 of 10 runs died"
    )
    assert (found["b"].failures, found["b"].runs) == (1, 10)


@pytest.mark.parametrize("accepted", [{"s1", "s2"}, {"s1"}])
def test_a_unit_of_several_parts_is_on_the_device_with_all_of_them(accepted):
    """Site by site, the first site that fails is told."""
    groups = {
        name: MoveGroup(name=name, unit="u", sites=frozenset({name})) for name in ("s1", "s2")
    }
    found = contexts(groups, frozenset(accepted), [], STEPS)
    assert found["u"].on_device == (accepted == {"s1", "s2"})
    found = contexts(
        groups, frozenset(accepted), [Finding(part="s2", step=1), Finding(part="s1", step=0)], STEPS
    )
    assert found["u"].reason == f"passes alone, but with its site s2 on the device {WHY}"
