"""How much each call of a unit adds to the calls already chosen, and why the best one does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.carve.select._tensor_facts import DIFFERING
from relax_tapml.carve.select.call_facts import CallFacts, Quantity
from relax_tapml.carve.select.call_work import CallWork

OCTAVE_BYTES = 64 << 10
"""New bytes that are well spent on one octave more of a quantity, or on one minor fact.

A quarter of it leaves MiniLM 2 % fewer bytes, but its largest kernels one case each.
"""

_FRESH_OCTAVES = 4.0  # What other values of the same kind are worth, once.
_RANGE = 0.25  # What a range of values is worth, in octaves: a call has many.
_LEAST_OCTAVES = 0.1  # Less is the same value to people.
_FULL_OCTAVES = 4.0  # More count by their square root: a wild value is not worth all else.


class Coverage:
    """The calls of one unit, those chosen so far, and what the chosen ones cover.

    Parameters
    ----------
    calls
        Facts about each, in the order of recording; at least one.
    sizes
        For each call, the names and bytes of the tensors its case needs.
    values
        For each call, the names of its counted inputs.
    is_fixed
        Whether the model alone decides all inputs; branches then count as minor facts.
    only_moves
        Whether the unit only moves data; then which values it moves does not matter, as long as
        they differ.
    work
        How much each call does; None where all do the same, or where that is not known.
    """

    def __init__(
        self,
        calls: Sequence[CallFacts],
        sizes: Sequence[dict[Any, int]],
        values: Sequence[Collection[Any]],
        *,
        is_fixed: bool,
        only_moves: bool,
        work: Sequence[CallWork] | None = None,
    ) -> None:
        self._calls = calls
        self._sizes = sizes
        self._values = values
        self._only_moves = only_moves
        self._chosen: list[int] = []
        self._seen: set[Any] = set()
        ids: dict[object, int] = {}
        self._signature = np.array([ids.setdefault(c.signature, len(ids)) for c in calls])
        self._extremes = [[] for _ in calls] if work is None else _extremes(work)
        # Where the work is known, it decides which call is the largest.
        self._sized = _most_elements(calls) if work is None else [[] for _ in calls]
        branches: list[set[str]] = [set(sized) for sized in self._sized]
        minor = [set(call.minor | call.ranges) for call in calls]
        for mine, call in zip(minor if is_fixed else branches, calls, strict=True):
            mine |= _differing(call) if only_moves else call.branches
        self._differing = np.array([len(_differing(call)) for call in calls])
        self._branch_names, self._branches = _incidence(branches)
        self._minor_names, self._minor = _incidence(minor)
        ranges = {fact for call in calls for fact in call.ranges}
        self._minor_worth = np.array([_RANGE if n in ranges else 1 for n in self._minor_names])
        self._quantities = [{q.name: q for q in call.quantities} for call in calls]
        self._octave_names, self._octaves = _octaves(self._quantities)
        # Before the first choice, a quantity is worth what it has over the middle of all calls.
        self._best = np.median(self._octaves, axis=0)

    @property
    def lacks_extremes(self) -> bool:
        """Whether no call chosen so far does most, or least, or is special, in some respect."""
        return any(map(self._new_extremes, range(len(self._calls))))

    def next(self, stored: Collection[Any]) -> tuple[int, str] | None:
        """Choose the call that adds most, and return its index and the reason.

        Parameters
        ----------
        stored
            Names of the tensors that are in the suite already, which cost nothing.

        Returns
        -------
        tuple or None
            None if no call adds as much as its new tensors cost.
        """
        branches, minor, gained = self._new()
        worth = np.zeros(len(self._calls))
        if not self._only_moves:
            fresh = _FRESH_OCTAVES / max(1, len(self._chosen)) ** 2
            worth = gained.sum(axis=1) + minor @ self._minor_worth + fresh * self._fresh()
        cost = [_new_bytes(sizes, stored) for sizes in self._sizes]
        net = worth * OCTAVE_BYTES - np.array(cost)
        is_new = ~np.isin(self._signature, self._signature[self._chosen])
        counts = branches.sum(axis=1)
        free = np.ones(len(self._calls), bool)
        free[self._chosen] = False
        # A call with nothing but zeros takes many branches, and hides most errors.
        differing = self._differing if not self._chosen else np.zeros(len(self._calls))
        rank = [sum(e.rank for e in self._new_extremes(call)) for call in range(len(free))]
        # The last key decides first; a stable sort leaves equals in the order of recording.
        order = np.lexsort((-net, -counts, -differing, ~is_new, -np.array(rank), ~free))
        best = int(order[0])
        if not free[best]:
            return None
        is_idle = not is_new[best] and not counts[best] and net[best] <= 0
        if self._chosen and not rank[best] and is_idle:
            return None
        reason = self._reason(best, bool(is_new[best]), branches[best], minor[best], gained[best])
        self._chosen.append(best)
        self._seen.update(self._values[best])
        self._best = self._octaves[self._chosen].max(axis=0)
        return best, reason

    def _new(self) -> tuple[Array, Array, Array]:
        """Return what each call has that the chosen ones lack: branches, minor facts, octaves."""
        chosen = self._chosen
        gained = self._octaves - self._best
        gained[gained < _LEAST_OCTAVES] = 0
        wild = gained > _FULL_OCTAVES
        gained[wild] = np.sqrt(gained[wild] * _FULL_OCTAVES)
        return (
            self._branches & ~self._branches[chosen].any(axis=0),
            self._minor & ~self._minor[chosen].any(axis=0),
            gained,
        )

    def _new_extremes(self, call: int) -> list[_Extreme]:
        """Return in what respects a call does most, or least, and no chosen call does."""
        covered = {extreme for chosen in self._chosen for extreme in self._extremes[chosen]}
        return [extreme for extreme in self._extremes[call] if extreme not in covered]

    def _fresh(self) -> Array:
        return np.array([any(v not in self._seen for v in values) for values in self._values])

    def _reason(self, call: int, is_new: bool, branches: Array, minor: Array, gained: Array) -> str:
        count = len(self._calls)
        if count == 1:
            return "the only call with inputs of its own"
        extremes = [extreme.text for extreme in self._new_extremes(call)]
        if extremes:
            return "; ".join(extremes)
        sized = [fact for fact in self._sized[call] if branches[self._branch_names.index(fact)]]
        others = np.array([name not in sized for name in self._branch_names], bool)
        rare = _rarest(self._branch_names, self._branches, branches & others, count // 2)
        common = _rarest(self._branch_names, self._branches, branches & others, count - 1)
        small = _rarest(self._minor_names, self._minor, minor, count - 1)
        extreme = self._extreme(call, gained)
        if is_new and self._signature.any():
            same = int((self._signature == self._signature[call]).sum())
            shapes = ", ".join(map(str, self._calls[call].signature))
            shape = sized[0] if sized else f"new inputs {shapes} ({same} of {count} calls)"
            return "; ".join(filter(None, (shape, rare)))
        if self._only_moves:
            return rare or f"moves data only: one of {count} calls is as good as all"
        if small and (not extreme or gained.max() < 1):
            extreme = small
        if not self._chosen:
            other = f"the cheapest of {count} calls that are alike"
        else:
            other = f"other values than in the cases before (one of {count} calls)"
        return rare or extreme or common or other

    def _extreme(self, call: int, gained: Array) -> str:
        if not gained.any():
            return ""
        name = self._octave_names[int(gained.argmax())]
        mine = self._quantities[call][name]
        others = [
            quantities[name]
            for index, quantities in enumerate(self._quantities)
            if index != call and name in quantities
        ]
        if not others:
            return f"{name}: {mine.value:.4g}, no other call has any"
        most = max(others, key=_by_octaves)
        if mine.octaves == most.octaves:
            same = sum(other.octaves == mine.octaves for other in others)
            return f"{name}: {mine.value:.4g} (as in {same} of {len(others)} others)"
        if mine.octaves > most.octaves:
            bound = "at least" if name.startswith(("smallest", "lowest")) else "at most"
            return f"{name}: {mine.value:.4g} (others {bound} {most.value:.4g})"
        chosen = [self._quantities[i][name] for i in self._chosen if name in self._quantities[i]]
        if not chosen:
            return f"near the {name}: {mine.value:.4g} (another call has {most.value:.4g})"
        before = max(chosen, key=_by_octaves)
        return f"nearer to the {name}: {mine.value:.4g} (cases before have {before.value:.4g})"


def _by_octaves(quantity: Quantity) -> float:
    return quantity.octaves


def _differing(call: CallFacts) -> set[str]:
    return {fact for fact in call.branches if fact.endswith(DIFFERING)}


@dataclass(frozen=True, kw_only=True)
class _Extreme:
    """A respect in which some calls do most or least, or are special; the first by rank."""

    rank: int
    text: str


def _extremes(work: Sequence[CallWork]) -> list[list[_Extreme]]:
    """Return for each call in what respects it does most or least, where calls differ.

    The state of a KV cache is one, of which each kind is looked for.
    """
    found: list[list[_Extreme]] = [[] for _ in work]
    states = Counter(call.state for call in work if call.state is not None)
    for one, own in zip(work, found, strict=True):
        if len(states) > 1 and one.state is not None:
            own.append(_Extreme(rank=16, text=f"its KV cache: {one.state}"))
    contexts = [call.context for call in work if call.context is not None]
    iterations = [call.iterations for call in work]
    of_context = [(8, "longest", contexts, max), (2, "shortest", contexts, min)]
    of_iterations = [(4, "most", iterations, max), (1, "fewest", iterations, min)]
    for what, respects in (("context", of_context), ("iterations", of_iterations)):
        for rank, name, values, extreme in respects:
            if len(set(values)) < 2:
                continue
            best = extreme(values)
            next_best = extreme(value for value in values if value != best)
            bound = "at most" if extreme is max else "at least"
            text = f"{name} {what}: {best} (others {bound} {next_best})"
            for call, value in enumerate(values):
                if value == best:
                    found[call].append(_Extreme(rank=rank, text=text))
    return found


def _most_elements(calls: Sequence[CallFacts]) -> list[list[str]]:
    """Return for each call whether its inputs are the largest, where sizes differ."""
    *others, most = sorted({call.elements for call in calls})
    if not others:
        return [[] for _ in calls]
    fact = f"largest inputs: {most} values (others at most {others[-1]})"
    return [[fact] if call.elements == most else [] for call in calls]


def _incidence(facts: Sequence[Iterable[str]]) -> tuple[list[str], Array]:
    """Return the names of all facts, and which call has which: bool, (calls, facts)."""
    names = sorted(set().union(*facts))
    columns = {name: column for column, name in enumerate(names)}
    table = np.zeros((len(facts), len(names)), bool)
    for row, held in enumerate(facts):
        table[row, [columns[name] for name in held]] = True
    return names, table


def _octaves(quantities: Sequence[dict[str, Quantity]]) -> tuple[list[str], Array]:
    """Return the names of all quantities, and their octaves: float64, (calls, quantities).

    A call without a quantity gets the least that any call has.
    """
    names = sorted(set().union(*quantities))
    table = np.full((len(quantities), len(names)), np.inf)
    for row, held in enumerate(quantities):
        for column, name in enumerate(names):
            if name in held:
                table[row, column] = held[name].octaves
    least = table.min(axis=0)
    return names, np.where(np.isinf(table), least, table)


def _rarest(names: Sequence[str], table: Array, new: Array, most: int) -> str:
    """Name the new fact that fewest calls have, if at most ``most`` have it, or nothing."""
    held = table.sum(axis=0)
    found = [(int(held[at]), name) for at, name in enumerate(names) if new[at]]
    calls, name = min(found, default=(len(table), ""))
    return f"{name} ({calls} of {len(table)} calls)" if calls <= most else ""


def _new_bytes(sizes: dict[Any, int], stored: Collection[Any]) -> int:
    return sum(nbytes for name, nbytes in sizes.items() if name not in stored)
