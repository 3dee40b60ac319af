"""What is special about a recorded call, compared with other calls of its unit."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from relax_tapml.capture.cache_state import state_kind
from relax_tapml.capture.values import CallRecord, ParameterValue, TensorValue, Value
from relax_tapml.carve.select._tensor_facts import TensorFacts

Recorded = TensorValue | ParameterValue
CANCELLATION = "worst cancellation, largest input over rms of output"
_FLOATS = ("float", "bfloat")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Dtype, shape in elements, and size of a recorded tensor.

    ``is_packed`` elements, such as ``int4``, are read as bytes, so their values are not known.
    """

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    is_packed: bool = False

    def __str__(self) -> str:
        return f"{self.dtype} {'x'.join(map(str, self.shape)) or 'scalar'}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Literal:
    """An input that is no tensor; its type is kept, because 1 == 1.0 == True."""

    kind: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """A number of a call whose extremes are worth a case.

    Parameters
    ----------
    name
        ``largest magnitude of input 0``.
    value
        As people read it.
    octaves
        Its logarithm to base 2, more is better, so negative where small values are wanted. For the
        smallest magnitude it is divided by -8, because the least of many magnitudes varies by far
        more than the greatest.
    """

    name: str
    value: float
    octaves: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CallFacts:
    """Facts about one call.

    Parameters
    ----------
    signature
        Dtypes and shapes of its input tensors, and its other inputs as they are; of the state of a
        KV cache its kind.
    elements
        How many values its input tensors have, together.
    branches, minor, ranges
        See ``TensorFacts``; each begins with ``input 0:`` or ``output 0:``.
    quantities
        Those that the call has.
    """

    signature: tuple[Layout | Literal, ...]
    elements: int
    branches: frozenset[str]
    minor: frozenset[str]
    ranges: frozenset[str]
    quantities: tuple[Quantity, ...]


def call_facts(
    record: CallRecord,
    counted: Collection[int],
    layouts: Mapping[Recorded, Layout],
    facts: Mapping[Recorded, TensorFacts],
) -> CallFacts:
    """Return facts about a call that returned.

    ``CANCELLATION`` stands for how ill-conditioned a call is: the greatest magnitude in its counted
    inputs over the root mean square of its first output, masks left out. It is high where large
    inputs leave small results. It looks neither at derivatives nor at what the kernel computes, so
    it compares calls of one unit only.

    Parameters
    ----------
    record
        The call.
    counted
        Positions of the input tensors whose values count. All outputs count.
    layouts, facts
        Of its tensors; ``facts`` of those whose values count.
    """
    branches: set[str] = set()
    minor: set[str] = set()
    ranges: set[str] = set()
    quantities: list[Quantity] = []
    largest = 0.0
    lengths = set(_table_lengths(record, layouts))
    for name, value in _judged(record, counted, layouts):
        found, dtype = facts[value], layouts[value].dtype
        branches.update(f"{name}: {fact}" for fact in found.branches)
        minor.update(f"{name}: {fact}" for fact in found.minor)
        if name == "output 0" and largest and dtype.startswith(_FLOATS) and found.rms > 0:
            quantities.append(_quantity(CANCELLATION, largest / found.rms))
        if name.startswith("output"):
            continue
        if dtype.startswith(("int", "uint")):
            branches.update(f"{name}: {fact}" for fact in _index_facts(found, lengths))
            quantities += _integer_quantities(name, found)
        elif dtype.startswith(_FLOATS):
            ranges.update(f"{name}: {fact}" for fact in found.ranges)
            quantities += _float_quantities(name, found)
            largest = max(largest, found.largest)
    state = state_kind(record)
    return CallFacts(
        signature=tuple(
            layouts[value]
            if isinstance(value, TensorValue | ParameterValue)
            else Literal(kind=type(value).__name__, text=repr(value))
            for value in (record.inputs if state is None else (state, *record.inputs[2:]))
        ),
        elements=sum(math.prod(layouts[value].shape) for value in tensors(record.inputs)),
        branches=frozenset(branches),
        minor=frozenset(minor),
        ranges=frozenset(ranges),
        quantities=tuple(quantities),
    )


def tensors(values: tuple[Value, ...] | None) -> list[Recorded]:
    """Return those of some values that are tensors."""
    return [value for value in values or () if isinstance(value, TensorValue | ParameterValue)]


def _judged(
    record: CallRecord, counted: Collection[int], layouts: Mapping[Recorded, Layout]
) -> Iterator[tuple[str, Recorded]]:
    """Yield the counted inputs and all outputs, named, but for those of packed elements."""
    named = [(f"input {n}", value) for n, value in enumerate(record.inputs) if n in counted]
    named += [(f"output {place}", value) for place, value in enumerate(record.outputs or ())]
    for name, value in named:
        if isinstance(value, TensorValue | ParameterValue) and not layouts[value].is_packed:
            yield name, value


def _table_lengths(record: CallRecord, layouts: Mapping[Recorded, Layout]) -> Iterator[int]:
    """Yield the lengths of first axes that integers of the call may be indices of."""
    for value in tensors(record.inputs):
        layout = layouts[value]
        if len(layout.shape) > 1 and layout.shape[0] > 1:
            yield layout.shape[0]


def _index_facts(found: TensorFacts, lengths: set[int]) -> Iterator[str]:
    if lengths and found.low == 0:
        yield "index 0, the first"
    if lengths and found.low < 0:
        yield "an index below 0"
    if found.high + 1 in lengths:
        yield f"index {found.high:.0f}, the last of a first axis"


def _integer_quantities(name: str, found: TensorFacts) -> Iterator[Quantity]:
    if found.distinct:
        yield _quantity(f"most distinct values of {name}", found.distinct)
    if found.high > 1:
        yield _quantity(f"largest value of {name}", found.high)


def _float_quantities(name: str, found: TensorFacts) -> Iterator[Quantity]:
    if found.largest > 0:
        octaves = math.log2(found.largest)
        lowest = f"lowest peak of {name}"
        yield Quantity(name=f"largest magnitude of {name}", value=found.largest, octaves=octaves)
        yield Quantity(name=lowest, value=found.largest, octaves=-octaves)
    if 0 < found.smallest < math.inf:
        octaves = math.log2(found.smallest) / -8
        smallest = f"smallest nonzero magnitude of {name}"
        yield Quantity(name=smallest, value=found.smallest, octaves=octaves)


def _quantity(name: str, value: float) -> Quantity:
    # Zero where the ratio is too small for a float.
    return Quantity(name=name, value=value, octaves=math.log2(value) if value > 0 else -1100.0)
