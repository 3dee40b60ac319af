"""Tolerances of units that run the kernels of other units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import tvm

from relax_tapml.arrays import Array
from relax_tapml.carve.sensitivity import RUNS, Noise, noise, noise_levels, output_tolerances
from relax_tapml.compare.tolerances.elements import ElementTolerance, rounded_up, with_low_precision
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.errors import LoweringError
from relax_tapml.partition.built_functions import flat_values
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.hybrid import Host
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.passes.outline_runtime_callbacks import OutlineRuntimeCallbacks
from relax_tapml.processes.fork import ForkChannel, ForkFailed, ForkRetries, can_fork, collected
from relax_tapml.suite.composite_units import units_run
from relax_tapml.suite.open_suite import Suite


def composite_tolerances(
    suite: Suite,
    *,
    source: tvm.target.Target,
    pipeline: tvm.transform.Pass | None,
    library: KernelLibrary,
) -> Mapping[tuple[str, str], list[Tolerance]]:
    """Return how far each case of such a unit may be off when every kernel that it runs is right.

    The case is run on the source, with the result of each of these kernels perturbed within the
    tolerance of its own unit; and once more for devices whose elementary functions have low
    precision, where that makes a difference.

    Parameters
    ----------
    suite
        Has the tolerances of the kernels.
    source, pipeline, library
        What it was recorded on, the pass of that side, and where kernels for it are kept.

    Returns
    -------
    Mapping
        From the names of unit and case.
    """
    found: dict[tuple[str, str], list[Tolerance]] = {}
    units = list(units_run(suite))
    levels = noise_levels(suite) if units else {}
    wider_levels = noise_levels(suite.low_precision()) if units else {}
    retries = ForkRetries("moving the results of kernels")
    for unit in units:
        try:
            side = lower_for_target(OutlineRuntimeCallbacks()(suite.module(unit)), source, pipeline)
        except LoweringError:
            continue  # The pipeline needs units that are not there: what the dtype allows stays.
        kernels = library.build(side, source)
        if kernels.failed:
            continue  # The replay on the source reports it.
        host = Host(source, kernels.files(), {})
        machine = host.virtual_machine(compile_functions(side, source, library))
        for case in suite.manifest.units[unit].cases:
            inputs = [host.upload(suite.tensor(item.tensor)) for item in case.inputs]
            call = partial(_outputs, machine[case.function], inputs)
            rounds = [levels] if wider_levels == levels else [levels, wider_levels]

            def work(
                fork: ForkChannel,
                machine: Any = machine,
                call: Callable[[], list[Array]] = call,
                rounds: Sequence[Mapping[str, Noise]] = rounds,
            ) -> None:
                fork.send(None, call())
                for moved in rounds:
                    for seed in range(RUNS):
                        machine.set_instrument(noise(moved, seed))
                        fork.send(None, call())

            try:
                messages = collected(work, retries, is_safe=can_fork(source))
            except ForkFailed:
                continue  # The replay on the source reports it, or only what was moved may crash.
            outputs, *runs = [message.arrays for message in messages]
            tolerances = _moved(outputs, runs[:RUNS])
            if len(runs) > RUNS:
                wider = _moved(outputs, runs[RUNS:])
                tolerances = [
                    with_low_precision(*both) for both in zip(tolerances, wider, strict=True)
                ]
            found[unit, case.name] = tolerances
    return found


def _outputs(function: Any, inputs: Sequence[Any]) -> list[Array]:
    return flat_values(function(*inputs))


def _moved(outputs: Sequence[Array], runs: Sequence[Sequence[Array]]) -> list[Tolerance]:
    """Return the tolerances of outputs, from runs in which their kernels were off."""
    return [
        replace(t, bound=rounded_up(t.bound, oracle.dtype))
        if isinstance(t, ElementTolerance)
        else t
        for t, oracle in zip(output_tolerances(outputs, runs), outputs, strict=True)
    ]
