"""Lower a model to units and sites."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tvm

from relax_tapml.bringup.ir_dump import NO_DUMP, IrDump
from relax_tapml.files.read import MAX_JSON_BYTES, read_bytes
from relax_tapml.foreign.module import allow_calls_of, read_module
from relax_tapml.frontend.model import Model
from relax_tapml.frontend.signature import check_model
from relax_tapml.partition.boundary import Boundary
from relax_tapml.partition.lower import lower, lowering_notes, mark_inputs
from relax_tapml.partition.site_table import SiteEntry, site_table
from relax_tapml.passes.assign_sides import host_only_sites
from relax_tapml.passes.notes import Note
from relax_tapml.progress import SILENT, Stage
from relax_tapml.report.quantities import count_text, size_text


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """A lowered module: every operator call is a named call of a unit. Both sides start from it.

    Parameters
    ----------
    module
        Without weights; it looks at no target.
    entry
        The function that a sample is given to. Its units come first.
    """

    module: tvm.IRModule
    entry: str = "main"

    @cached_property
    def table(self) -> tuple[SiteEntry, ...]:
        """Every site: the entry function's first, each function's in program order."""
        entries = site_table(self.module)
        return tuple(sorted(entries, key=lambda entry: entry.site.function != self.entry))

    @cached_property
    def units(self) -> Mapping[str, int]:
        """How many sites each unit has, in a topological order of the entry function's units."""
        return Counter(entry.site.unit for entry in self.table)

    @cached_property
    def host_only(self) -> Mapping[str, str]:
        """The sites that cannot leave the host: id to reason."""
        return dict(host_only_sites(self.module))

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was done to it: passes that failed and were left out, kernels set right."""
        return tuple(lowering_notes(self.module))


def lower_model(
    model: Model,
    boundary: Boundary | None = None,
    dump: IrDump = NO_DUMP,
    stage: Stage = SILENT,
) -> Lowered:
    """Lower a model; see ``partition.lower``.

    Parameters
    ----------
    model
        Module, weights and samples.
    boundary
        That shall be used; it must name what the model has.
    dump
        Gets the module after each pass.
    stage
        Shows the progress.

    Raises
    ------
    UsageError
        Module, parameters or samples do not fit each other, or the boundary not the model.
    LoweringError
        A pass raised, or the module has no operator call.
    """
    check_model(model)
    with dump.phase("lower"):
        module = lower(mark_inputs(model.module, model.params))
    # What the model calls its suite may call.
    allow_calls_of(module)
    lowered = Lowered(module=module, entry=model.entry)
    if boundary is not None:
        boundary.among(lowered.table)
    for note in lowered.notes:
        if not note.kernels:
            stage.say(note.text)
    stage.say(lowered_text(model, lowered))
    return lowered


def lowered_text(model: Model, lowered: Lowered) -> str:
    """Return how large a model is, for people."""
    weights_bytes = sum(array.nbytes for array in model.params.values())
    return (
        f"{model.name}: {count_text(len(lowered.units), 'unit')}, "
        f"{count_text(len(lowered.table), 'site')}, {size_text(weights_bytes)} of parameters"
    )


def read_lowered(path: Path, *, entry: str = "main", trust: bool = False) -> Lowered:
    """Read ``lowered.json`` of an output folder.

    Raises
    ------
    StoreError
        The file is damaged, or calls what is not known to be harmless and ``trust`` is false.
    """
    fix = "Run the build again"
    data = read_bytes(path, fix=fix, max_bytes=MAX_JSON_BYTES)
    return Lowered(module=read_module(data, str(path), fix=fix, trust=trust), entry=entry)
