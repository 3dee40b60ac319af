import dataclasses
import re
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_tapml.capture._writer import StoreWriter
from relax_tapml.capture.host_tensor import HostTensor
from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import CallRecord, OpaqueValue, ParameterValue, TensorValue
from relax_tapml.carve.select.choose_cases import choose_cases
from relax_tapml.passes.site import Site

FIRST = Site(function="main", ordinal=0, unit="gelu")
SECOND = Site(function="main", ordinal=3, unit="gelu")
OTHER = Site(function="main", ordinal=1, unit="add")
LOWEST = np.finfo(np.float32).min


@dataclass
class Store:
    """What ``choose_cases`` reads of a capture store, in memory."""

    records: list[CallRecord] = field(default_factory=list)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)

    def add(self, site, *inputs, returns=None, sample="s"):
        """Record a call; by default it returns one number that nothing depends on."""
        outputs = (np.float32([1, 2]),) if returns is None else returns
        record = CallRecord(
            sample=sample,
            frame=len(self.records),
            function=site.function,
            call=site.ordinal,
            site=site.id,
            inputs=tuple(self._value(item) for item in inputs),
            outputs=outputs and tuple(self._value(item) for item in outputs),
        )
        self.records.append(record)
        return record

    def weight(self, name, array):
        self.weights[name] = array
        return ParameterValue(name=name)

    def _value(self, item):
        if not isinstance(item, np.ndarray):
            return item
        digest = f"{item.dtype}{item.shape}{item.tobytes().hex()}"
        self.tensors[digest] = item
        return TensorValue(digest=digest, dtype=item.dtype.name, shape=item.shape)

    def calls(self, site):
        return (record for record in self.records if record.site == site)

    def tensor(self, digest):
        self.reads.append(digest)
        return self.tensors[digest]

    def parameter(self, name):
        return self.weights[name]


def _values(*values, dtype="float32"):
    return np.array(values, dtype=dtype)


def _chosen(store, sites, per_unit=3):
    return [(case.record, case.reason) for case in choose_cases(store, sites, per_unit)]


def _records(store, sites, per_unit=3):
    return [case.record for case in choose_cases(store, sites, per_unit)]


def _noise(count, shape=(8,), seed=0):
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.5, 1.5, shape).astype("float32") for _ in range(count)]


# Each distinct signature is a call; values repeat so that equal inputs occur.
CALLS = st.lists(
    st.tuples(
        st.sampled_from(["float32", "float16", "int64", "bool"]),
        st.sampled_from([(2,), (3,), (2, 2), (0,), ()]),
        st.sampled_from([0.0, 1.0, -3.0, 40.0, np.nan, np.inf, -1e9]),
        st.sampled_from([None, 1, 1.0, True]),
    ),
    min_size=1,
    max_size=12,
)


def _fill(calls):
    store = Store()
    for dtype, shape, value, scalar in calls:
        with np.errstate(invalid="ignore", over="ignore"):
            array = np.full(shape, value).astype(dtype)
        store.add(FIRST, array, scalar)
    return store


@given(CALLS, st.integers(1, 6))
def test_never_more_than_asked_for_never_the_same_inputs_twice(calls, per_unit):
    """At most N cases of a unit, each with inputs of its own; at least one if it was called."""
    chosen = _records(_fill(calls), [FIRST], per_unit)
    assert 1 <= len(chosen) <= per_unit
    assert len({repr(record.inputs) for record in chosen}) == len(chosen)


@given(CALLS)
def test_the_same_store_gives_the_same_cases(calls):
    """Choosing depends on nothing but the store."""
    assert choose_cases(_fill(calls), [FIRST]) == choose_cases(_fill(calls), [FIRST])


@given(CALLS, st.integers(1, 8))
def test_every_distinct_signature_is_covered_if_there_is_room(calls, per_unit):
    """Dtypes, shapes and scalars not seen yet come before everything else."""

    def signature(record):
        value, scalar = record.inputs
        return value.dtype, value.shape, type(scalar), scalar

    store = _fill(calls)
    chosen = {signature(record) for record in _records(store, [FIRST], per_unit)}
    assert len(chosen) == min(per_unit, len({signature(record) for record in store.records}))


