"""What is held out is new each time, right for the unit, and in no file."""

import numpy as np
import pytest

from relax_tapml.carve.probe.drawn_probe import DrawnProbes
from relax_tapml.carve.unit.call_tensors import CallTensors
from relax_tapml.carve.unit.unit_tolerances import UnitTolerances
from relax_tapml.judge_kernel.held_out import hold_out
from relax_tapml.suite.open_suite import open_suite
from relax_tapml.suite.tolerances import read_tolerance


@pytest.fixture
def opened(suite):
    return open_suite(suite)


def tensors(held, unit, names):
    """Inputs and outputs of cases."""
    cases = [case for case in held.suite.manifest.units[unit].cases if case.name in names]
    return [
        (
            [held.suite.tensor(item.tensor) for item in case.inputs],
            [held.suite.tensor(output.tensor) for output in case.outputs],
        )
        for case in cases
    ]


def test_held_out_cases_have_new_inputs_and_the_outputs_of_the_unit(opened):
    """Within the recorded range, and with a tolerance that tells right from wrong."""
    held = hold_out(opened, "increment", count=4, seed=1)
    entry = held.suite.manifest.units["increment"]
    shown = [case.name for case in entry.cases if case.name not in held.names]
    recorded = [inputs[0] for inputs, _ in tensors(held, "increment", shown)]
    largest = max(np.abs(values).max() for values in recorded)
    for [x], [y] in tensors(held, "increment", held.names):
        assert not any(np.array_equal(x, values) for values in recorded)
        assert np.abs(x).max() <= largest
        np.testing.assert_allclose(y, x + np.float32(1), rtol=1e-6)
    [case, *_] = [case for case in entry.cases if case.name in held.names]
    oracle = held.suite.tensor(case.outputs[0].tensor)
    assert read_tolerance(held.suite, case, case.outputs[0]).allowed(oracle).max() < 1e-5


def test_boundary_shapes_are_one_one_more_than_recorded_and_odd(opened):
    held = hold_out(opened, "increment", count=1, seed=1)
    rows = {len(x) for [x], _ in tensors(held, "increment", held.boundary)}
    assert {1, 6} <= rows
    assert len(rows) >= 3
    assert all(size % 2 for size in rows - {6})
    assert not rows & {3, 5}


def test_another_seed_holds_out_other_cases(opened):
    one, same, other = (hold_out(opened, "increment", count=2, seed=seed) for seed in (1, 1, 2))
    first = [x.tobytes() for [x], _ in tensors(one, "increment", one.names)]
    assert first == [x.tobytes() for [x], _ in tensors(same, "increment", same.names)]
    assert first != [x.tobytes() for [x], _ in tensors(other, "increment", other.names)]


def test_constants_and_numbers_of_a_call_stay(opened):
    """A kernel gets its numbers with the case function, whose values nothing may change."""
    held = hold_out(opened, "add_and_subtract", count=2, seed=1)
    assert len(held.names) == 2
    for [x], [y, z] in tensors(held, "add_and_subtract", held.names):
        np.testing.assert_allclose(y + z, 2 * x, rtol=1e-5, atol=1e-5)


def test_why_nothing_is_held_out_is_told(opened):
    for unit, why in (("cumsum", "no PrimFunc"), ("double_inplace", "writes to its arguments")):
        held = hold_out(opened, unit, count=2, seed=1)
        assert not held.names
        assert any(why in reason for reason in held.reasons)


def test_no_file_of_the_suite_changes(opened):
    def files():
        return {p: p.read_bytes() for p in opened.folder.rglob("*") if p.is_file()}

    before = files()
    hold_out(opened, "increment", count=2, seed=1)
    assert files() == before


def test_a_call_whose_values_are_all_alike_gives_no_new_one(opened):
    """Shuffled or made smaller it is the recorded call, which everybody has seen."""
    unit = UnitTolerances(opened.module("increment"))
    zeros, ones = (np.full((5, 4), value, np.float32) for value in (0, 1))

    def drawn(x, y):
        call = CallTensors(function="main", inputs=(x,), outputs=(y,), weights=(None,))
        return DrawnProbes(unit, call).draw(1)

    assert drawn(zeros, ones) is None
    x = np.arange(20, dtype=np.float32).reshape(5, 4)
    assert drawn(x, x + ones) is not None
