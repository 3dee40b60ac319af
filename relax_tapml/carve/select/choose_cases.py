"""Which of the recorded calls become test cases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from relax_tapml.arrays import Array
from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import CallRecord, ParameterValue
from relax_tapml.carve.select._coverage import Coverage
from relax_tapml.carve.select._recorded_tensors import RecordedTensors
from relax_tapml.carve.select.call_facts import Recorded, call_facts, tensors
from relax_tapml.carve.select.call_work import UnitWork
from relax_tapml.passes.site import Site

LARGE_WEIGHT, MOST_WEIGHTS = 1 << 20, 3
"""Of units that take large weights alone, of so many values, so many calls of each shape are
compared."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One recorded call, chosen to test its unit.

    Parameters
    ----------
    unit
        Name of the unit it calls.
    record
        The call: inputs, and outputs as the oracle.
    reason
        Why this call was chosen, a sentence.
    fixed
        Positions of the inputs that the model alone decides: weights, and what is computed from
        weights only.
    """

    unit: str
    record: CallRecord
    reason: str
    fixed: frozenset[int] = frozenset()


def choose_cases(
    store: CaptureStore,
    sites: Iterable[Site],
    per_unit: int = 3,
    *,
    work: UnitWork | None = None,
) -> list[Case]:
    """Pick a few calls of each unit that cover what all its calls cover.

    A call is described by facts. Call after call is picked that adds most to those picked before,
    by these rules; the first in which two calls differ decides:

    1. It finds its KV cache in a state of another kind: another number of sequences, shared tokens,
       a window; see ``CacheState.kind``. Or it does most or least of all calls: it has the longest
       context, the most iterations, the shortest context, the fewest iterations; see ``CallWork``.
       A fault in a loop may appear beyond some length only, and the sizes of tensors do not show
       how much of a KV cache is in use. Where the work of a kernel is not known, the largest inputs
       are one of the branches of rule 3.
    2. It has input dtypes, shapes or scalars not seen yet.
    3. It has most branches not seen yet: NaN, infinities, masks and their edges, rows of zeros,
       one value throughout, the first or last index of a table, in its inputs and outputs. The
       first case is one of those whose tensors hold differing values, as many of them as can.
    4. It is worth most for its bytes: an octave by which it exceeds the cases before in a quantity
       (largest and smallest magnitude, lowest peak, cancellation, distinct integers), or a minor
       fact (zeros, denormals, values of one sign), pays for ``OCTAVE_BYTES`` of tensors that are
       not in the suite yet; values between two powers of two where there were none pay for a
       quarter of that. Other values of the same kind pay for four octaves in the second case, and
       for one in the third.
    5. It was recorded first.

    A unit gets no further case once nothing is left but calls that cost more than they add. So
    units that only move data, such as the transpose of a weight, get one case for each shape, and
    the cases of a unit that takes a weight share one weight and differ in their activations.

    Fixed tensors, which the model alone decides, count by shape only; their values count, by rule
    4, in units that take no others; of large ones, few calls are looked at. See ``TensorFacts``
    and ``call_facts`` for all facts.

    Parameters
    ----------
    store
        Where the calls were recorded. Each tensor whose values count is read once; the tensors of
        two calls of a unit that seems to move data are read again.
    sites
        The sites to choose for, in the order in which they run.
    per_unit
        At most this many cases for a unit, at least one; more where rule 1 needs more, unless
        it is 1.
    work
        Counts how much calls do; without it rule 1 applies to none.

    Returns
    -------
    list of Case
        Unit by unit, in the order of ``sites``; the same store always gives the same. Calls that
        never returned are not picked, nor are two calls of a unit with the same inputs. A unit
        that was never called has no case.
    """
    if per_unit < 1:
        raise ValueError(f"per_unit: expected at least 1, got {per_unit}")
    by_unit: dict[str, list[Site]] = {}
    for site in sites:
        by_unit.setdefault(site.unit, []).append(site)
    recorded = RecordedTensors(store)
    stored: set[Recorded] = set()
    cases: list[Case] = []
    for unit, unit_sites in by_unit.items():
        distinct = _distinct(store, unit_sites)
        if not distinct:
            continue
        recorded.add(distinct)
        records = _few_of_weights(distinct, recorded)
        coverage = _coverage(records, recorded, store, work)
        count = 0
        while count < per_unit or (per_unit > 1 and coverage.lacks_extremes):
            count += 1
            chosen = coverage.next(stored)
            if chosen is None:
                break
            index, reason = chosen
            record = records[index]
            stored.update(_all_tensors(record))
            fixed = frozenset(_fixed(record, recorded))
            cases.append(Case(unit=unit, record=record, reason=reason, fixed=fixed))
    return cases


def _distinct(store: CaptureStore, sites: Sequence[Site]) -> list[CallRecord]:
    """Return the returned calls of some sites, the first of each set with the same inputs."""
    records: dict[str, CallRecord] = {}
    for site in sites:
        for record in store.calls(site=site.id):
            if record.outputs is not None:
                # By text, because 1 == 1.0 == True, and NaN is not itself.
                records.setdefault(repr(record.inputs), record)
    return list(records.values())


def _few_of_weights(
    records: Sequence[CallRecord], recorded: RecordedTensors
) -> Sequence[CallRecord]:
    """Leave out calls on large tensors that the model alone decides, of which layers have many.

    Those of the first layers and the last stay, of each shape: reading the weights of all layers
    takes long, and a unit that takes nothing else has few cases.
    """
    shapes: dict[tuple[str, ...], list[CallRecord]] = {}
    for record in records:
        layouts = [recorded.layouts[value] for value in tensors(record.inputs)]
        is_large = any(math.prod(layout.shape) > LARGE_WEIGHT for layout in layouts)
        if not is_large or any(True for _ in _varying([record], recorded)):
            return records
        shapes.setdefault(tuple(map(str, layouts)), []).append(record)
    return [
        record
        for same in shapes.values()
        for record in (same if len(same) <= MOST_WEIGHTS else [*same[: MOST_WEIGHTS - 1], same[-1]])
    ]


def _coverage(
    records: Sequence[CallRecord],
    recorded: RecordedTensors,
    store: CaptureStore,
    work: UnitWork | None,
) -> Coverage:
    counted = set(_varying(records, recorded))
    is_fixed = not counted
    if is_fixed:
        counted = set(range(max(len(record.inputs) for record in records)))
    values = [
        tensors(tuple(value for place, value in enumerate(record.inputs) if place in counted))
        for record in records
    ]
    outputs = [tensors(record.outputs) for record in records]
    recorded.read(value for some in (*values, *outputs) for value in some)
    layouts = recorded.layouts

    def read(value: Recorded) -> Array:
        if isinstance(value, ParameterValue):
            return store.parameter(value.name)
        return store.tensor(value.digest)

    return Coverage(
        [call_facts(record, counted, layouts, recorded.facts) for record in records],
        [{v: layouts[v].nbytes for v in _all_tensors(record)} for record in records],
        values,
        is_fixed=is_fixed,
        only_moves=recorded.only_moves(records),
        work=None if work is None else work.of(records, layouts, read),
    )


def _varying(records: Sequence[CallRecord], recorded: RecordedTensors) -> Iterator[int]:
    """Yield the positions of inputs that are not fixed in every call."""
    for record in records:
        yield from set(range(len(record.inputs))).difference(_fixed(record, recorded))


def _fixed(record: CallRecord, recorded: RecordedTensors) -> Iterator[int]:
    """Yield the positions of inputs that the model alone decides."""
    for place, value in enumerate(record.inputs):
        if all(recorded.is_fixed(tensor) for tensor in tensors((value,))):
            yield place


def _all_tensors(record: CallRecord) -> list[Recorded]:
    return tensors(record.inputs) + tensors(record.outputs)
