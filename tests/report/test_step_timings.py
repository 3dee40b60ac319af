from __future__ import annotations

from made_results import run_of, step

from relax_tapml.report._step_timings import lay_out_timings
from relax_tapml.results.step_result import StepSeconds


def test_slower_is_higher_and_a_part_that_did_not_happen_is_absent() -> None:
    """A step that failed to build has no run; it is not drawn as zero."""
    steps = (
        step(seconds=StepSeconds(shift=0.04, run=0.4)),
        step(seconds=StepSeconds(shift=0.05, run=None)),
    )
    first, second = lay_out_timings(run_of(steps=steps)).points
    assert first.run_y is not None
    assert first.shift_y is not None
    assert first.run_y < first.shift_y
    assert second.run_y is None
    assert (first.text, second.text) == ("shift 40 ms, run 400 ms", "shift 50 ms")


def test_no_steps() -> None:
    assert lay_out_timings(run_of()).points == ()
