from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import pytest

from relax_tapml.capture.values import CallRecord, ParameterValue, TensorValue
from relax_tapml.carve.choose import choose_cases
from relax_tapml.passes.site import Site

FIRST = Site(function="main", ordinal=0, unit="gelu")
SECOND = Site(function="main", ordinal=3, unit="gelu")
OTHER = Site(function="main", ordinal=1, unit="add")


@dataclass
class Store:
    """What ``choose_cases`` reads of a capture store, in memory."""

    records: list[CallRecord] = field(default_factory=list)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, site, *inputs, returned=True):
        record = CallRecord(
            sample="s",
            frame=len(self.records),
            function=site.function,
            call=site.ordinal,
            site=site.id,
            inputs=tuple(self._value(item) for item in inputs),
            outputs=(1.0,) if returned else None,
        )
        self.records.append(record)
        return record

    def _value(self, item):
        if not isinstance(item, np.ndarray):
            return item
        digest = f"{item.dtype}{item.shape}{item.tobytes().hex()}"
        self.tensors[digest] = item
        return TensorValue(digest=digest, dtype=item.dtype.name, shape=item.shape)

    def calls(self, site):
        return (record for record in self.records if record.site == site)

    def tensor(self, digest):
        return self.tensors[digest]

    def parameter(self, name):
        return self.weights[name]


def _values(*values, dtype="float32"):
    return np.array(values, dtype=dtype)


def _chosen(store, sites, per_unit=3):
    return [(case.record, case.reason) for case in choose_cases(store, sites, per_unit)]


def test_new_shapes_come_before_new_sites_before_wide_values():
    store = Store()
    store.add(FIRST, _values(0, 1))
    narrow = store.add(FIRST, _values(0, 2))
    store.add(FIRST, _values(0, 3))
    widest = store.add(FIRST, _values(-50, 50))
    shorter = store.add(FIRST, _values(7))
    elsewhere = store.add(SECOND, _values(0, 1.5))
    assert _chosen(store, [FIRST, SECOND], per_unit=4) == [
        (widest, "new input shapes"),
        (shorter, "new input shapes"),
        (elsewhere, "new site"),
        (store.records[2], "widest input values of the remaining calls"),
    ]
    assert narrow not in [record for record, _ in _chosen(store, [FIRST, SECOND], per_unit=4)]


def test_dtypes_and_scalars_count_as_shapes_and_weights_do_by_shape_only():
    store = Store()
    store.weights = {"a": _values(1, 2), "b": _values(3, 4), "c": _values(5)}
    record = store.add(FIRST, _values(1), ParameterValue(name="a"), 2)
    store.add(FIRST, _values(1), ParameterValue(name="b"), 2)
    other_weight = store.add(FIRST, _values(1), ParameterValue(name="c"), 2)
    other_scalar = store.add(FIRST, _values(1), ParameterValue(name="a"), 3)
    other_dtype = store.add(
        FIRST, _values(1, dtype=ml_dtypes.bfloat16), ParameterValue(name="a"), 2
    )
    chosen = [record for record, _ in _chosen(store, [FIRST], per_unit=4)]
    assert chosen == [record, other_weight, other_scalar, other_dtype]


def test_the_same_inputs_are_never_chosen_twice():
    store = Store()
    first = store.add(FIRST, _values(1, 2))
    store.add(FIRST, _values(1, 2))
    store.add(SECOND, _values(1, 2))
    assert _chosen(store, [FIRST, SECOND]) == [(first, "new input shapes")]


def test_a_mask_does_not_hide_what_the_other_inputs_do():
    lowest = np.finfo(np.float32).min
    store = Store()
    store.add(FIRST, _values(0, lowest), _values(0, 1))
    wide = store.add(FIRST, _values(0, lowest), _values(0, 90))
    assert _chosen(store, [FIRST], per_unit=1) == [(wide, "new input shapes")]


@pytest.mark.parametrize(
    "values",
    [
        _values(np.nan, np.inf),
        _values(),
        _values(-1.7e308, 1.7e308, dtype="float64"),
        _values(True, False, dtype="bool"),
        _values(1, 2, dtype=ml_dtypes.float8_e5m2),
    ],
    ids=["nonfinite", "empty", "overflowing", "bool", "float8"],
)
def test_any_values_can_be_ranked(values):
    store = Store()
    record = store.add(FIRST, values)
    assert _chosen(store, [FIRST]) == [(record, "new input shapes")]


def test_units_keep_the_order_of_their_sites_and_each_gets_its_cases():
    store = Store()
    for site in (OTHER, FIRST, SECOND):
        store.add(site, _values(site.ordinal))
    cases = choose_cases(store, [FIRST, OTHER, SECOND], per_unit=1)
    assert [(case.unit, case.record.site) for case in cases] == [
        ("gelu", FIRST.id),
        ("add", OTHER.id),
    ]


def test_a_call_that_never_returned_is_not_chosen():
    store = Store()
    store.add(FIRST, _values(1), returned=False)
    assert _chosen(store, [FIRST, OTHER]) == []


def test_at_least_one_case_is_asked_for():
    with pytest.raises(ValueError, match="per_unit: expected at least 1, got 0"):
        choose_cases(Store(), [FIRST], 0)
