"""Make the tensors of the cases to come in a thread, while a device runs one and it is judged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from threading import Thread

from relax_tapml.suite.manifest import SuiteCase
from relax_tapml.suite.open_suite import Suite


class CasesAhead:
    """Knows which cases follow, and makes their large tensors within what a suite keeps.

    Parameters
    ----------
    suite
        Of the cases.
    cases
        Unit and case, in the order in which they are run. Any case may be run several times, or
        left out; one out of order is made when it is run.
    """

    def __init__(self, suite: Suite, cases: Iterable[tuple[str, SuiteCase]]) -> None:
        self._suite = suite
        listed = list(cases)
        self._places = {(unit, case.name): place for place, (unit, case) in enumerate(listed)}
        # In the order in which they are taken; and where in it the inputs of each case begin, and
        # what its results are judged by.
        self._taken: list[str] = []
        self._inputs: list[int] = []
        self._judging: list[int] = []
        for _, case in listed:
            self._inputs.append(len(self._taken))
            self._taken += filter(suite.is_large, _inputs(case))
            self._judging.append(len(self._taken))
            self._taken += filter(suite.is_large, _judging(case))
        self._place = 0
        self._is_closed = False
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to make what the first cases take."""
        self._suite.expect(self._taken)
        if self._taken:
            self._thread = Thread(target=self._make, name="cases ahead", daemon=True)
            self._thread.start()

    def begin(self, unit: str, case: SuiteCase) -> None:
        """Tell that a case is run now."""
        self._place = self._places.get((unit, case.name), self._place)
        self._expect_from(self._inputs)

    def called(self) -> None:
        """Tell that the call of the case has been done, so that its inputs are not taken again."""
        self._expect_from(self._judging)

    def close(self) -> None:
        """End the thread, once what it makes now is made."""
        self._is_closed = True
        self._suite.expect(())
        if self._thread is not None:
            self._thread.join()

    def _expect_from(self, starts: Sequence[int]) -> None:
        if self._taken:
            self._suite.expect(self._taken[starts[self._place] :])

    def _make(self) -> None:
        for digest in dict.fromkeys(self._taken):
            if self._is_closed:
                return
            with suppress(Exception):  # The case that takes it tells.
                self._suite.make_ahead(digest)


def _inputs(case: SuiteCase) -> list[str]:
    return [item.tensor for item in case.inputs]


def _judging(case: SuiteCase) -> list[str]:
    """Return oracles and tolerances; without those that only some devices are judged by."""
    return [
        digest
        for output in case.outputs
        for digest in (
            output.tensor,
            *(d for name, d in output.tolerance.tensors.items() if name != "coarse"),
            *([output.unwritten] if output.unwritten else []),
        )
    ]
