"""What would be a regression is looked at twice. The builds are made up: no process is started."""

import itertools

import pytest
from tiny_model import UNITS

from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import DeviceUnavailable, UsageError
from relax_tapml.results.build_comparison import Change, Pace
from relax_tapml.results.replay_result import ReplayResult
from relax_tapml.results.unit_result import ReplayedUnit
from relax_tapml.two_builds import compare_builds as module
from relax_tapml.two_builds.build_process import BuildPlace
from relax_tapml.two_builds.build_spec import BuildSpec
from relax_tapml.two_builds.compare_builds import compare_builds
from relax_tapml.versions import versions

GELU = "fused_gelu"
A, B = BuildSpec(target="llvm", name="a"), BuildSpec(target="llvm", name="b")


class Made:
    """A build with the verdicts of its replays on one unit, and a time per call of each session."""

    def __init__(self, name, verdicts, times):
        self.place = BuildPlace(versions=versions(), tvm="", package="")
        self.repeats = []
        self._name = name
        self._verdicts = iter(verdicts)
        self._times = iter(times)
        self._time = next(self._times)
        self.is_closed = False

    def open(self, suite, *, scripts, trust):
        assert scripts is None

    def replay(self, units, *, repeat, seed, on_unit):
        self.repeats.append(repeat)
        verdict = next(self._verdicts)
        names = UNITS if units is None else units
        return ReplayResult(
            units=tuple(
                ReplayedUnit(name=n, verdict=verdict if n == GELU else Verdict.PASS) for n in names
            )
        )

    def prepare(self, unit):
        return "case0", "" if unit in (GELU, "sum") else "not for this test"

    def turn(self):
        if self._time is None:
            raise DeviceUnavailable(f"{self._name}: gone")
        return self._time

    def renew(self):
        if self._time is None:
            raise DeviceUnavailable(f"{self._name}: gone")
        self._time = next(self._times)

    def close(self):
        self.is_closed = True


@pytest.fixture
def compared(finished, monkeypatch):
    """A function that compares two made-up builds and returns them too."""

    def compare(first=("pass",), second=("pass",), times=((), ()), **options):
        made = [
            Made("a", map(Verdict, first), itertools.chain(times[0], itertools.repeat(1.0))),
            Made("b", map(Verdict, second), itertools.chain(times[1], itertools.repeat(1.0))),
        ]
        left = iter(made)
        monkeypatch.setattr(module, "BuildProcess", lambda _spec, **_: next(left))
        found = compare_builds(finished, A, B, **options)
        assert all(one.is_closed for one in made)
        [unit] = [unit for unit in found.units if unit.name == GELU]
        return found, unit, made

    return compare


def test_equal_builds_are_equal(compared):
    found, unit, _ = compared(is_slower_regression=True)
    assert (unit.change, unit.speed.pace, found.exit_code) == ("unchanged", "unchanged", 0)


def test_a_failure_is_a_regression_if_it_comes_again(compared):
    """And if the other build passes again, often."""
    found, unit, (first, second) = compared(["pass"] * 2, ["mismatch"] * 2, is_timed=False)
    assert (unit.change, unit.is_regression, found.exit_code) == (Change.BROKEN, True, 1)
    assert first.repeats[1] > second.repeats[1]
    assert found.regressions == [GELU]


@pytest.mark.parametrize(
    ("first", "second"),
    [(["pass", "flaky"], ["crash"] * 2), (["pass"] * 2, ["crash", "pass"])],
    ids=["the first fails, too", "the second passes, too"],
)
def test_what_fails_now_and_then_is_no_regression(compared, first, second):
    """A unit that is flaky in equal builds may fail in either first."""
    found, unit, _ = compared(first, second, is_timed=False)
    assert (unit.change, found.exit_code, found.regressions) == (Change.OPEN, 3, [])


def test_a_mended_unit_is_fixed(compared):
    found, unit, made = compared(["build_error"], ["pass"], is_timed=False)
    assert (unit.change, found.exit_code) == (Change.FIXED, 0)
    assert [one.repeats for one in made] == [[1], [1]]


def test_a_unit_is_slower_if_it_is_so_in_three_sessions(compared):
    """It is listed, and is a regression only where that was asked for."""
    slow = ((), (1.5, 1.5, 1.5))
    found, unit, _ = compared(times=slow)
    assert (unit.speed.pace, unit.speed.seconds, unit.speed.ratio) == (Pace.SLOWER, (1.0, 1.5), 1.5)
    assert (unit.is_regression, found.exit_code) == (False, 0)
    found, unit, _ = compared(times=slow, is_slower_regression=True)
    assert (unit.is_regression, found.exit_code) == (True, 1)
    _, unit, _ = compared(times=slow, threshold=0.6)
    assert unit.speed.pace is Pace.UNCHANGED
    _, unit, _ = compared(times=((), (1.5, 1.5, 1.0)))
    assert unit.speed.pace is Pace.UNCHANGED
    assert "not for this test" in {one.speed_reason for one in found.units}


def test_a_build_that_is_lost_while_it_is_timed_leaves_the_verdicts(compared):
    found, _, _ = compared(times=((), (None,)))
    assert found.exit_code == 0
    reasons = {one.name: one.speed_reason for one in found.units}
    assert reasons[GELU] == reasons["sum"] == "b: gone"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.0}, "threshold 0: expected"),
        ({"repeat": 0}, "repeat 0"),
        ({"units": ["fused_gel"]}, "no case of unit 'fused_gel'"),
    ],
)
def test_a_wrong_request_is_refused_before_a_process_starts(
    finished, monkeypatch, options, message
):
    monkeypatch.setattr(module, "BuildProcess", None)
    with pytest.raises(UsageError, match=message):
        compare_builds(finished, A, B, **options)
    with pytest.raises(UsageError, match="the name 'a'"):
        compare_builds(finished, A, A)
