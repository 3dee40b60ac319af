"""The tensors of the next cases are made while one runs."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event
from threading import enumerate as threads

import pytest

from relax_tapml.compare.tolerances.stored import StoredTolerance
from relax_tapml.errors import StoreError
from relax_tapml.replays.unit._cases_ahead import CasesAhead
from relax_tapml.suite.manifest import SuiteCase, SuiteInput, SuiteOutput


def case(name, inputs, outputs):
    return SuiteCase(
        name=name,
        site="main/000/f",
        sample="s",
        frame=0,
        call=0,
        function="f",
        may_write=False,
        inputs=tuple(SuiteInput(tensor=digest, weight=None) for digest in inputs),
        outputs=tuple(
            SuiteOutput(
                tensor=digest,
                tolerance=StoredTolerance(
                    kind="elements", origin="o", bound=f"{digest}-bound", coarse="L-coarse"
                ),
            )
            for digest in outputs
        ),
        reason="",
        origins=(),
        is_probe=False,
    )


@dataclass
class FakeSuite:
    """Tensors with an L are large."""

    def __post_init__(self):
        self.expected, self.made, self.is_done = [], [], Event()

    def is_large(self, digest):
        return "L" in digest

    def expect(self, digests):
        self.expected.append(list(digests))

    def make_ahead(self, digest):
        self.made.append(digest)
        if digest == "L-bad":
            raise StoreError("it is damaged")
        if digest == "L-last":
            self.is_done.set()


CASES = [
    ("u", case("first", ["x", "L-w"], ["L-y"])),
    ("u", case("second", ["L-bad", "L-w"], ["y"])),
    ("v", case("first", ["x"], ["L-last"])),
]


def test_large_tensors_are_made_in_the_order_in_which_they_are_taken():
    """Inputs, oracles, bounds; each once; also after one that cannot be made."""
    suite = FakeSuite()
    ahead = CasesAhead(suite, CASES)
    ahead.start()
    assert suite.is_done.wait(5)
    ahead.close()
    assert suite.made == ["L-w", "L-y", "L-y-bound", "L-bad", "L-last", "L-last-bound"]
    assert suite.expected[-1] == []
    assert not [thread for thread in threads() if thread.name == "cases ahead"]


def test_what_a_case_has_taken_is_not_expected_again():
    """Its inputs after its call, and all of it when a later one begins; also out of order."""
    suite = FakeSuite()
    ahead = CasesAhead(suite, CASES)
    ahead.begin(*CASES[0])
    ahead.called()
    ahead.begin(*CASES[2])
    ahead.begin(*CASES[1])
    ahead.begin("unknown", CASES[0][1])
    rest = ["L-bad", "L-w", "L-last", "L-last-bound"]
    assert suite.expected == [
        ["L-w", "L-y", "L-y-bound", *rest],
        ["L-y", "L-y-bound", *rest],
        ["L-last", "L-last-bound"],
        rest,
        rest,
    ]


@pytest.mark.parametrize("cases", [[], [("u", case("small", ["x"], ["y"]))]])
def test_small_tensors_need_no_thread(cases):
    """Nor does a replay without cases."""
    suite = FakeSuite()
    suite.is_large = lambda _digest: False
    ahead = CasesAhead(suite, cases)
    ahead.start()
    assert not [thread for thread in threads() if thread.name == "cases ahead"]
    ahead.called()
    ahead.close()
    assert suite.made == []
