"""A model lowered and built, by default for llvm, as the benchmarks use it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.frontend.model import Model
from relax_tapml.frontend.signature import check_model
from relax_tapml.partition.built_functions import BuiltFunctions, weight_names
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.derived_weights import DerivedWeights, derivations
from relax_tapml.partition.hybrid import Host
from relax_tapml.partition.kernel_library import KernelLibrary, KernelSet
from relax_tapml.partition.lower import lower, mark_inputs
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.passes.lift_derived_weights import LiftDerivedWeights

LLVM = tvm.target.Target("llvm")


@dataclass(frozen=True, kw_only=True)
class BuiltModel:
    """A model, its lowered module and everything built from it."""

    model: Model
    lowered: tvm.IRModule
    units: tvm.IRModule
    library: KernelLibrary
    kernels: KernelSet
    host: Host
    target: tvm.target.Target = LLVM

    def inputs(self, index: int) -> list[Any]:
        """Return what the entry function of ``functions`` takes for a sample."""
        return list(self.model.samples[index].arrays)

    def arguments(self, index: int) -> list[Any]:
        """Return what the entry function of a VM takes for a sample."""
        inputs = map(self.host.upload, self.inputs(index))
        return [*inputs, *map(self.host.weight, self.model.params)]

    def functions(self, instrument: tvm.transform.Pass | None = None) -> BuiltFunctions:
        """Return the functions as the source runs them, with its derived weights computed once.

        Parameters
        ----------
        instrument
            Is applied to what is compiled.
        """
        lifted = LiftDerivedWeights()(self.units)
        module = lifted if instrument is None else instrument(lifted)
        machine = self.host.virtual_machine(compile_functions(module, self.target, self.library))
        derived = DerivedWeights(derivations(lifted))
        return self.host.functions(machine, weight_names(lifted), derived)


def lowered(model: Model) -> tvm.IRModule:
    """Lower a model as the main job does."""
    check_model(model)
    return lower(mark_inputs(model.module, model.params))


def build_model(model: Model, folder: Path, target: tvm.target.Target = LLVM) -> BuiltModel:
    """Lower and build a model, with kernels in ``folder``."""
    module = lowered(model)
    units = lower_for_target(module, target)
    library = KernelLibrary(folder)
    kernels = library.build(units, target)
    return BuiltModel(
        model=model,
        lowered=module,
        units=units,
        library=library,
        kernels=kernels,
        host=Host(target, kernels.files(), model.params),
        target=target,
    )
