"""Schedule bindings so that the program changes sides as rarely as possible."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import tvm
from tvm import relax

from .operator_call import may_write, operator_call
from .site import Site, site_of
from .value_leaves import Leaf, ValueLeaves, bindings_in


@dataclass
class Region:
    """The device sites of one phase, and the variables they are bound to."""

    bindings: list[relax.Binding] = field(default_factory=list)
    produced: set[relax.Var] = field(default_factory=set)

    @property
    def sites(self) -> list[Site]:
        """The sites, in order."""
        return [site for b in self.bindings if (site := site_of(b.value)) is not None]


@dataclass
class PhaseSchedule:
    """The bindings of one sequence, each with the phase it runs in.

    Even phases run on the host, odd ones on the device. A value of one side is available to the
    other side in the next phase.

    Parameters
    ----------
    order
        All bindings, in program order.
    phase
        The phase of each binding by its variable; those that only rename have none.
    renames
        Bindings that only rename, pack or unpack.
    regions
        The device sites by phase.
    reads
        The leaves each binding reads.
    writes
        Bindings that may change their arguments in place.
    has_order
        Whether any binding must keep its place among the others.
    wanted
        Variables that the host reads, without the variables that these rename or pack.
    """

    order: list[relax.Binding]
    phase: dict[relax.Var, int] = field(default_factory=dict)
    renames: list[relax.Binding] = field(default_factory=list)
    regions: dict[int, Region] = field(default_factory=dict)
    reads: dict[relax.Var, list[Leaf]] = field(default_factory=dict)
    writes: set[relax.Var] = field(default_factory=set)
    has_order: bool = False
    wanted: set[relax.Var] = field(default_factory=set)

    @property
    def device_vars(self) -> set[relax.Var]:
        """Variables that are bound to device sites."""
        return {var for region in self.regions.values() for var in region.produced}


def schedule_phases(
    seq: relax.SeqExpr,
    leaves: ValueLeaves,
    mod: tvm.IRModule,
    device_sites: Collection[str],
    *,
    is_merged: bool = True,
) -> PhaseSchedule:
    """Give every binding of a sequence a phase.

    Placing each binding as early as its operands allow makes the number of phases, and so of
    regions, as small as the longest alternation of sides in the data flow. Host bindings are then
    moved as late as their readers allow, so that no value is kept for longer than in the original
    program (mainly transposed weights). Calls that may write, calls with other effects, and
    bindings that define symbolic dimensions keep their place.

    Parameters
    ----------
    seq
        A sequence without dataflow blocks.
    leaves
        Resolves the outer values of the sequence; renamings in the sequence are added to it.
    mod
        The module it is in.
    device_sites
        Ids of the sites on the device.
    is_merged
        Whether device sites of one phase are one region; otherwise each site is one.
    """
    schedule = _as_early_as_possible(seq, leaves, mod, device_sites)
    schedule.wanted = _wanted_on_host(schedule, seq.body)
    if not schedule.has_order:
        _delay_host_bindings(schedule, seq.body, leaves)
    if not is_merged:
        _part_regions(schedule)
    return schedule


def _as_early_as_possible(
    seq: relax.SeqExpr, leaves: ValueLeaves, mod: tvm.IRModule, device_sites: Collection[str]
) -> PhaseSchedule:
    schedule = PhaseSchedule(order=[b for block in seq.blocks for b in block.bindings])
    side: dict[relax.Var, bool] = {}
    readers: dict[relax.Var, list[relax.Var]] = {}
    writer: dict[relax.Var, relax.Var] = {}
    barrier: relax.Var | None = None
    for binding in schedule.order:
        var = binding.var
        if leaves.bind(binding):
            schedule.renames.append(binding)
            continue
        on_device = _is_on_device(binding, device_sites)
        reads = [
            leaf for read in relax.analysis.free_vars(binding.value) for leaf in leaves.of(read)
        ]
        roots = {leaf.root for leaf in reads if isinstance(leaf.root, relax.Var)}
        schedule.reads[var] = reads
        after = {root for root in roots if root in schedule.phase}
        after.update(writer[root] for root in roots if root in writer)
        if barrier is not None:
            after.add(barrier)
        if _may_write(binding, mod):
            schedule.writes.add(var)
            for root in roots:
                after.update(readers.get(root, ()))
                writer[root] = var
            schedule.has_order |= bool(roots)
        # Host bindings with effects, and those that define symbolic dimensions, keep their
        # place among all that follow.
        if not on_device and (var in schedule.writes or _has_place(binding)):
            barrier = var
            schedule.has_order = True
        phase = int(on_device)
        for earlier in after:
            phase = max(phase, schedule.phase[earlier] + (side[earlier] != on_device))
        schedule.phase[var] = phase
        side[var] = on_device
        for root in roots:
            readers.setdefault(root, []).append(var)
        if on_device:
            region = schedule.regions.setdefault(phase, Region())
            region.bindings.append(binding)
            region.produced.add(var)
    return schedule


def _wanted_on_host(schedule: PhaseSchedule, result: relax.Expr) -> set[relax.Var]:
    device = schedule.device_vars
    wanted = set(relax.analysis.free_vars(result))
    for binding in schedule.order:
        if binding.var in schedule.phase and binding.var not in device:
            wanted.update(relax.analysis.free_vars(binding.value))
    return wanted


def _delay_host_bindings(schedule: PhaseSchedule, result: relax.Expr, leaves: ValueLeaves) -> None:
    device = schedule.device_vars
    last = max(schedule.phase.values(), default=0)
    last += last % 2
    kept = [
        *relax.analysis.free_vars(result),
        *(b.var for b in schedule.renames if b.var in schedule.wanted),
    ]
    latest = {leaf.root: last for var in kept for leaf in leaves.of(var)}
    for binding in reversed(schedule.order):
        var = binding.var
        if var not in schedule.phase:
            continue
        if var not in device:
            schedule.phase[var] = max(schedule.phase[var], latest.get(var, schedule.phase[var]))
        ready_by = schedule.phase[var] - (var in device)
        for leaf in schedule.reads[var]:
            latest[leaf.root] = min(latest.get(leaf.root, last), ready_by)


def _part_regions(schedule: PhaseSchedule) -> None:
    """Give every device site an odd phase of its own, in the order of the program."""
    room = 2 * max((len(region.bindings) for region in schedule.regions.values()), default=1)
    schedule.phase = {var: phase * room for var, phase in schedule.phase.items()}
    merged, schedule.regions = schedule.regions, {}
    for phase, region in merged.items():
        for index, binding in enumerate(region.bindings):
            own = phase * room + 2 * index + 1
            schedule.phase[binding.var] = own
            schedule.regions[own] = Region(bindings=[binding], produced={binding.var})


def _is_on_device(binding: relax.Binding, device_sites: Collection[str]) -> bool:
    if not isinstance(binding, relax.VarBinding) or not isinstance(binding.value, relax.Call):
        return False
    site = site_of(binding.value)
    return site is not None and site.id in device_sites


def _may_write(binding: relax.Binding, mod: tvm.IRModule) -> bool:
    value = binding.value
    if isinstance(value, relax.If):
        branches = (value.true_branch, value.false_branch)
        return any(_may_write(b, mod) for branch in branches for b in bindings_in(branch))
    if not isinstance(value, relax.Call):
        return False
    return may_write(value, operator_call(value, mod))


def _has_place(binding: relax.Binding) -> bool:
    """Return whether a binding that writes to no value must keep its place nevertheless."""
    value = binding.value
    return isinstance(binding, relax.MatchCast) or isinstance(value, relax.If) or _is_effect(value)


def _is_effect(value: relax.Expr) -> bool:
    return (
        isinstance(value, relax.Call)
        and isinstance(value.op, tvm.ir.Op)
        and value.op.name in ("relax.assert_op", "relax.print")
    )
