import hashlib

import ml_dtypes
import numpy as np
import pytest

from relax_tapml import tensor_file
from relax_tapml.arrays import hashed
from relax_tapml.tensor_file import (
    digest_of,
    dump_tensor,
    dump_tensors,
    filled,
    parse_tensor,
    parse_tensors,
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


@pytest.mark.parametrize("dtype", [*DTYPES, ml_dtypes.float8_e4m3b11fnuz])
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4)])
def test_a_digest_is_that_of_the_file(dtype, shape, monkeypatch):
    """It is made without the file."""
    monkeypatch.setattr(tensor_file, "_LEAST_HASHED", 0)
    array = np.ones(shape, dtype).T
    assert digest_of(array) == hashlib.sha256(dump_tensor(array)).hexdigest()


@pytest.mark.parametrize("together", [(1 << 19, 256), (64, 4), (7, 3)])
@pytest.mark.parametrize(
    ("shape", "axis"), [((5, 7, 3), 0), ((5, 7, 3), 1), ((5, 7, 3), 2), ((40,), 0), ((1, 9), 1)]
)
def test_what_is_filled_is_rotated_values(shape, axis, together, monkeypatch):
    """Each place holds a rotated part, chosen by its hash, in whatever tiles it is filled."""
    monkeypatch.setattr(tensor_file, "_FILLED", together[0])
    monkeypatch.setattr(tensor_file, "_TOGETHER", together[1])
    held = shape[axis] // 3 + 1
    places = np.arange(held, dtype=np.int64)
    values = np.random.default_rng(0).standard_normal((*shape[:axis], held, *shape[axis + 1 :]))
    made = np.moveaxis(filled(values, places, shape[axis], axis), axis, 0)
    rows = np.moveaxis(values, axis, 0).reshape(held, -1)
    for place, number in enumerate(hashed(np.arange(shape[axis], dtype=np.uint64)).tolist()):
        size = rows.shape[1]
        turn = (number >> 32) % max(size - 1, 1) + (size > 1)
        expected = rows[place] if place < held else np.roll(rows[number % held], -turn)
        np.testing.assert_array_equal(made[place].reshape(-1), expected)
