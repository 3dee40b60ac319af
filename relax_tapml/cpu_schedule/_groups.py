"""Which nests of a kernel are computed together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from relax_tapml._compat import TensorLoad, buffer_of
from relax_tapml.cpu_schedule._nests import Kernel, Nest, same
from relax_tapml.cpu_schedule._registers import Registers
from relax_tapml.cpu_schedule._tile_plan import TilePlan, tile_plan

# With fewer rows than this, the threads get more to do from the loops of single nests.
_LEAST_ROWS = 16


@dataclass(frozen=True, kw_only=True)
class Group:
    """Nests that are computed together, row by row, or one nest.

    Parameters
    ----------
    nests
        In order.
    depth
        How many leading spatial axes are the same in all of them and enumerate the rows; 0 for a
        group of one nest.
    plan
        The tiles in which the only nest is computed; None for others.
    producer
        The nest that is computed while the tiles' operand is packed.
    """

    nests: tuple[Nest, ...]
    depth: int = 0
    plan: TilePlan | None = None
    producer: Nest | None = None


def groups_of(kernel: Kernel, registers: Registers) -> list[Group]:
    """Return all nests of a kernel in groups, in an order that keeps what each nest reads."""
    plans = [tile_plan(nest, registers, kernel.root.alloc_buffers) for nest in kernel.nests]
    producers = {
        number: source
        for number, plan in enumerate(plans)
        if plan is not None and (source := _producer(kernel, number, plan)) is not None
    }
    done_inside = set(producers.values())
    groups: list[Group] = []
    pending: list[Nest] = []
    for number, (nest, plan) in enumerate(zip(kernel.nests, plans, strict=True)):
        if number in done_inside:
            continue
        if plan is None:
            pending.append(nest)
            continue
        groups += _row_groups(pending)
        pending = []
        source = producers.get(number)
        producer = None if source is None else kernel.nests[source]
        groups.append(Group(nests=(nest,), plan=plan, producer=producer))
    return groups + _row_groups(pending)


def _producer(kernel: Kernel, number: int, plan: TilePlan) -> int | None:
    """Return the nest that does nothing but compute what a plan packs, element by element."""
    if not isinstance(plan.packed, TensorLoad):
        return None
    buffer = buffer_of(plan.packed)
    if not any(buffer.same_as(inner) for inner in kernel.root.alloc_buffers):
        return None
    users = [at for at, nest in enumerate(kernel.nests) if buffer in nest.touched]
    if len(users) != 2 or users[1] != number:
        return None
    nest = kernel.nests[users[0]]
    between = kernel.nests[users[0] + 1 : number + 1]
    if any(other.written & nest.touched for other in between):
        return None
    is_plain = isinstance(nest.body, tirx.BufferStore) and not nest.reductions and nest.init is None
    return users[0] if is_plain else None


def _row_groups(nests: Sequence[Nest]) -> list[Group]:
    """Return nests in groups; one that others do not need may come before a group it lies in."""
    groups: list[Group] = []
    left = list(nests)
    while left:
        rows = _Rows(left.pop(0))
        ahead: list[Nest] = []
        while left:
            nest = left[0]
            if rows.take(nest):
                left.pop(0)
            elif rows.is_independent(nest):
                ahead.append(left.pop(0))
            else:
                break
        groups += _row_groups(ahead)
        groups.append(rows.group())
    return groups


class _Rows:
    """Nests that share rows; they are taken one by one."""

    def __init__(self, nest: Nest) -> None:
        self._nests = [nest]
        self._depth = _most(nest)

    def group(self) -> Group:
        """Return what was taken."""
        is_single = len(self._nests) == 1
        return Group(nests=tuple(self._nests), depth=0 if is_single else self._depth)

    def take(self, nest: Nest) -> bool:
        """Take a nest if it has the same rows; False if it stays out."""
        taken = [*self._nests, nest]
        for depth in range(min(self._depth, _most(nest)), 0, -1):
            axes = nest.spatial[:depth]
            if math.prod(axis.size for axis in axes) < _LEAST_ROWS:
                return False
            if _share_rows(taken, depth):
                self._nests, self._depth = taken, depth
                return True
        return False

    def is_independent(self, nest: Nest) -> bool:
        """Whether a nest may be computed before all that were taken."""
        return not any(
            nest.written & other.touched or nest.touched & other.written for other in self._nests
        )


def _most(nest: Nest) -> int:
    """Return how many leading axes may be rows: loops of single elements stay in each nest."""
    leading = 0
    for axis in nest.axes:
        if axis.is_reduction:
            break
        leading += 1
    return leading if nest.reductions else max(leading - 1, 1)


def _share_rows(nests: Sequence[Nest], depth: int) -> bool:
    """Whether nests have the same rows, and use of each other's results those of their row."""
    if any(len(nest.spatial) < depth for nest in nests):  # A nest of one element has no loop.
        return False
    first = nests[0].spatial[:depth]
    for nest in nests[1:]:
        if not all(
            same(a.extent, b.extent) for a, b in zip(first, nest.spatial[:depth], strict=True)
        ):
            return False
    written = frozenset[Any]().union(*(nest.written for nest in nests))
    return all(row_places(nests, buffer, depth) is not None for buffer in written)


def row_places(nests: Sequence[Nest], buffer: Any, depth: int) -> tuple[int, ...] | None:
    """Return which dimensions of a buffer the rows of nests are; None if they are not the same.

    The number of a dimension for each of the first ``depth`` axes.
    """
    places: set[tuple[int, ...]] = set()
    for nest in nests:
        rows = [axis.var for axis in nest.spatial[:depth]]
        for touched, indices in nest.accesses:
            if not touched.same_as(buffer):
                continue
            at = [
                next((n for n, index in enumerate(indices) if index.same_as(row)), None)
                for row in rows
            ]
            if None in at:
                return None
            places.add(tuple(number for number in at if number is not None))
    return places.pop() if len(places) == 1 else None
