"""Copy arrays to tensors and back, in their own dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm

from relax_tapml.arrays import Array
from relax_tapml.errors import UsageError
from relax_tapml.targets.server.functions import ServerFunction

# TVM 0.27 counts bits for these and ml_dtypes bytes, so that a copy fails.
_NARROW = frozenset({"int2", "int4", "uint2", "uint4", "float6_e2m3fn", "float6_e3m2fn"})


def check_dtype(array: Array) -> None:
    """Refuse an array that no tensor can hold.

    Raises
    ------
    UsageError
        The dtype is not numeric, is complex, or packs values into part of a byte.
    """
    dtype = array.dtype
    if dtype.kind not in "biufV" or dtype.fields is not None or dtype.name in _NARROW:
        raise UsageError(
            f"a {dtype} array of shape {array.shape} cannot be copied to a device: expected bool, "
            "integers or floats of whole bytes; pass packed values as uint8 or uint32"
        )


def plain(array: Array) -> Array:
    """Return the same values C-contiguous and in the machine's byte order."""
    # Not ascontiguousarray, which turns a scalar into a vector.
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def to_device(array: Array, device: Any) -> Any:
    """Copy a plain array to a new tensor on ``device``."""
    return tvm.runtime.tensor(array, device)


def to_host(tensor: Any) -> Array:
    """Copy a tensor to a new array; bfloat16 and float8 are ``ml_dtypes``."""
    array: Array = tensor.numpy()
    return array


def free_kept() -> None:
    """Free the memory that VMs of this process keep for results to come."""
    tvm.get_global_func(str(ServerFunction.FREE_KEPT))()
