"""What fails is run again before it is accused."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from relax_tapml.compare.repeat import ROUNDS, is_failure, repeated
from relax_tapml.compare.verdict import Verdict


@dataclass
class Round:
    """Ends with the given verdicts."""

    verdict: Verdict


@pytest.mark.parametrize(
    ("first", "second", "times", "runs"),
    [
        ("pass", "mismatch", 1, 1),
        ("skipped", "mismatch", 1, 1),
        ("timeout", "pass", 1, 1),
        ("build_error", "pass", 5, 1),
        ("mismatch", "mismatch", 1, 2),
        ("crash", "crash", 1, 2),
        ("mismatch", "pass", 1, ROUNDS),
        ("mismatch", "pass", 3, 3),
        ("timeout", "timeout", 3, 3),
    ],
)
def test_how_often_something_is_run(first, second, times, runs):
    """As often as asked; what fails once more, and what then passes ten times."""
    ends = iter([first, second, *["pass"] * 20])
    rounds = repeated(lambda: Round(Verdict(next(ends))), times)
    assert [item.verdict for item in rounds][:2] == [first, second][:runs]
    assert len(rounds) == runs


def test_only_what_accuses_somebody_is_a_failure():
    assert {verdict for verdict in Verdict if not is_failure(verdict)} == {"pass", "skipped"}