def test_the_largest_inputs_come_first():
    """If there are more shapes than cases, the largest is among them, and the reason states it."""
    store = Store()
    for size in (3, 40, 5, 7):
        store.add(FIRST, np.linspace(1, 2, size, dtype="float32"))
    assert _chosen(store, [FIRST], 1) == [
        (store.records[1], "largest inputs: 40 values (others at most 7)")
    ]


def test_a_new_shape_is_named():
    """The reason for a new shape is that shape and how many calls have it."""
    store = Store()
    store.add(FIRST, np.ones((2, 3), "float32"), 7)
    store.add(FIRST, np.ones((1, 3), "float32"), 7)
    assert _chosen(store, [FIRST])[1][1] == "new inputs float32 1x3, 7 (1 of 2 calls)"


def test_the_reason_for_an_extreme_gives_both_numbers():
    """An extreme value is compared with that of all other calls."""
    store = Store()
    for array in _noise(20):
        store.add(FIRST, array)
    wide = store.add(FIRST, _values(0.5, 0.7, 0.9, 1, 1, 1, 1, -47.25))
    most = max(
        array.max() for array in store.tensors.values() if array.max() < 2 and array.size > 2
    )
    [(record, reason), *_] = _chosen(store, [FIRST])
    assert record == wide
    assert reason in (
        f"largest magnitude of input 0: 47.25 (others at most {most:.4g})",
        "input 0: no value below zero (20 of 21 calls)",
    )


RARE = {
    "NaN": (_values(1, np.nan, 1, 1), "input 0: NaN"),
    "infinity": (_values(1, np.inf, 1, 1), "input 0: +infinity"),
    "first masked": (_values(-1e4, 1, 1, 2), "input 0: its first element masked"),
    "last masked": (_values(1, 1.5, 1, LOWEST), "input 0: its last element masked"),
    "all masked": (_values(-np.inf, -np.inf, -np.inf, -np.inf), "input 0: -infinity"),
    "constant": (_values(1, 1, 1, 1), "input 0: nothing masked"),
    "limit": (_values(1, 1, 1, -LOWEST), "input 0: the greatest value of the dtype"),
    "denormal": (_values(1, 1e-40, 1, 1.2), "smallest nonzero magnitude of input 0: 1e-40"),
    "zero": (_values(1.1, 0, 1, 1.2), "input 0: zeros"),
}


@pytest.mark.parametrize(("rare", "branch"), RARE.values(), ids=RARE)
@pytest.mark.parametrize("at", [0, 1234, 2000])
def test_a_rare_branch_among_thousands_of_ordinary_calls_is_found(rare, branch, at):
    """One call of 2001 that takes another branch is a case, and its reason names the branch."""
    store = Store()
    for index, array in enumerate(_noise(2000, (4,))):
        if index == at:
            store.add(FIRST, rare)
        store.add(FIRST, array)
    if at == 2000:
        store.add(FIRST, rare)
    reasons = {case.record.frame: case.reason for case in choose_cases(store, [FIRST])}
    assert at in reasons
    assert reasons[at].startswith(branch)


def test_a_row_of_zeros_is_found_in_inputs_and_outputs():
    """Padding shows as a row of zeros, wherever it is."""
    store = Store()
    for array in _noise(50, (3, 4)):
        store.add(FIRST, array, returns=(array * 2,))
    padded = _noise(1, (3, 4), seed=1)[0]
    padded[2] = 0
    given = store.add(FIRST, padded, returns=(padded + 1,))
    returned = store.add(FIRST, padded + 0.25, returns=(padded,))
    assert {given, returned} <= set(_records(store, [FIRST]))


def test_masks_are_chosen_by_what_they_mask():
    """Of many padding masks: one that masks nothing, and one that masks something."""
    store = Store()
    for length in (3, 5, 8, 6, 7):
        store.add(FIRST, np.arange(8) < length)
    reasons = {record.frame: reason for record, reason in _chosen(store, [FIRST], per_unit=2)}
    assert reasons[2] == "input 0: nothing masked (1 of 5 calls)"
    assert len(reasons) == 2


