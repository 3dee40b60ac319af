import hashlib

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_tapml.arrays import hashed
from relax_tapml.tensor_file import (
    dump_tensor,
    dump_tensors,
    filled,
    parse_tensor,
    parse_tensors,
    sha256_of_tensor,
)

DTYPES = [
    np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64,
    np.float16, np.float32, np.float64, np.complex64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2fnuz,
    ml_dtypes.float8_e8m0fnu,
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4)])
def test_every_dtype_and_shape_comes_back_bit_for_bit(dtype, shape):
    array = np.ones(shape, dtype)
    (name, back), *rest = parse_tensors(dump_tensors({"x": array})).items()
    assert (name, rest) == ("x", [])
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", [*DTYPES, ml_dtypes.int4], ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_a_tensor_of_any_dtype_comes_back_bit_for_bit(dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape).T
    loaded = parse_tensor(dump_tensor(array), array.dtype.name, array.shape)
    assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)
    assert loaded.tobytes() == array.tobytes()


def test_a_tensor_that_an_older_version_kept_as_bytes_is_read():
    array = np.ones((2, 3), ml_dtypes.float8_e4m3fnuz)
    loaded = parse_tensor(dump_tensor(array.reshape(-1).view(np.uint8)), array.dtype.name, (2, 3))
    assert (loaded.dtype, loaded.tobytes()) == (array.dtype, array.tobytes())


@pytest.mark.parametrize(
    ("dtype", "shape", "cut", "message"),
    [
        ("float64", (2,), None, "expected .*F64.*got .*F32"),
        ("float32", (3,), None, r"expected .*\[3\].*got .*\[2\]"),
        ("float32", (2,), -1, "without gaps|not a whole safetensors file"),
        ("float31", (2,), None, "'float31' is not a dtype"),
    ],
)
def test_another_tensor_than_expected_is_refused(dtype, shape, cut, message):
    data = dump_tensor(np.zeros(2, "float32"))
    with pytest.raises(ValueError, match=message):
        parse_tensor(data[:cut], dtype, shape)


def test_a_strided_view_keeps_its_values():
    array = np.arange(12, dtype="float32").reshape(3, 4)
    back = parse_tensors(dump_tensors({"t": array.T, "half": array[:, ::2]}))
    np.testing.assert_array_equal(back["t"], array.T)
    np.testing.assert_array_equal(back["half"], array[:, ::2])


def test_a_dtype_without_a_safetensors_name_is_refused():
    with pytest.raises(ValueError, match=r"^'w' is int4, which safetensors cannot hold$"):
        dump_tensors({"w": np.zeros(4, ml_dtypes.int4)})


def test_a_cut_file_is_refused():
    data = dump_tensors({"x": np.ones(4, "float32")})
    with pytest.raises(ValueError, match=r"without gaps$"):
        parse_tensors(data[:-1])


@pytest.mark.parametrize("dtype", [*DTYPES, ml_dtypes.int4], ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_the_digest_of_a_file_needs_no_file(dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape).T
    assert sha256_of_tensor(array) == hashlib.sha256(dump_tensor(array)).hexdigest()


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    axis=st.integers(0, 2),
    held=st.sets(st.integers(0, 8), min_size=1),
    tile=st.integers(1, 4),
)
def test_other_places_are_filled_by_their_hash(shape, axis, held, tile):
    """However many of them are filled at once."""
    axis = axis % len(shape)
    count = shape[axis]
    places = np.array(sorted({place % count for place in held}))
    rows = [len(places) if n == axis else extent for n, extent in enumerate(shape)]
    values = np.arange(np.prod(rows)).astype("int32").reshape(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relax_tapml.tensor_file._FILLED", tile)
        patch.setattr("relax_tapml.tensor_file._TOGETHER", max(1, tile - 1))
        found = filled(values, places, count, axis)
    assert found.shape == tuple(shape)
    for place in range(count):
        actual = found.take(place, axis).reshape(-1)
        at = np.flatnonzero(places == place)
        if at.size:
            expected = values.take(at[0], axis).reshape(-1)
        else:
            number = int(hashed(np.array([place], np.uint64))[0])
            source = values.take(number % len(places), axis).reshape(-1)
            size = source.size
            turn = (number >> 32) % max(size - 1, 1) + (size > 1)
            expected = np.roll(source, -turn)
        np.testing.assert_array_equal(actual, expected)
