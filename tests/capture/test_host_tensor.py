"""Bytes, dtypes, shapes and digests of tensors on their way through a store."""

from __future__ import annotations

import tempfile

import ml_dtypes
import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st

from relax_tapml.capture._writer import StoreWriter
from relax_tapml.capture.host_tensor import HostTensor, packed_bytes
from relax_tapml.capture.store import CaptureStore

DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2"),
    *("float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "float8_e3m4", "float8_e4m3"),
    *("int4", "uint4", "int2", "uint1", "float4_e2m1fn", "float6_e2m3fn"),
    *("float32x4", "int4x2", "float16x2", "float4_e2m1fnx2"),
)


@st.composite
def host_tensors(draw):
    dtype = draw(st.sampled_from(DTYPES))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    nbytes = packed_bytes(dtype, shape)
    data = draw(st.binary(min_size=nbytes, max_size=nbytes))
    if dtype == "bool":
        data = bytes(byte & 1 for byte in data)
    return HostTensor(dtype=dtype, shape=shape, data=np.frombuffer(data, np.uint8))


@settings(max_examples=25)
@given(tensors=st.lists(host_tensors(), min_size=1, max_size=12))
def test_store_keeps_every_dtype_bit_for_bit(tensors):
    """NaN payloads, padding bits, empty and scalar shapes: what is read is what was written."""
    with tempfile.TemporaryDirectory() as name, CaptureStore.create(name, {}) as store:
        with StoreWriter(store.folder) as writer:
            digests = [writer.add_tensor(tensor) for tensor in tensors]
            writer.flush()
        for digest, tensor in zip(digests, tensors, strict=True):
            read = store.tensor(digest, verify=True)
            assert read.tobytes() == tensor.data.tobytes()
            assert read.dtype == tensor.array().dtype
            assert read.shape == tensor.array().shape


@pytest.mark.parametrize(
    ("dtype", "expected", "shape"),
    [
        ("float32", np.float32, (3, 5)),
        ("bool", np.bool_, (3, 5)),
        ("bfloat16", ml_dtypes.bfloat16, (3, 5)),
        ("float8_e4m3fn", ml_dtypes.float8_e4m3fn, (3, 5)),
        ("float32x4", np.float32, (3, 5, 4)),
        ("int4", np.uint8, (8,)),
        ("float4_e2m1fn", np.uint8, (8,)),
    ],
)
def test_array_has_the_native_dtype(dtype, expected, shape):
    """Elements come as themselves where NumPy can lay them out so, else as packed bytes."""
    array = HostTensor.copy_of(tvm.runtime.empty((3, 5), dtype)).array()
    assert (array.dtype, array.shape) == (np.dtype(expected), shape)


def test_digest_names_dtype_and_shape_too():
    """Equal bytes of another dtype or shape are another tensor."""
    arrays = [np.zeros(4, "float32"), np.zeros((2, 2), "float32"), np.zeros(4, "int32")]
    digests = {HostTensor.of_array(array).digest for array in arrays}
    assert len(digests) == 3
    assert HostTensor.of_array(arrays[0]).digest in digests


def test_array_and_tensor_of_the_same_content_have_one_digest():
    """A NumPy array, strided or big-endian, is the tensor of its elements."""
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    tensor = tvm.runtime.tensor(np.ascontiguousarray(array, dtype="float32"))
    assert HostTensor.of_array(array).digest == HostTensor.view_of(tensor).digest
    assert HostTensor.copy_of(tensor).digest == HostTensor.view_of(tensor).digest


def test_unpacked_numpy_type_is_refused():
    """An ``int4`` array takes a byte an element, TVM's tensor half of one."""
    with pytest.raises(ValueError, match="NumPy array of int4"):
        HostTensor.of_array(np.zeros(4, ml_dtypes.int4))


def test_view_keeps_its_tensor_alive():
    """The bytes stay valid after the last other reference is gone."""
    view = HostTensor.view_of(tvm.runtime.tensor(np.arange(1000)))
    others = [tvm.runtime.tensor(np.zeros(1000, "int64")) for _ in range(10)]
    np.testing.assert_array_equal(view.array(), np.arange(1000))
    del others
