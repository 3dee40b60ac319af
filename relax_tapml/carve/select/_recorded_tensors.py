"""The tensors of a capture store while cases are chosen: layouts, facts, and what is fixed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.capture.host_tensor import numpy_dtype, packed_bytes
from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import CallRecord, ParameterValue, TensorValue
from relax_tapml.carve.select._tensor_facts import DIFFERING, TensorFacts, tensor_facts
from relax_tapml.carve.select.call_facts import Layout, Recorded, tensors
from relax_tapml.carve.select.tensor_statistics import CHUNK, MOST_VALUES

_COMPARED_BYTES = 64 << 20
_ODD = np.uint64(0x9E3779B97F4A7C15)
_MIXERS = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)


class RecordedTensors:
    """What is known about the tensors of a store, each of them read once.

    A tensor is *fixed* if the model alone decides it: it is a parameter, or was computed from
    fixed tensors only, such as the transpose of a weight. The values of fixed tensors differ
    between the layers that call a unit, not between runs.
    """

    def __init__(self, store: CaptureStore) -> None:
        self._store = store
        self._fixed: set[Recorded] = set()
        self._layouts: dict[Recorded, Layout] = {}
        self._facts: dict[Recorded, TensorFacts] = {}

    @property
    def layouts(self) -> Mapping[Recorded, Layout]:
        """Of the tensors of all calls given to ``add``."""
        return self._layouts

    @property
    def facts(self) -> Mapping[Recorded, TensorFacts]:
        """Of the tensors given to ``read``."""
        return self._facts

    def add(self, records: Iterable[CallRecord]) -> None:
        """Note layouts, and which outputs are fixed. Units are added in the order they run."""
        for record in records:
            for value in (*tensors(record.inputs), *tensors(record.outputs)):
                if value not in self._layouts:
                    self._layouts[value] = self._layout(value)
            if all(self.is_fixed(value) for value in tensors(record.inputs)):
                self._fixed.update(tensors(record.outputs))

    def is_fixed(self, value: Recorded) -> bool:
        """Return whether the model alone decides a tensor."""
        return isinstance(value, ParameterValue) or value in self._fixed

    def read(self, values: Iterable[Recorded]) -> None:
        """Find the facts of tensors, those of one dtype and shape together."""
        groups: dict[Layout, dict[Recorded, None]] = {}
        for value in values:
            if value not in self._facts:
                groups.setdefault(self._layouts[value], {})[value] = None
        for layout, members in groups.items():
            together = max(1, CHUNK // max(1, math.prod(layout.shape)))
            waiting = list(members)
            for start in range(0, len(waiting), together):
                batch = waiting[start : start + together]
                found = tensor_facts([self._array(value) for value in batch])
                self._facts.update(zip(batch, found, strict=True))

    def only_moves(self, records: Sequence[CallRecord]) -> bool:
        """Return whether a unit, by its calls, puts the values of one input into another order.

        True if each call's output has the range and the number of zeros of its input, and two
        calls of the same shape put their values into the same order; so a sort does not count.
        The facts must have been read. False for a single call, which proves too little, and for
        tensors of more than 64 MB.
        """
        pairs = []
        for record in records:
            given, returned = tensors(record.inputs), tensors(record.outputs)
            if len(given) != 1 or len(returned) != 1 or not self._look_moved(given[0], returned[0]):
                return False
            if DIFFERING in self._facts[given[0]].branches:
                pairs.append((given[0], returned[0]))
        for first, second in itertools.pairwise(pairs):
            if self._layouts[first[0]] == self._layouts[second[0]]:
                return self._same_order(first, second)
        return False

    def _look_moved(self, given: Recorded, returned: Recorded) -> bool:
        before, after = self._layouts[given], self._layouts[returned]
        if (before.dtype, before.nbytes) != (after.dtype, after.nbytes):
            return False
        if math.prod(before.shape) > MOST_VALUES:
            return True  # Facts of parts of them do not agree.
        one, other = self._facts[given], self._facts[returned]
        return (one.low, one.high, one.smallest, one.zeros) == (
            other.low,
            other.high,
            other.smallest,
            other.zeros,
        )

    def _same_order(
        self, first: tuple[Recorded, Recorded], second: tuple[Recorded, Recorded]
    ) -> bool:
        """Compare the pairs of values that meet at one place, before and after the calls."""
        if self._layouts[first[0]].nbytes > _COMPARED_BYTES:
            return False
        before, after = (
            _mixed(self._array(one), self._array(two))
            for one, two in zip(first, second, strict=True)
        )
        return before == after

    def _array(self, value: Recorded) -> Array:
        if isinstance(value, ParameterValue):
            return self._store.parameter(value.name)
        return self._store.tensor(value.digest)

    def _layout(self, value: Recorded) -> Layout:
        if isinstance(value, TensorValue):
            nbytes = packed_bytes(value.dtype, value.shape)
            is_packed = numpy_dtype(value.dtype) is None
            return Layout(dtype=value.dtype, shape=value.shape, nbytes=nbytes, is_packed=is_packed)
        array = self._store.parameter(value.name)
        return Layout(dtype=array.dtype.name, shape=array.shape, nbytes=array.nbytes)


def _mixed(one: Array, other: Array) -> int:
    """Return a hash of the pairs of values at each place, whatever the order of the places."""
    first, second = _bits(one), _bits(other)
    total = 0
    for start in range(0, first.size, CHUNK):
        part = slice(start, start + CHUNK)
        words = first[part].astype(np.uint64)
        words += _ODD * second[part].astype(np.uint64)
        for shift, factor in _MIXERS:  # The finaliser of SplitMix64.
            words ^= words >> shift
            words *= factor
        words ^= words >> np.uint64(31)
        total += int(words.sum())
    return total


def _bits(array: Array) -> Array:
    """Return the bits of each value as a whole number."""
    dense = np.ascontiguousarray(array).reshape(-1)
    return dense.view(f"u{dense.dtype.itemsize}")
