"""The fixture of one carved test."""

from __future__ import annotations

from dataclasses import dataclass

from relax_tapml.testing.carved import CarvedSuites, Properties


@dataclass(frozen=True, kw_only=True)
class CarvedTest:
    """What the suites of a run do for one test.

    Parameters
    ----------
    suites
        All of them.
    properties
        ``user_properties`` of the test, which JUnit files list.
    """

    suites: CarvedSuites
    properties: Properties

    def replay(self, test_file: str, *, unit: str, case: str) -> None:
        """Run one case; see ``CarvedSuites.replay``."""
        __tracebackhide__ = True
        self.suites.replay(test_file, unit=unit, case=case, properties=self.properties)
