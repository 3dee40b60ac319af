"""How long a call of a unit takes: its kernels as they are built for use, without guards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tvm

from relax_tapml.arrays import Array
from relax_tapml.errors import DeviceError
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.passes.submodule import submodule
from relax_tapml.suite.manifest import SuiteCase
from relax_tapml.suite.open_suite import Suite
from relax_tapml.targets.session.device import Device

Clock = Callable[[int], float]
"""Does so many calls and returns how long one takes, in seconds."""

_ROUND_S = 0.01  # The overhead of a round is small beside that.
_MOST_CALLS = 1000


def largest_case(suite: Suite, cases: Sequence[SuiteCase]) -> SuiteCase:
    """Return the case with most bytes of those that were recorded."""
    return max((one for one in cases if not one.is_probe), key=lambda one: case_bytes(suite, one))


def case_bytes(suite: Suite, case: SuiteCase) -> int:
    """Return the bytes of the inputs and outputs of a case."""
    return sum(array.nbytes for arrays in case_arrays(suite, case) for array in arrays)


def case_arrays(suite: Suite, case: SuiteCase) -> tuple[list[Array], list[Array]]:
    """Return the inputs of a case and its oracles."""
    return (
        [suite.tensor(item.tensor) for item in case.inputs],
        [suite.tensor(output.tensor) for output in case.outputs],
    )


def calls_of_round(clock: Clock) -> int:
    """Return how many calls last a hundredth of a second, after those that load and compile."""
    clock(1)
    return max(1, min(_MOST_CALLS, int(_ROUND_S / max(clock(1), 1e-9))))


def timed_call(
    implementation: tvm.IRModule,
    suite: Suite,
    case: SuiteCase,
    *,
    target: Any,
    library: KernelLibrary,
    device: Device,
) -> Clock:
    """Build the call of a case, load it with its inputs, and return what times it.

    Parameters
    ----------
    implementation
        Of the unit, from ``UnitPrograms.implementation``.
    suite, case
        What is called.
    target, library, device
        What it is built for, where its kernels are kept, and where it runs.

    Raises
    ------
    DeviceError
        A kernel does not build.
    DeviceFault
        It cannot be loaded.
    """
    alone = submodule(implementation, {case.function: None})
    built = library.build(alone, target)
    if built.failed:
        raise DeviceError("; ".join(built.failed.values()))
    functions = compile_functions(alone, target, library)
    session = device.session
    loaded = session.load(functions.bytecode, (*functions.shape_functions, *built.files()))
    given = [session.upload(array) for array in case_arrays(suite, case)[0]]
    return lambda calls: session.seconds(loaded, case.function, given, calls)