def test_indices_reach_both_ends_of_the_table():
    """The first and the last row of a table are chosen, if any call reads them."""
    store = Store()
    table = store.weight("table", np.ones((100, 4), "float32"))
    rng = np.random.default_rng(0)
    for _ in range(500):
        store.add(FIRST, table, rng.integers(1, 99, 6))
    first = store.add(FIRST, table, np.array([0, 5, 6, 7, 8, 9]))
    last = store.add(FIRST, table, np.array([99, 5, 6, 7, 8, 9]))
    chosen = {r.frame: reason for r, reason in _chosen(store, [FIRST])}
    assert chosen[first.frame] == "input 1: index 0, the first (1 of 502 calls)"
    assert chosen[last.frame] == "input 1: index 99, the last of a first axis (1 of 502 calls)"


def test_cases_share_the_weight_that_is_in_the_suite():
    """Another layer with the same kind of activations is not worth its weight's bytes."""
    store = Store()
    product = Site(function="main", ordinal=9, unit="product")
    transposes = [Site(function="main", ordinal=i, unit="transpose") for i in range(4)]
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((300, 400), dtype="float32") for _ in transposes]
    for sample in range(3):
        for layer, site in enumerate(transposes):
            weight = store.weight(f"w{layer}", weights[layer])
            store.add(site, weight, returns=(weights[layer].T.copy(),), sample=str(sample))
            given = rng.uniform(0.5, 1.5, (5, 300)).astype("float32")
            result = given @ weights[layer]
            store.add(product, given, weights[layer].T.copy(), returns=(result,))
    cases = choose_cases(store, [*transposes, product])
    [moved] = [case for case in cases if case.unit == "transpose"]
    assert re.match("moves data only.* 4 calls", moved.reason)
    used = [case.record.inputs[1] for case in cases if case.unit == "product"]
    assert len(used) == 3
    assert set(used) == set(moved.record.outputs)


def test_a_branch_is_worth_another_weight():
    """A call that takes another branch is a case, whatever its tensors cost."""
    store = Store()
    big = store.weight("big", np.ones((1000, 1000), "float32"))
    small = store.weight("small", np.full((1000, 1000), 2, "float32"))
    for array in _noise(30):
        store.add(FIRST, array, small)
    wild = store.add(FIRST, _values(1, 1, 1, 1, 1, 1, 1, np.nan), big)
    assert wild in _records(store, [FIRST])


def test_a_unit_that_moves_data_gets_one_case_for_each_shape():
    """Other values in the same order show nothing new."""
    store = Store()
    for shape in ((3, 4), (5, 6)):
        for array in _noise(10, shape):
            store.add(FIRST, array, returns=(array.T.copy(),))
    assert {record.inputs[0].shape for record in _records(store, [FIRST])} == {(3, 4), (5, 6)}
    assert len(_records(store, [FIRST])) == 2


def test_the_first_case_is_no_degenerate_call():
    """A call with nothing but zeros takes many branches and hides most errors: never alone."""
    store = Store()
    store.add(FIRST, np.zeros((2, 3), "float32"), returns=(np.zeros((2, 3), "float32"),))
    for array in _noise(5, (2, 3)):
        store.add(FIRST, array, returns=(array * array,))
    assert store.records[0] not in _records(store, [FIRST], 1)
    assert store.records[0] in _records(store, [FIRST], 2)


def test_a_sort_is_not_taken_for_a_unit_that_moves_data():
    """A sort returns the values it was given too, but in an order that depends on them."""
    store = Store()
    for array in _noise(10):
        store.add(FIRST, array, returns=(np.sort(array),))
    assert len(_records(store, [FIRST])) == 3


def test_a_unit_that_moves_data_is_shown_with_values_that_differ():
    """A tensor of one value throughout would hide any order."""
    store = Store()
    store.add(FIRST, np.zeros((2, 3), "float32"), returns=(np.zeros((3, 2), "float32"),))
    for array in _noise(2, (2, 3)):
        store.add(FIRST, array, returns=(array.T.copy(),))
    assert _records(store, [FIRST], 1) == [store.records[1]]


def test_the_most_cancelling_call_is_chosen():
    """Of subtractions of equal size, the one with the smallest result is a case."""
    store = Store()
    for array, other in zip(_noise(40), _noise(40, seed=1), strict=True):
        store.add(FIRST, array, other, returns=(array + other,))
    close = _noise(1, seed=2)[0]
    record = store.add(FIRST, close, close, returns=(close * np.float32(1e-6),))
    [(best, reason), *_] = _chosen(store, [FIRST])
    assert best == record
    assert reason.startswith("worst cancellation, largest input over rms of output: ")


