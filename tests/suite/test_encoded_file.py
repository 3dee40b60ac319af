"""Files of tensors that are not held as they are: copies along axes, and tables of bounds."""

import dataclasses
import hashlib
import zlib

import ml_dtypes
import numpy as np
import pytest
from edited_suite import edited
from hypothesis import given
from hypothesis import strategies as st

from relax_tapml.arrays import as_float64
from relax_tapml.errors import StoreError
from relax_tapml.replays.replay import replay
from relax_tapml.suite import _encoded_file
from relax_tapml.suite.copies import Copies
from relax_tapml.suite.manifest import SuiteAxis, SuiteTensor
from relax_tapml.suite.open_suite import open_suite
from relax_tapml.suite.suite_files import SuiteFiles
from relax_tapml.tensor_file import dump_tensors, parse_tensors

ROWS, COLUMNS = np.array([0, 3, 4, 9]), np.array([1, 2, 7])


def bounds(count, shape=(12, 8)):
    """Return bounds of so many values: bfloat16."""
    values = np.ldexp(1.0 + np.arange(count) % 128 / 128, -(np.arange(count) // 128))
    rng = np.random.default_rng(0)
    drawn = values[rng.integers(0, count, shape)].astype(ml_dtypes.bfloat16)
    drawn[0, 1] = np.nan
    return drawn


class Folder:
    """The files of a suite without units, and what reads them."""

    def __init__(self, folder):
        self.files = SuiteFiles(folder, {}, {})

    def entry(self, digest):
        return self.files.tensors[digest]

    def data(self, digest):
        return (self.files.folder / self.entry(digest).file).read_bytes()

    def read(self, digest):
        return read(self.data(digest), self.entry(digest), self.files.folder)


def read(data, entry, folder):
    """Check and read the bytes of a file, as opening a suite and taking a tensor of it do."""
    path = folder / "checked"
    path.write_bytes(data)
    with path.open("rb") as file:
        _encoded_file.check(file, entry)
    return _encoded_file.parse(np.frombuffer(bytes(data), np.uint8), entry)


@pytest.mark.parametrize("values", [1, 200, 2000])
@pytest.mark.parametrize("axes", [(), (0,), (0, 1)])
def test_bounds_come_back_none_smaller(tmp_path, values, axes):
    """As a byte each or two bytes, whole or with copies along axes."""
    folder = Folder(tmp_path)
    every = [
        Copies(axis=0, places=ROWS, count=120),
        Copies(axis=1, places=COLUMNS, count=80),
    ]
    copies = [item for item in every if item.axis in axes]
    bound = bounds(values, (120, 80))
    held = bound
    for item in copies:
        held = item.held(held)
    bound = held
    for item in copies:
        bound = item.whole(bound)
    digest = folder.files.write_bound(held, copies)
    entry = folder.entry(digest)
    assert [item.axis for item in entry.copied] == list(axes)
    assert entry.table is not None or axes
    found = folder.read(digest)
    assert (found.shape, found.dtype) == (bound.shape, bound.dtype)
    was, now = as_float64(bound), as_float64(found)
    np.testing.assert_array_equal(np.isnan(was), np.isnan(now))
    judged = ~np.isnan(was)
    assert (now[judged] >= was[judged]).all()
    assert (now[judged] <= was[judged] * (1 + 1 / 32)).all()


def test_tensors_of_equal_bytes_share_a_file(tmp_path):
    """Whatever their shapes are, but not those of another dtype."""
    files = SuiteFiles(tmp_path, {}, {})
    array = np.arange(12, dtype="float16")
    digests = [
        files.write_array(item)
        for item in (array, array.reshape(3, 4), array.reshape(1, 3, 4), array.view("int16"))
    ]
    assert len(set(digests)) == 4
    named = [files.tensors[digest].file for digest in digests]
    assert named[0] == named[1] == named[2] != named[3]
    assert len(list(tmp_path.glob("data/*"))) == 2


def test_small_bounds_stay_as_they_are(tmp_path):
    """A table and its header would take more than the bounds."""
    files = SuiteFiles(tmp_path, {}, {})
    digest = files.write_bound(np.float32([1, 2, 3]))
    assert files.tensors[digest].table is None


def with_arrays(data, **changed):
    return dump_tensors({**parse_tensors(data), **changed})


def packed(data):
    return np.frombuffer(zlib.compress(data), np.uint8)


BOUNDS, HELD = 12 * 8, 4 * 8
DAMAGE = {
    "fewer codes": ({"codes": packed(bytes(BOUNDS - 1))}, "are not the 96 bytes"),
    "more codes": ({"codes": packed(bytes(BOUNDS + 1))}, "are not the 96 bytes"),
    "very many codes": ({"codes": packed(bytes(1 << 26))}, "are not the 96 bytes"),
    "codes cut short": ({"codes": packed(bytes(BOUNDS))[:-5]}, "are not the 96 bytes"),
    "no zlib": ({"codes": np.zeros(9, np.uint8)}, "its codes cannot be read"),
    "a code of no value": ({"codes": packed(bytes([255]) * BOUNDS)}, "a bound is value 255"),
    "a negative bound": (
        {"table": -np.arange(21, dtype="float32").astype(ml_dtypes.bfloat16)},
        "do not ascend from 0",
    ),
    "another table": ({"table": np.ones(3, np.float32)}, "expected .*'table'.*got"),
    "a second tensor": ({"tensor": np.ones(3, np.float32)}, "expected .*got .*'tensor'"),
    "codes of another dtype": ({"codes": np.ones(3, np.int8)}, "expected .*'codes'.*got"),
}


@pytest.mark.parametrize(("changed", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_hostile_table_is_refused(tmp_path, changed, message):
    entry = SuiteTensor(file="x", dtype="bfloat16", shape=(12, 8), table=21)
    table = _encoded_file.BoundTable.of(bounds(20))
    data = with_arrays(_encoded_file.dump(table, ()), **changed)
    with pytest.raises(ValueError, match=message):
        read(data, entry, tmp_path)


@pytest.mark.parametrize(
    ("places", "entry", "message"),
    [
        ([0, 3, 4, 12], {}, "ascending numbers below 12"),
        ([0, 4, 3, 9], {}, "ascending numbers below 12"),
        ([-1, 3, 4, 9], {}, "ascending numbers below 12"),
        ([0, 3, 4], {}, "expected .*places0"),
        ([0, 3, 4, 9], {"copied": (SuiteAxis(axis=2, held=4),)}, "of axis 2 cannot be held"),
        ([0, 3, 4, 9], {"copied": (SuiteAxis(axis=0, held=13),)}, "13 places of axis 0"),
        ([0, 3, 4, 9], {"copied": (SuiteAxis(axis=0, held=4),) * 2}, "of axis 0 cannot be held"),
        ([0, 3, 4, 9], {"shape": (1 << 25, 8)}, "too long for copies"),
        ([0, 3, 4, 9], {"shape": (1 << 20, 1 << 20)}, "cannot be held"),
        ([0, 3, 4, 9], {"dtype": "int4"}, "cannot be held"),
    ],
)
def test_hostile_copies_are_refused(tmp_path, places, entry, message):
    kept = SuiteTensor(
        file="x", dtype="float32", shape=(12, 8), copied=(SuiteAxis(axis=0, held=4),)
    )
    array = np.zeros((12, 8), np.float32)
    copies = Copies(axis=0, places=ROWS, count=12)
    data = with_arrays(
        _encoded_file.dump(copies.held(array), [copies]), places0=np.array(places, np.int64)
    )
    changed = dataclasses.replace(kept, **entry)
    with pytest.raises(ValueError, match=message):
        read(data, changed, tmp_path)


@given(data=st.data())
def test_any_changed_byte_is_a_value_error_or_another_tensor(data, tmp_path_factory):
    table = _encoded_file.BoundTable.of(bounds(20))
    file = bytearray(_encoded_file.dump(table, ()))
    place = data.draw(st.integers(0, len(file) - 1))
    file[place] ^= data.draw(st.integers(1, 255))
    entry = SuiteTensor(file="x", dtype="bfloat16", shape=(12, 8), table=len(table.values))
    try:
        found = read(file, entry, tmp_path_factory.getbasetemp())
    except ValueError:
        return
    assert (found.shape, found.dtype.name) == (entry.shape, entry.dtype)


@pytest.mark.parametrize("schema", [3, 4])
def test_a_suite_of_a_schema_before_is_read(suite, schema):
    """It has no field of this one's."""
    with edited(suite) as document:
        document["schema"] = schema
        for unit in document["units"].values():
            assert not unit.pop("targets")
        for entry in document["tensors"].values() if schema == 3 else ():
            assert not entry.pop("copied")
            assert entry.pop("table") is None
    report = replay(suite, session="inline")
    assert report.units


def test_a_damaged_table_ends_with_the_file_and_what_to_do(tmp_path, suite):
    """It is found when it is read, and names the file."""
    with edited(suite) as document:
        entry = next(t for t in document["tensors"].values() if t["file"])
        path = suite / entry["file"]
        count = int(np.prod(entry["shape"]))
        path.write_bytes(
            dump_tensors({"table": np.ones(1, entry["dtype"]), "codes": packed(b"\1" * count)})
        )
        entry["table"] = 1
        for name in document["sha256"]:
            document["sha256"][name] = hashlib.sha256((suite / name).read_bytes()).hexdigest()
    opened = open_suite(suite)
    [digest] = [d for d, t in opened.manifest.tensors.items() if t.table]
    with pytest.raises(StoreError, match=r"safetensors: a bound is value 1 of 1\. Carve the suite"):
        opened.tensor(digest)
