"""What a device computes cannot crash the host in this process."""

from __future__ import annotations

import numpy as np
import pytest
from same_kernels import LLVM, partitioned
from tvm import relax, tirx

from relax_tapml.errors import DeviceCrash
from relax_tapml.partition._host_guard import HostGuard
from relax_tapml.partition._value_dependence import deciding_params
from relax_tapml.partition.hybrid import Host, HybridModule
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.lower import lower, mark_inputs
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.targets.session.inline import InlineSession


def lowered(body, *inputs):
    """Return a lowered module with one function of inputs like these arrays."""
    variables = [
        relax.Var(f"x{n}", relax.TensorType(array.shape, array.dtype.name))
        for n, array in enumerate(inputs)
    ]
    bb = relax.BlockBuilder()
    with bb.function("main", variables):
        with bb.dataflow():
            result = bb.emit_output(bb.emit(body(bb, *variables)))
        bb.emit_func_output(result)
    return lower(mark_inputs(bb.get(), []))


FLOATS, INDICES = np.ones((4, 8), "float32"), np.array([0, 1, 3])


@pytest.mark.parametrize(
    ("body", "inputs", "expected"),
    [
        (lambda _bb, x: relax.op.nn.softmax(x), [FLOATS], {"softmax": ()}),
        (lambda _bb, x, y: relax.op.divide(x, y), [FLOATS, FLOATS], {"divide": ()}),
        (lambda _bb, x, i: relax.op.take(x, i, 0), [FLOATS, INDICES], {"take": (1,)}),
        (
            lambda _bb, i, j: relax.op.floor_divide(i, j),
            [INDICES, INDICES],
            {"floor_divide": (0, 1)},
        ),
        (lambda _bb, i: relax.op.add(i, i), [INDICES], {"add": ()}),
        (lambda _bb, x: relax.op.argmax(x, 0), [FLOATS], {"argmax": ()}),
    ],
    ids=["softmax", "divide", "take", "floor_divide", "add", "argmax"],
)
def test_kernels_that_values_can_crash_are_known(body, inputs, expected):
    """Their indices or divisors are whole numbers that they read."""
    module = lower_for_target(lowered(body, *inputs), LLVM)
    found = {
        gvar.name_hint: deciding_params(function)
        for gvar, function in module.functions.items()
        if isinstance(function, tirx.PrimFunc)
    }
    assert found == expected


class Gather:
    """``take(table, indices + indices)`` with the sum on a device that may be wrong."""

    def __init__(self, folder, factor):
        def body(bb, table, indices):
            # Two readers keep it apart from the gather.
            doubled = bb.emit(relax.op.cumsum(indices, axis=0, dtype="int64"))
            return relax.op.take(table, doubled, axis=0, mode="fast")

        self.module = lowered(body, FLOATS, INDICES)
        self.units = lower_for_target(self.module, LLVM)
        library = KernelLibrary(folder)
        self.host = Host(LLVM, library.build(self.units, LLVM).files(), {}, self.units)
        self.session = WrongSession(factor)
        self.kernels = library.build(self.units, LLVM)
        self.library = library

    def hybrid(self, *units):
        program = partitioned(self.module, self.units, self.library, *units)
        session = self.session if units else None
        return HybridModule(self.host, program, session, self.kernels.files())


class WrongSession(InlineSession):
    """A device in this process whose results are whole numbers times a factor."""

    def __init__(self, factor):
        super().__init__(LLVM)
        self.factor = factor

    def call(self, *args):
        """Run a function, and change what it returns."""
        results = super().call(*args)
        return [self.upload(result.numpy() * self.factor) for result in results]


INPUTS = (FLOATS, np.array([0, 1, 1]))


@pytest.mark.needs_forks
def test_a_wrong_index_of_the_device_is_a_crash_and_not_our_end(tmp_path):
    """It is attributed to what the device computed; the next call may go on."""
    gather = Gather(tmp_path, factor=2**40)
    hybrid = gather.hybrid("cumsum")
    with pytest.raises(DeviceCrash, match=r"take on the host .*SIGSEGV.* device"):
        hybrid["main"](*INPUTS)
    gather.session.factor = 1
    [result] = hybrid["main"](*INPUTS)
    assert result.shape == (3, 8)


def test_values_that_the_source_had_are_not_tried_again(tmp_path, monkeypatch):
    """A right device costs no fork."""
    gather = Gather(tmp_path, factor=1)
    forks = []
    monkeypatch.setattr("relax_tapml.partition._host_guard.collected", lambda *_: forks.append(1))
    gather.hybrid()["main"](*INPUTS)
    hybrid = gather.hybrid("cumsum")
    hybrid["main"](*INPUTS)
    assert not forks
    gather.session.factor = 0
    hybrid["main"](*INPUTS)
    hybrid["main"](*INPUTS)
    assert len(forks) == 1


def test_a_host_without_such_kernels_is_not_watched():
    """Most have none."""
    softmax = lowered(lambda _bb, x: relax.op.nn.softmax(x), FLOATS)
    guard = HostGuard(lower_for_target(softmax, LLVM))
    assert guard.instrument(has_device=True) is None
