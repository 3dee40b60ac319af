"""Which of the recorded calls become test cases."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import CallRecord, ParameterValue, TensorValue, Value
from relax_tapml.frontend.model import Array
from relax_tapml.passes.site import Site


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
        Why this call was chosen, for people.
    """

    unit: str
    record: CallRecord
    reason: str


def choose_cases(store: CaptureStore, sites: Iterable[Site], per_unit: int = 3) -> list[Case]:
    """Pick a few calls of each unit.

    One call after the other is picked that adds most to those already picked: input shapes or
    dtypes not seen yet come first, then a site not seen yet, then the widest range of input
    values, then the order in which the calls were recorded. So extreme values are preferred
    everywhere, and the same store always gives the same cases.

    Parameters
    ----------
    store
        Where the calls were recorded. Each distinct activation is read once.
    sites
        The sites to choose for.
    per_unit
        At most this many cases for a unit, at least one.

    Returns
    -------
    list of Case
        Unit by unit, in the order of ``sites``. Calls that never returned are not picked, nor are
        two calls of a unit with the same inputs. A unit that was never called has no case.
    """
    if per_unit < 1:
        raise ValueError(f"per_unit: expected at least 1, got {per_unit}")
    by_unit: dict[str, list[Site]] = {}
    for site in sites:
        by_unit.setdefault(site.unit, []).append(site)
    spans = _Spans(store)
    return [
        case
        for unit, unit_sites in by_unit.items()
        for case in _pick(unit, _distinct(store, unit_sites), spans, per_unit)
    ]


def _distinct(store: CaptureStore, sites: Sequence[Site]) -> list[CallRecord]:
    """Return the returned calls of some sites, the first of each set with the same inputs."""
    records: dict[object, CallRecord] = {}
    for site in sites:
        for record in store.calls(site=site.id):
            if record.outputs is not None:
                records.setdefault(record.inputs, record)
    return list(records.values())


def _pick(unit: str, records: Sequence[CallRecord], spans: _Spans, per_unit: int) -> list[Case]:
    remaining = [(record, spans.signature(record), spans.width(record)) for record in records]
    signatures: set[object] = set()
    sites: set[str] = set()
    cases: list[Case] = []
    while remaining and len(cases) < per_unit:
        # `max` returns the first of equals, so the order of recording decides last.
        best = max(
            remaining,
            key=lambda item: (item[1] not in signatures, item[0].site not in sites, item[2]),
        )
        remaining.remove(best)
        record, signature, _ = best
        if signature not in signatures:
            reason = "new input shapes"
        elif record.site not in sites:
            reason = "new site"
        else:
            reason = "widest input values of the remaining calls"
        signatures.add(signature)
        sites.add(record.site)
        cases.append(Case(unit=unit, record=record, reason=reason))
    return cases


class _Spans:
    """What there is to tell recorded inputs apart by, each tensor read once."""

    def __init__(self, store: CaptureStore) -> None:
        self._store = store
        self._spans: dict[str, float] = {}
        self._weights: dict[str, tuple[object, ...]] = {}

    def signature(self, record: CallRecord) -> tuple[object, ...]:
        """Return the inputs without the numbers in their tensors."""
        return tuple(self._describe(value) for value in record.inputs)

    def _describe(self, value: Value) -> object:
        if isinstance(value, TensorValue):
            return value.dtype, value.shape
        if isinstance(value, ParameterValue):
            if value.name not in self._weights:
                array = self._store.parameter(value.name)
                self._weights[value.name] = (array.dtype.name, array.shape)
            return self._weights[value.name]
        return value

    def width(self, record: CallRecord) -> float:
        """Return the sum over activations of the logarithm of the range of finite values.

        A sum of logarithms, so that a mask of -3.4e38 does not hide what the others do.
        """
        return math.fsum(
            math.log1p(self._span(value.digest))
            for value in record.inputs
            if isinstance(value, TensorValue)
        )

    def _span(self, digest: str) -> float:
        if digest not in self._spans:
            self._spans[digest] = _span(self._store.tensor(digest))
        return self._spans[digest]


def _span(array: Array) -> float:
    # Exact enough to rank by: integers beyond 2**53 round.
    values = array.astype(np.float64, copy=False).ravel()
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0
    return min(float(finite.max()) - float(finite.min()), sys.float_info.max)
