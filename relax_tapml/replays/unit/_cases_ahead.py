"""Make the tensors of the cases to come in a thread, while a device runs one and it is judged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from threading import Thread

from relax_tapml.errors import StoreError
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
        # Of each case what its call takes, and what its results are judged by.
        self._inputs = [_large(suite, _inputs(case)) for _, case in listed]
        self._judging = [_large(suite, _judging(case)) for _, case in listed]
        self._place = 0
        self._is_closed = False
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to make what the first cases take."""
        self._expect(has_inputs=True)
        if any(chain(self._inputs, self._judging)):
            self._thread = Thread(target=self._make, name="cases ahead", daemon=True)
            self._thread.start()

    def begin(self, unit: str, case: SuiteCase) -> None:
        """Tell that a case is run now."""
        self._place = self._places.get((unit, case.name), self._place)
        self._expect(has_inputs=True)

    def called(self) -> None:
        """Tell that the call of the case has been done, so that its inputs are not taken again."""
        self._expect(has_inputs=False)

    def close(self) -> None:
        """End the thread, once what it makes now is made."""
        self._is_closed = True
        self._suite.expect(())
        if self._thread is not None:
            self._thread.join()

    def _expect(self, *, has_inputs: bool) -> None:
        self._suite.expect(self._digests(self._place, has_inputs=has_inputs))

    def _digests(self, place: int, *, has_inputs: bool = True) -> Sequence[str]:
        """Return what is taken from a case on, in order."""
        pairs = zip(self._inputs[place:], self._judging[place:], strict=True)
        taken = [*chain.from_iterable(chain(inputs, judging) for inputs, judging in pairs)]
        return taken if has_inputs or not taken else taken[len(self._inputs[place]) :]

    def _make(self) -> None:
        for digest in dict.fromkeys(self._digests(0)):
            if self._is_closed:
                return
            with suppress(StoreError, MemoryError):  # The case that takes it tells.
                self._suite.make_ahead(digest)


def _large(suite: Suite, digests: Iterable[str]) -> list[str]:
    return [digest for digest in digests if suite.is_large(digest)]


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
