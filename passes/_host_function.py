"""Rewrite a function so that its device sites run in region functions, over explicit copies."""

from __future__ import annotations

from collections.abc import Iterator

import tvm
from tvm import relax
from tvm.ir import PrimType, TupleType

from relax_tapml._compat import StringImm

from ._device_protocol import DOWNLOAD, PARAMETER, RUN, UPLOAD
from ._phase_schedule import PhaseSchedule, Region, schedule_phases
from ._region_function import build_region
from ._region_table import RegionTable
from ._rewriting import packed_call, with_bindings, with_body, with_branches
from .assign_sides import DEVICE_SITES_ATTR
from .site import with_sites
from .value_leaves import Leaf, ValueLeaves, pack_leaves
from .weights import Weights


class HostFunction:
    """Rewrites one function and adds its region functions to a table.

    Parameters
    ----------
    mod
        A module without dataflow blocks.
    name
        A function of it that has device sites.
    regions
        Region functions of the module so far.
    is_merged
        Whether device sites that can run in one call do.
    """

    def __init__(
        self, mod: tvm.IRModule, name: str, regions: RegionTable, *, is_merged: bool = True
    ) -> None:
        self._mod = mod
        self._name = name
        self._function = mod[name]
        self._device_sites = set(map(str, self._function.attrs[DEVICE_SITES_ATTR]))
        self._weights = Weights(self._function, mod)
        self._leaves = ValueLeaves()
        self._regions = regions
        self._is_merged = is_merged

    def rewrite(self) -> relax.Function:
        """Return the host's function, which calls regions by name."""
        new = with_body(self._function, self._sequence(self._function.body))
        return new.without_attr(DEVICE_SITES_ATTR)

    def branch(self, seq: relax.SeqExpr) -> relax.SeqExpr:
        """Rewrite a branch. Values from outside are roots in it, since the host has bound them."""
        outside = self._leaves
        self._leaves = outside.of_parameters(self._function.params)
        rewritten = self._sequence(seq)
        self._leaves = outside
        return rewritten

    def add_region(self, region: relax.Function) -> str:
        """Keep a region function and return the name it is called by."""
        return self._regions.add(region, self._name)

    def _sequence(self, seq: relax.SeqExpr) -> relax.SeqExpr:
        schedule = schedule_phases(
            seq, self._leaves, self._mod, self._device_sites, is_merged=self._is_merged
        )
        writer = _SequenceWriter(self, schedule, self._leaves, self._weights)
        return with_bindings(seq, writer.write())


