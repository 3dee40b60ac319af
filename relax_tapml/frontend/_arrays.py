"""Converts any framework's tensor to a NumPy array of the same dtype."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import tvm

from relax_tapml.arrays import Array
from relax_tapml.capture.host_tensor import HostTensor, numpy_dtype


def to_array(value: Any) -> Array:
    """Return a NumPy array with the dtype, shape and values of ``value``.

    Parameters
    ----------
    value
        A NumPy array, a TVM tensor on any device, or a torch tensor on any device.

    Returns
    -------
    Array
        bfloat16 and float8 come as ``ml_dtypes``. It may share memory with ``value``.

    Raises
    ------
    TypeError
        ``value`` is not a tensor, or NumPy has no dtype for it.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OSUV" and not hasattr(ml_dtypes, value.dtype.name):
            raise TypeError(f"expected an array of numbers, got dtype {value.dtype}")
        return value
    if type(value).__module__.startswith("torch"):
        return _from_torch(value)
    if isinstance(value, tvm.runtime.Tensor) and _is_plain(value):
        return HostTensor.view_of(value).array()
    if callable(getattr(value, "numpy", None)):
        return np.asarray(value.numpy())
    raise TypeError(f"expected a tensor or an array, got {type(value).__name__}")


def _is_plain(tensor: tvm.runtime.Tensor) -> bool:
    """Whether NumPy can read the memory of a tensor as it lies."""
    is_cpu = tensor.device.__device_type_name__() == "cpu"
    return is_cpu and tensor.is_contiguous() and numpy_dtype(str(tensor.dtype)) is not None


def _from_torch(tensor: Any) -> Array:
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"expected a tensor or an array, got {type(tensor).__name__}")
    name = str(tensor.dtype).removeprefix("torch.")
    tensor = tensor.detach().cpu()
    if not hasattr(ml_dtypes, name):
        return np.asarray(tensor.numpy())
    bits = {1: torch.uint8, 2: torch.int16}[tensor.element_size()]
    raw: Array = tensor.contiguous().view(bits).numpy()
    return raw.view(getattr(ml_dtypes, name))


def to_torch(array: Array) -> Any:
    """Copy an array into a torch tensor of the same dtype."""
    import torch

    if array.dtype.isbuiltin == 1:
        return torch.tensor(array)
    bits = {1: "uint8", 2: "int16"}[array.dtype.itemsize]
    return torch.tensor(array.view(bits)).view(getattr(torch, array.dtype.name))
