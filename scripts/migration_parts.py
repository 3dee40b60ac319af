"""What a migration is made of, for ``bench_migration.py``: a step, a full build, all steps.

This is the one place of the benchmark that knows how the driver is called.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm
from built_model import LLVM, BuiltModel, lowered
from tvm import relax

from relax_tapml.arrays import Array
from relax_tapml.compare.tolerances.rule import tolerance_for
from relax_tapml.compare.verdict import Verdict
from relax_tapml.frontend.model import Model
from relax_tapml.migrate.built_sides import BuiltSides, units_of
from relax_tapml.migrate.driver import migrate
from relax_tapml.migrate.move_groups import MoveGroup
from relax_tapml.migrate.strategies.search import Search
from relax_tapml.migrate.strategies.strategy import Strategy
from relax_tapml.migrate.trial import Trial
from relax_tapml.partition.boundary import Boundary
from relax_tapml.partition.built_functions import flat_values
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.hybrid import Host, HybridModule
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.partition.program import partition
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.passes.assign_sides import host_only_sites
from relax_tapml.passes.site import Site
from relax_tapml.results.step_result import StepResult
from relax_tapml.targets.open_session import open_session
from relax_tapml.targets.session.device import Device
from relax_tapml.targets.session.session import DeviceSession


@dataclass(frozen=True, kw_only=True)
class Build:
    """Seconds of building everything for one boundary, and of its first part, lowering."""

    wall_s: float
    lower_s: float


@dataclass(frozen=True, kw_only=True)
class Migration:
    """A migration of all units of a model.

    Parameters
    ----------
    steps
        Each boundary that was tried.
    wall_s
        Seconds from the first to the last, the runs of the model included.
    on_device
        Units that ended on the device.
    """

    steps: tuple[StepResult, ...]
    wall_s: float
    on_device: int

    @property
    def run_s(self) -> float:
        """Seconds in which the model ran."""
        return sum(step.seconds.run or 0.0 for step in self.steps)

    @property
    def own_s(self) -> float:
        """Seconds of everything else."""
        return self.wall_s - self.run_s


def movable_units(built: BuiltModel) -> list[str]:
    """Return the units that may leave the host, in the order to move them in."""
    bound = {Site.parse(site).unit for site in host_only_sites(built.lowered)}
    units = dict.fromkeys(site.unit for site, _ in annotated_calls(built.lowered))
    return [unit for unit in units if unit not in bound]


def sides_of(built: BuiltModel) -> BuiltSides:
    """Return what a step needs, with the same kernels on both sides."""
    return BuiltSides(
        lowered=built.lowered,
        host_units=built.units,
        device_units=built.units,
        source=LLVM,
        target=LLVM,
        host=built.host,
        library=built.library,
        device_kernels=built.kernels,
    )


def time_step(sides: BuiltSides, units: Sequence[str], session: DeviceSession) -> float:
    """Return the seconds of one step with these units on the device, without a run."""
    sites = Boundary(units=units).resolve(sides.lowered)
    began = time.perf_counter()
    program = sides.partition(sites)
    HybridModule(sides.host, program, session, sides.device_kernels.files(units_of(sites)))
    return time.perf_counter() - began


def time_build(model: Model, units: Sequence[str], session: DeviceSession, folder: Path) -> Build:
    """Build everything for one boundary, the kernels of both sides included.

    Lowering, kernels in the empty ``folder``, bytecode and link; what ``time_step`` does not do.
    """
    began = time.perf_counter()
    module = lowered(model)
    lower_s = time.perf_counter() - began
    prepared = lower_for_target(module, LLVM)
    libraries = [KernelLibrary(folder / side) for side in ("host", "device")]
    host_kernels, device_kernels = (library.build(prepared, LLVM) for library in libraries)
    program = partition(
        module,
        Boundary(units=units),
        host_units=prepared,
        device_units=prepared,
        source=LLVM,
        target=LLVM,
        library=libraries[0],
    )
    host = Host(LLVM, host_kernels.files(), model.params)
    HybridModule(host, program, session, device_kernels.files())
    return Build(wall_s=time.perf_counter() - began, lower_s=lower_s)


def time_compile(module: tvm.IRModule) -> float:
    """Return the seconds in which TVM alone compiles a lowered module for one side, in memory.

    All kernels are compiled together, and none of them can be used again.
    """
    began = time.perf_counter()
    relax.VirtualMachine(tvm.compile(module, target=LLVM), tvm.cpu())
    return time.perf_counter() - began


def run_source(built: BuiltModel) -> tuple[list[list[Array]], list[float]]:
    """Run every sample on the host alone; return outputs and seconds, sample by sample."""
    functions = compile_functions(built.units, LLVM, built.library)
    function = built.host.virtual_machine(functions)[built.model.entry]
    outputs, seconds = [], []
    for index in range(len(built.model.samples)):
        arguments = built.arguments(index)
        began = time.perf_counter()
        outputs.append(flat_values(function(*arguments)))
        seconds.append(time.perf_counter() - began)
    return outputs, seconds


def migrate_all(
    built: BuiltModel,
    units: Sequence[str],
    outputs: Sequence[Sequence[Array]],
    session: str,
    strategy: Strategy,
) -> Migration:
    """Move these units to a device in a session of its own, as the main job does.

    Raises
    ------
    RuntimeError
        A step did not pass, although both sides have the same kernels.
    """
    sides = sides_of(built)
    tolerances = [[tolerance_for(output) for output in sample] for sample in outputs]
    device = Device(lambda: open_session(session, LLVM))
    _ = device.session  # Opening it is no part of a step.
    groups = {
        unit: MoveGroup(name=unit, unit=unit, sites=Boundary(units=[unit]).resolve(built.lowered))
        for unit in units
    }
    search = Search(strategy, [(unit,) for unit in units])
    trial = Trial(
        sides=sides,
        groups=groups,
        device=device,
        model=built.model,
        oracles=outputs,
        tolerances=tolerances,
    )
    steps: list[StepResult] = []
    began = time.perf_counter()
    try:
        migrate(trial, search, steps=steps)
    finally:
        wall_s = time.perf_counter() - began
        device.close()
    if wrong := [step for step in steps if step.verdict is not Verdict.PASS]:
        raise RuntimeError(
            f"{wrong[0].unit} fails with the source's own kernels: {wrong[0].reason}"
        )
    return Migration(steps=tuple(steps), wall_s=wall_s, on_device=len(search.accepted))
