import ml_dtypes
import numpy as np
import pytest
import tvm
from refusals import refused

from relax_tapml.frontend._arrays import to_array


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "bfloat16", "float8_e4m3fn"])
def test_a_tvm_tensor_keeps_dtype_and_values(dtype):
    array = np.array([[1, 0], [1, 1]]).astype(getattr(ml_dtypes, dtype, dtype))
    back = to_array(tvm.runtime.tensor(array))
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "bfloat16", "float8_e4m3fn"])
def test_a_torch_tensor_keeps_dtype_and_values(dtype):
    torch = pytest.importorskip("torch", reason="needs the extra 'torch'")
    array = np.array([[1, 0], [1, 1]]).astype(getattr(ml_dtypes, dtype, dtype))
    tensor = torch.tensor([[1, 0], [1, 1]], dtype=torch.float32).to(getattr(torch, dtype))
    for given, expected in ((tensor, array), (tensor.T, array.T), (tensor[0, 0], array[0, 0])):
        back = to_array(given)
        assert (back.dtype, back.shape) == (array.dtype, expected.shape)
        assert back.tobytes() == np.asarray(expected).tobytes()


@pytest.mark.parametrize(
    ("value", "got"), [([1.0], "list"), (np.array(["a"]), "<U1"), (np.array([None]), "object")]
)
def test_what_is_no_tensor_is_refused(value, got):
    with refused(TypeError, "expected", "array", "got", got):
        to_array(value)
