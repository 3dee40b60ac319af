"""Build the units for the target."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tvm

from relax_tapml.bringup._identity import module_identity, side_identity
from relax_tapml.bringup.ir_dump import NO_DUMP, IrDump
from relax_tapml.bringup.lowered_model import Lowered
from relax_tapml.bringup.side_spec import SideSpec
from relax_tapml.errors import LoweringError, TapmlError, UsageError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.frontend.model import Model
from relax_tapml.partition.boundary import Boundary
from relax_tapml.partition.device_side import DeviceSide, device_side
from relax_tapml.partition.graph_passes import GraphPasses
from relax_tapml.partition.kernel_library import KernelLibrary, KernelSet
from relax_tapml.partition.lower import lower, mark_inputs
from relax_tapml.partition.target_kernels import SAME, TargetKernels, pair_kernels
from relax_tapml.progress import SILENT, Stage, showing
from relax_tapml.versions import versions


@dataclass(frozen=True, kw_only=True)
class PreparedTarget:
    """The lowered module as the target's side has it, before a kernel is built.

    Parameters
    ----------
    spec
        The target's side.
    side
        The module after the side's pipeline, taken apart.
    passes
        Of a pipeline that changes Relax functions; None if it does not.
    kernels
        Those that the model has for this target in the place of its own.
    """

    spec: SideSpec
    side: DeviceSide
    passes: GraphPasses | None = None
    kernels: TargetKernels = SAME

    @property
    def units(self) -> tvm.IRModule:
        """The units, and the Relax functions that call them."""
        return self.side.units


@dataclass(frozen=True, kw_only=True)
class TargetBuild:
    """The units, built for the target.

    Parameters
    ----------
    prepared
        What was built.
    kernels
        Its kernels; ``failed`` names the units that do not build.
    library
        Where they are.
    """

    prepared: PreparedTarget
    kernels: KernelSet
    library: KernelLibrary

    @property
    def spec(self) -> SideSpec:
        """The target's side."""
        return self.prepared.spec

    @cached_property
    def identity(self) -> dict[str, str]:
        """Digests of what verdicts depend on."""
        graph = self.prepared.side.graph
        return {
            "target": str(self.spec.target),
            "tool": versions()["relax-tapml"],
            "device": side_identity(self.prepared.units, self.kernels),
            "failed": "; ".join(f"{u}: {why}" for u, why in sorted(self.kernels.failed.items())),
            "pipeline": "" if graph is None else module_identity(graph),
        }


def target_kernels(
    model: Model, lowered: Lowered, source: SideSpec, target: SideSpec, stage: Stage = SILENT
) -> TargetKernels:
    """Make a model for its target, and find the counterparts of its kernels there.

    Parameters
    ----------
    model
        With ``for_target``; any other has the same kernels for all targets.
    lowered
        Of ``lower_model``.
    source, target
        What its module was made for, and what it shall be made for.
    stage
        Shows the progress.

    Raises
    ------
    LoweringError
        ``for_target`` raised, or what it returned cannot be lowered.
    """
    if model.for_target is None or str(target.target) == str(source.target):
        return SAME
    what = f"making {model.name} for {target.name} with Model.for_target"
    stage.update(0, 1)
    try:
        made = model.for_target(target.target)
    except TapmlError:
        raise
    except Exception as error:  # Whatever a compiler raises.
        raise_machine_error(error, what)
        raise LoweringError(f"{what} failed: {type(error).__name__}: {error}") from error
    if not isinstance(made, tvm.IRModule):
        raise LoweringError(f"{what} gave a {type(made).__name__}, expected an IRModule")
    try:
        other = lower(mark_inputs(made, model.params))
    except LoweringError as error:
        raise LoweringError(f"{what}: {error}") from error
    found = pair_kernels(lowered.module, other)
    if found:
        lacking = f", {len(found.lacking)} have no counterpart" if found.lacking else ""
        stage.say(f"{len(found.kernels)} kernels are made for {target.name}{lacking}")
    return found


def prepare_target(
    lowered: Lowered,
    spec: SideSpec,
    boundary: Boundary | None = None,
    dump: IrDump = NO_DUMP,
    kernels: TargetKernels = SAME,
) -> PreparedTarget:
    """Lower a module for its target and apply the target's pipeline; no kernel is built.

    Parameters
    ----------
    lowered
        Of ``lower_model``; not changed.
    spec
        The target's side.
    boundary
        Only these sites may move to the device; None for all.
    dump
        Gets the module after each pass.
    kernels
        Of ``target_kernels``.

    Raises
    ------
    LoweringError
        The pipeline raised, or changed the parameters or results of a function.
    UsageError
        The pipeline changes Relax functions, so that the module must be run on the device as a
        whole, and there is a boundary.
    """
    with dump.phase("target"):
        side = device_side(lowered.module, spec.target, spec.pipeline, kernels)
    if spec.pipeline is None or side.graph is None:
        return PreparedTarget(spec=spec, side=side, kernels=kernels)
    if boundary is not None:
        raise UsageError(
            f"--boundary: device pipeline {spec.pipeline.info.name!r} changes "
            f"{', '.join(side.changed)}, so the whole module must be run on the device, which a "
            "boundary forbids. Run without it, or with a pipeline that changes kernels only"
        )
    passes = GraphPasses(lowered.module, spec.target, spec.pipeline, kernels)
    passes.check_interfaces()
    return PreparedTarget(spec=spec, side=side, passes=passes, kernels=kernels)


def build_target(prepared: PreparedTarget, kernels: Path, stage: Stage = SILENT) -> TargetBuild:
    """Build every unit for the target; one that does not build is named, and no error.

    Parameters
    ----------
    prepared
        Of ``prepare_target``.
    kernels
        Folder of cached kernels, made if it is not there.
    stage
        Shows the progress.

    Raises
    ------
    LoweringError
        A pipeline that changes Relax functions returned a module that does not compile.
    """
    library = KernelLibrary(kernels)
    if prepared.passes is not None:
        prepared.passes.check(library)
    spec = prepared.spec
    built = library.build(prepared.units, spec.target, showing(stage, f"kernels for {spec.name}"))
    count = len(built.paths)
    stage.say(
        f"{count} of {count + len(built.failed)} units build for {prepared.spec.name}, "
        f"{len(built.built)} of their kernels anew"
    )
    return TargetBuild(prepared=prepared, kernels=built, library=library)
