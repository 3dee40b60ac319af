import pytest
from blunt_suite import widen
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import ExitCode
from relax_tapml.replays.matrix import replay_matrix
from relax_tapml.replays.replay import replay
from relax_tapml.results.matrix_result import Column


@T.prim_func(private=True, s_tir=True)
def zeros(x: T.handle, y: T.handle):
    n = T.int64()
    X = T.match_buffer(x, (n, 4))
    Y = T.match_buffer(y, (n, 4))
    for i, j in T.grid(n, 4):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = X[vi, vj] * T.float32(0)


@T.prim_func(private=True, s_tir=True)
def huge(x: T.handle, y: T.handle):
    n = T.int64()
    X = T.match_buffer(x, (n, 4))
    Y = T.match_buffer(y, (n, 4))
    for i, j in T.grid(n, 4):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = X[vi, vj] + T.float32(1e6)


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
    ("kernel", "verdict", "code"),
    [(zeros, Verdict.INCONCLUSIVE, 3), (huge, Verdict.MISMATCH, 1)],
    ids=["zeros", "huge"],
)
def test_what_is_beyond_a_blunt_tolerance_is_still_wrong(suite, replaced, kernel, verdict, code):
    """And what it cannot see is no pass."""
    widen(suite, "increment")
    pipeline = replaced("increment", kernel)
    report = replay(suite, session="inline", device_pipeline=pipeline, units=["increment"])
    assert report.units == {"increment": verdict}
    assert report.exit_code == code
    assert report.details["increment"].blunt == ((0,) if code == 3 else ())
    assert code == 1 or "the result is off by 100 %" in report.details["increment"].reason


def test_a_negative_cosine_within_the_tolerance_is_no_ground_for_a_pass(suite, replaced):
    """However many values it has."""
    widen(suite, "increment")

    @T.prim_func(private=True, s_tir=True)
    def negated(x: T.handle, y: T.handle):
        n = T.int64()
        X = T.match_buffer(x, (n, 4))
        Y = T.match_buffer(y, (n, 4))
        for i, j in T.grid(n, 4):
            with T.sblock("Y"):
                vi, vj = T.axis.remap("SS", [i, j])
                Y[vi, vj] = T.float32(-1) - X[vi, vj]

    pipeline = replaced("increment", negated)
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