class _SequenceWriter:
    """Emits the host's bindings of one sequence, with the region calls and copies between them."""

    def __init__(
        self, function: HostFunction, schedule: PhaseSchedule, leaves: ValueLeaves, weights: Weights
    ) -> None:
        self._function = function
        self._schedule = schedule
        self._leaves = leaves
        self._weights = weights
        self._device_vars = schedule.device_vars
        self._read_in: dict[Leaf, set[int]] = {}
        for phase, region in schedule.regions.items():
            for binding in region.bindings:
                for leaf in schedule.reads[binding.var]:
                    self._read_in.setdefault(leaf, set()).add(phase)
        self._read_on_host = {
            leaf for var in self._schedule.wanted for leaf in self._leaves.of(var)
        }
        self._on_device: dict[Leaf, relax.Var] = {}
        self._on_host: dict[Leaf, relax.Var] = {}

    def write(self) -> Iterator[relax.Binding]:
        schedule = self._schedule
        by_phase: dict[int, list[relax.Binding]] = {}
        for binding in schedule.order:
            phase = schedule.phase.get(binding.var)
            if phase is None and binding.var in self._schedule.wanted:
                phase = self._rename_phase(binding)
            if phase is not None:
                by_phase.setdefault(phase, []).append(binding)
        for phase, bindings in sorted(by_phase.items()):
            if phase in schedule.regions:
                yield from self._region(phase, schedule.regions[phase])
                continue
            for binding in bindings:
                if binding.var in schedule.phase:
                    yield self._descend(binding)
                    if binding.var in schedule.writes:
                        self._forget_copies(binding)
                else:
                    yield from self._rename(binding)

    def _forget_copies(self, binding: relax.Binding) -> None:
        """Forget the device's copies of values that the host may have written to."""
        for leaf in self._schedule.reads[binding.var]:
            self._on_device.pop(leaf, None)

    def _descend(self, binding: relax.Binding) -> relax.Binding:
        value = binding.value
        if not isinstance(value, relax.If):
            return binding
        branches = map(self._function.branch, (value.true_branch, value.false_branch))
        return relax.VarBinding(binding.var, with_branches(value, *branches))

    def _rename_phase(self, binding: relax.Binding) -> int:
        phases = [
            self._schedule.phase.get(leaf.root, 0) + (leaf.root in self._device_vars)
            for leaf in self._leaves.of(binding.var)
        ]
        return max(phases, default=0)

    def _rename(self, binding: relax.Binding) -> Iterator[relax.Binding]:
        leaves = self._leaves.of(binding.var)
        roots = {leaf.root for leaf in leaves}
        # The renamed value may have been bound in a later phase, or not at all.
        if roots.isdisjoint(self._device_vars) and roots.issuperset(
            relax.analysis.free_vars(binding.value)
        ):
            yield binding
        else:
            yield from self._bind_from_leaves(binding.var, leaves)

    def _bind_from_leaves(self, var: relax.Var, leaves: list[Leaf]) -> Iterator[relax.Binding]:
        """Bind a variable to host copies of device values."""
        if leaves == [Leaf(var)] and leaves[0] not in self._on_host:
            yield relax.VarBinding(var, packed_call(DOWNLOAD, [self._on_device[leaves[0]]], var.ty))
            self._on_host[leaves[0]] = var
            return
        copies: list[relax.Expr] = []
        for leaf in leaves:
            if leaf.root not in self._device_vars:
                item, bindings = leaf.access()
                yield from bindings
                copies.append(item)
            else:
                yield from self._download(leaf)
                copies.append(self._on_host[leaf])
        yield relax.VarBinding(var, pack_leaves(var.ty, iter(copies)))

    def _download(self, leaf: Leaf) -> Iterator[relax.Binding]:
        if leaf in self._on_host:
            return
        copy = relax.Var(f"{leaf.root.name}_host", leaf.type)
        yield relax.VarBinding(copy, packed_call(DOWNLOAD, [self._on_device[leaf]], leaf.type))
        self._on_host[leaf] = copy

    def _region(self, phase: int, region: Region) -> Iterator[relax.Binding]:
        outputs = self._outputs(phase, region)
        built = build_region(region, outputs, self._leaves)
        name = self._function.add_region(built.function)
        for leaf in built.inputs:
            yield from self._send(leaf)
        args = [self._on_device[leaf] for leaf in built.inputs]
        handles_ty = TupleType([relax.ObjectType() for _ in outputs])
        result = relax.Var("result", handles_ty)
        run = packed_call(RUN, [StringImm(name), *args, *built.shape_args], handles_ty)
        yield relax.VarBinding(result, with_sites(run, region.sites))
        for index, leaf in enumerate(outputs):
            handle = relax.Var(f"{leaf.root.name}_device", relax.ObjectType())
            yield relax.VarBinding(handle, relax.TupleGetItem(result, index))
            self._on_device[leaf] = handle
        for binding in region.bindings:
            if binding.var in self._schedule.wanted:
                yield from self._bind_from_leaves(binding.var, self._leaves.of(binding.var))

    def _send(self, leaf: Leaf) -> Iterator[relax.Binding]:
        if leaf in self._on_device:
            return
        handle = relax.Var(f"{leaf.root.name}_device", relax.ObjectType())
        weight = self._weights.name(leaf)
        if weight is not None:
            call = packed_call(PARAMETER, [StringImm(weight)], relax.ObjectType())
        else:
            copy = self._on_host.get(leaf)
            value, bindings = leaf.access() if copy is None else (copy, [])
            yield from bindings
            if isinstance(leaf.type, relax.ShapeType | PrimType):
                self._on_device[leaf] = value
                return
            call = packed_call(UPLOAD, [value], relax.ObjectType())
        yield relax.VarBinding(handle, call)
        self._on_device[leaf] = handle

    def _outputs(self, phase: int, region: Region) -> list[Leaf]:
        """Return the leaves of a region that something outside it reads."""
        return [
            leaf
            for binding in region.bindings
            for leaf in self._leaves.of(binding.var)
            if leaf in self._read_on_host or self._read_in.get(leaf, set()) - {phase}
        ]