def test_the_same_inputs_are_never_chosen_twice():
    store = Store()
    first = store.add(FIRST, _values(1, 2))
    store.add(FIRST, _values(1, 2))
    store.add(SECOND, _values(1, 2))
    assert _chosen(store, [FIRST, SECOND]) == [(first, "the only call with inputs of its own")]


@pytest.mark.parametrize(
    "values",
    [
        _values(np.nan, np.inf),
        _values(),
        _values(-1.7e308, 1.7e308, dtype="float64"),
        _values(True, False, dtype="bool"),
        _values(1, 2, dtype=ml_dtypes.float8_e5m2),
        _values(1, 2, dtype=ml_dtypes.bfloat16),
        np.float32(3).reshape(()),
        np.iinfo(np.int64).min + np.arange(2),
    ],
    ids=["nonfinite", "empty", "overflowing", "bool", "float8", "bfloat16", "scalar", "int64"],
)
def test_any_values_can_be_looked_at(values):
    """No dtype, shape or value is beyond choosing, as an input or as an output."""
    store = Store()
    store.add(FIRST, values, OpaqueValue(type_key="KV"), returns=(values,))
    store.add(FIRST, values, None, returns=(values,))
    assert len(_records(store, [FIRST])) == 2


def test_units_keep_the_order_of_their_sites_and_each_gets_its_cases():
    store = Store()
    for site in (OTHER, FIRST, SECOND):
        store.add(site, _values(site.ordinal, 1))
    cases = choose_cases(store, [FIRST, OTHER, SECOND], per_unit=1)
    assert [case.unit for case in cases] == ["gelu", "add"]


def test_a_call_that_never_returned_is_not_chosen():
    store = Store()
    store.records.append(dataclasses.replace(store.add(FIRST, _values(1)), outputs=None))
    del store.records[0]
    assert _chosen(store, [FIRST, OTHER]) == []


def test_at_least_one_case_is_asked_for():
    with pytest.raises(ValueError, match="per_unit: expected at least 1, got 0"):
        choose_cases(Store(), [FIRST], 0)


def test_each_tensor_is_read_once():
    """Shared by calls, sites and units: its facts are found once."""
    store = Store()
    for array in _noise(100):
        store.add(FIRST, array, returns=(array * 2,))
        store.add(OTHER, array * 2, array, returns=(array * 3,))
    choose_cases(store, [FIRST, OTHER])
    assert len(store.reads) == len(set(store.reads)) == 300


def test_a_store_on_disk_with_packed_elements(tmp_path):
    """Elements that NumPy has no layout for differ by content only."""
    CaptureStore.create(tmp_path, {}).close()
    with StoreWriter(tmp_path) as writer:
        writer.begin_sample("s")
        for frame in range(3):
            data = np.arange(frame, frame + 4, dtype="uint8")
            digest = writer.add_tensor(HostTensor(dtype="int4", shape=(2, 4), data=data))
            refs = [f"t:{digest}"]
            writer.add_call(frame=frame, function="main", call=0, site=FIRST.id, inputs=refs)
            writer.finish_call(frame=frame, call=0, outputs=refs)
        writer.end_sample([])
    with CaptureStore.open(tmp_path) as store:
        cases = choose_cases(store, [FIRST])
    assert cases
    assert "magnitude" not in "".join(case.reason for case in cases)


def test_of_large_weights_a_few_layers_are_read(monkeypatch):
    """A unit that takes weights alone reads those of three layers; which order it has is seen."""
    monkeypatch.setattr("relax_tapml.carve.select.choose_cases.LARGE_WEIGHT", 1000)
    monkeypatch.setattr("relax_tapml.carve.select._recorded_tensors.MOST_VALUES", 1000)
    rng = np.random.default_rng(0)
    store = Store()
    sites = [Site(function="main", ordinal=layer, unit="transpose") for layer in range(12)]
    for layer, site in enumerate(sites):
        weight = rng.standard_normal((30, 40), dtype="float32")
        store.add(site, store.weight(f"w{layer}", weight), returns=(weight.T.copy(),))
    found = _records(store, sites)
    assert [record.site for record in found] == [sites[0].id]
    read = {digest for digest in store.reads if digest in store.tensors}
    assert len(read) == 3
    assert not {store.records[n].outputs[0].digest for n in range(2, 11)} & read
