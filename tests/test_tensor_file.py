import ml_dtypes
import numpy as np
import pytest

from relax_tapml.tensor_file import dump_tensor, dump_tensors, parse_tensor, parse_tensors

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
