"""Functions are called on the side of their objects."""

from __future__ import annotations

import numpy as np
import pytest

from relax_tapml.partition.split_functions import ObjectsMeet, SplitFunctions

X = np.ones(3)


class Side:
    """Notes what is called; ``make`` and ``step`` return an object."""

    def __init__(self):
        self.called = []

    def __getitem__(self, name):
        def call(*_values):
            self.called.append(name)
            return [object()] if name in ("make", "other", "step") else [X]

        return call

    runtime = __getitem__


@pytest.fixture
def sides():
    return Side(), Side()


def test_a_call_goes_where_its_objects_are(sides):
    """Also objects that a call on the device has returned; without objects it goes to the host."""
    device, host = sides
    functions = SplitFunctions(device, host, ["make"])
    (there,), (here,) = functions["make"]((1, 2)), functions["other"]()
    functions["embed"](X, (3,), 4)
    (later,) = functions["step"](X, there)
    functions["step"](X, here)
    functions.runtime("fork")(later, 1)
    functions.runtime("fork")(here, 1)
    assert device.called == ["make", "step", "fork"]
    assert host.called == ["other", "embed", "step", "fork"]


def test_objects_of_both_sides_cannot_be_taken_by_one_call(sides):
    device, host = sides
    functions = SplitFunctions(device, host, ["make"])
    (there,), (here,) = functions["make"](), functions["other"]()
    for call in (functions["step"], functions.runtime("step")):
        with pytest.raises(ObjectsMeet, match="step"):
            call(there, here)
    assert "step" not in device.called + host.called
