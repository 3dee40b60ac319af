"""Files mapped into memory."""

from __future__ import annotations

import os
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from relax_tapml.capture.host_tensor import tensor_over
from relax_tapml.errors import StoreError
from relax_tapml.files.mapped import (
    FilePlace,
    are_bytes_at,
    array_at,
    drop_pages,
    is_mapped,
    map_file,
    place_of,
    shared_array,
    written_parts,
)
from relax_tapml.system import IS_MACOS
from relax_tapml.tensor_file import parse_tensors, raw_tensors, write_tensors

needs_shared_memory = pytest.mark.skipif(
    not hasattr(os, "memfd_create"), reason="this system has no shared memory with a path"
)
ARRAYS = {
    "odd": np.arange(3, dtype="int8"),
    "w": np.arange(96, dtype="float32").reshape(4, 24),
    "half": np.arange(64).astype(ml_dtypes.bfloat16),
}


@pytest.fixture
def file(tmp_path):
    write_tensors(tmp_path / "w.safetensors", raw_tensors(ARRAYS))
    return tmp_path / "w.safetensors"


def mapped(file):
    return parse_tensors(map_file(file, fix="Write it again", max_bytes=1 << 20))


def test_tensors_are_views_of_the_file(file):
    """TVM takes them as they lie, and another process finds their bytes."""
    found = mapped(file)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert is_mapped(found[name])
        place = place_of(found[name])
        assert place.path == file
        data = file.read_bytes()[place.offset : place.offset + place.size_bytes]
        assert data == array.tobytes()
    for name in ("w", "half"):
        tensor = tensor_over(found[name])
        assert tensor.data_ptr() == found[name].ctypes.data
        np.testing.assert_array_equal(tensor.numpy(), ARRAYS[name])


def test_what_is_written_stays_in_the_process(file):
    before = file.read_bytes()
    found = mapped(file)["w"]
    found[0] = 5
    assert (mapped(file)["w"] == ARRAYS["w"]).all()
    assert file.read_bytes() == before


def test_another_file_of_the_name_is_not_the_place(file):
    """The mapping goes on to be the file that it was."""
    found = mapped(file)["w"]
    file.rename(file.with_name("old"))
    assert place_of(found) is None
    write_tensors(file, raw_tensors({"w": ARRAYS["w"] + 1}))
    assert place_of(found) is None
    np.testing.assert_array_equal(found, ARRAYS["w"])


def test_arrays_elsewhere_have_no_place(file):
    assert place_of(ARRAYS["w"]) is None
    assert place_of(mapped(file)["w"][:, 1:]) is None
    assert place_of(mapped(file)["w"].copy()) is None


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(StoreError, match="Write it again"):
        map_file(tmp_path / "none", fix="Write it again", max_bytes=1)


@needs_shared_memory
def test_another_process_finds_a_shared_array():
    """As long as the array is there; what the other one writes stays there."""
    array = shared_array((3, 2 << 20), np.dtype("float32"))
    array[:] = 5
    place = place_of(array[1:])
    assert not is_mapped(array)
    found = map_file(place.path, fix="Run again", max_bytes=1 << 30)
    assert (found[place.offset :].view("float32") == 5).all()
    found[:] = 0
    assert (array == 5).all()
    del array
    assert not place.path.exists()
    assert (found == 0).all()


def test_a_small_array_is_not_shared():
    assert place_of(shared_array((4, 0), np.dtype("int8"))) is None
    assert place_of(shared_array((4, 3), np.dtype("int8"))) is None


def resident_bytes(array) -> int:
    """Return how much of the mapping that an array lies in is in the memory of this process."""
    address, is_inside = array.ctypes.data, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            begin, end = (int(number, 16) for number in line.split()[0].split("-"))
            is_inside = begin <= address < end
        elif is_inside and line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux lists it")
def test_pages_that_were_dropped_are_read_again(tmp_path):
    """The array is as it was, and so are its neighbours in the file."""
    size = 1 << 20
    large = np.arange(size, dtype="int32")
    arrays = {"before": ARRAYS["w"], "large": large, "behind": ARRAYS["w"]}
    write_tensors(tmp_path / "large", raw_tensors(arrays))
    data = map_file(tmp_path / "large", fix="", max_bytes=1 << 30)
    found = parse_tensors(data)
    found["before"][0] = found["behind"][0] = 7
    assert np.array_equal(found["large"], large)
    assert resident_bytes(found["large"]) >= large.nbytes
    drop_pages(found["large"])
    assert resident_bytes(found["large"]) < large.nbytes // 4
    assert np.array_equal(found["large"], large)
    assert (found["before"][0] == 7).all()
    assert (found["behind"][0] == 7).all()
    drop_pages(large)
    assert large[-1] == size - 1


@pytest.mark.parametrize("is_memory", [False, pytest.param(True, marks=needs_shared_memory)])
def test_pages_that_were_written_are_told(tmp_path, is_memory):
    """Each place that is written lies in a part; pages that are only read do not."""
    if is_memory:
        shared = shared_array((5 << 22,), np.dtype("uint8"))
        shared[:] = 7
        array = array_at(place_of(shared), shared.dtype, shared.shape, fix="")
    else:
        path = tmp_path / "file"
        path.write_bytes(bytes(5 << 22))
        array = map_file(path, fix="", max_bytes=1 << 30)[64:]
    assert int(array.max()) in (0, 7)
    is_told = written_parts(array) == []
    for place in (0, 4096 * 3, 4096 * 4 + 5, array.size - 1):
        array[place] += 1
        assert any(part.start <= place < part.stop for part in written_parts(array))
    assert not is_memory or int(shared.max()) == 7
    if not IS_MACOS:  # which does not tell of pages
        assert is_told
        assert sum(part.stop - part.start for part in written_parts(array)) <= 5 * 4096


def test_bytes_at_a_place_are_compared(tmp_path):
    """To the last one, and not beyond the end of the file."""
    data = np.random.default_rng(0).integers(0, 256, (1 << 18) + 77, np.uint8)
    path = tmp_path / "file"
    path.write_bytes(b"head" + data.tobytes())
    place = FilePlace(path=path, offset=4, size_bytes=data.size)
    assert are_bytes_at(place, data, fix="")
    for at in (0, 1 << 18, data.size - 1):
        data[at] ^= 1
        assert not are_bytes_at(place, data, fix="")
        data[at] ^= 1
    assert not are_bytes_at(place, np.append(data, np.uint8(0)), fix="")
