import pytest
from broken_pipelines import breaks, storing
from edited_suite import widen

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import ExitCode
from relax_tapml.replays.matrix import replay_matrix
from relax_tapml.replays.replay import replay
from relax_tapml.results.matrix_result import Column


def test_a_unit_with_blunt_cases_alone_is_inconclusive(suite):
    """It passes, and zeros would: the unit is inconclusive, the rest is judged."""
    widen(suite, "increment")
    report = replay(suite, session="inline")
    assert report.units["increment"] is Verdict.INCONCLUSIVE
    assert set(report.units.values()) == {Verdict.PASS, Verdict.INCONCLUSIVE}
    assert report.exit_code is ExitCode.INCONCLUSIVE
    detail = report.details["increment"]
    assert detail.blunt == (0,)
    assert detail.reason.startswith("no case can tell right from wrong: zeros would pass, with a")
    assert detail.reason.endswith(", the result is off by 0 %; 2 other cases see no more")
    # It has been on a device: this is no unit that none was left for.
    assert report.unjudged == []
    assert [case.verdict for case in detail.cases] == [Verdict.PASS] * 3


def test_one_sharp_case_is_ground_for_a_pass(suite):
    """Recorded or probe; the others are shown as they are."""
    widen(suite, "increment", kept=["main-000-case1"])
    detail = replay(suite, session="inline", units=["increment"]).details["increment"]
    assert (detail.verdict, detail.blunt) == (Verdict.PASS, ())
    assert [c.comparisons[0].is_sharp for c in detail.cases] == [False, True, False]


def test_each_output_must_be_judged_sharply_in_some_case(suite):
    """The one that is not is named."""
    widen(suite, "add_and_subtract", output=1)
    report = replay(suite, session="inline", units=["add_and_subtract"])
    detail = report.details["add_and_subtract"]
    assert (detail.verdict, detail.blunt) == (Verdict.INCONCLUSIVE, (1,))
    assert detail.reason.startswith("no case can tell right from wrong: output 1: zeros would")


@pytest.mark.parametrize(
    ("change", "verdict", "code"),
    [(lambda y: y * 0.0, Verdict.INCONCLUSIVE, 3), (lambda y: y + 1e6, Verdict.MISMATCH, 1)],
    ids=["zeros", "huge"],
)
def test_what_is_beyond_a_blunt_tolerance_is_still_wrong(suite, change, verdict, code):
    """And what it cannot see is no pass."""
    widen(suite, "increment")
    pipeline = breaks("increment", storing(change))
    report = replay(suite, session="inline", device_pipeline=pipeline, units=["increment"])
    assert report.units == {"increment": verdict}
    assert report.exit_code == code
    assert report.details["increment"].blunt == ((0,) if code == 3 else ())
    assert code == 1 or "the result is off by 100 %" in report.details["increment"].reason


def test_a_negative_cosine_within_the_tolerance_is_no_ground_for_a_pass(suite):
    """However many values it has."""
    widen(suite, "increment")
    pipeline = breaks("increment", storing(lambda y: y * -1.0))
    report = replay(suite, session="inline", device_pipeline=pipeline, units=["increment"])
    assert report.units == {"increment": Verdict.INCONCLUSIVE}
    assert "it points away from the oracle (cosine -1)" in report.details["increment"].reason


def test_a_matrix_with_a_blunt_unit_is_open(suite):
    """The unit has a row of its own, and the cell ends with 3."""
    widen(suite, "increment")
    column = Column(target="llvm", session="inline")
    matrix = replay_matrix([suite], [column], units=["increment", "add"])
    assert matrix.exit_code is ExitCode.INCONCLUSIVE
    assert matrix.wrong_units(str(suite)) == ["increment"]
    assert [cell.passed for cell in matrix.cells] == [1]
