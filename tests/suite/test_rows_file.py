import ml_dtypes
import numpy as np
import pytest

from relax_tapml.suite import rows_file as tensor_file

DTYPES = [
    *(np.dtype(name) for name in ("bool", "int8", "uint16", "int64", "float16", "float32")),
    *(np.dtype(getattr(ml_dtypes, name)) for name in ("bfloat16", "float8_e4m3fn", "int4")),
]


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
def test_every_dtype_and_shape_comes_back_bit_for_bit(dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape).T
    loaded = tensor_file.load(tensor_file.dump(array), dtype.name, array.shape)
    assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)
    assert loaded.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("dtype", "shape", "cut", "message"),
    [
        ("float64", (2,), None, "expected .*F64.*got .*F32"),
        ("float32", (3,), None, r"expected .*\[3\].*got .*\[2\]"),
        ("float32", (2,), -1, "not a whole safetensors file"),
        ("float31", (2,), None, "'float31' is not a dtype"),
    ],
)
def test_another_tensor_than_expected_is_refused(dtype, shape, cut, message):
    data = tensor_file.dump(np.zeros(2, "float32"))
    with pytest.raises(ValueError, match=message):
        tensor_file.load(data[:cut], dtype, shape)
