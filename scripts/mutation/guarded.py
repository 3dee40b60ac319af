"""Tensors for kernels that may be broken: what lies around them in memory is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm

from relax_tapml.arrays import Array

_ALIGNMENT = 256
_LARGEST_GUARD = 8 << 20
_UNTOUCHED = 0xA5


class GuardedTensor:
    """A tensor on the CPU with readable and writable memory before and behind it.

    A kernel that reads or writes a little out of bounds then neither crashes nor sees something
    else in every run. Around the values lie copies of them, the end before the beginning, as
    another tensor of the same kind might: reading there gives plausible values.

    Parameters
    ----------
    array
        Values, in C order.
    """

    def __init__(self, array: Array) -> None:
        array = np.require(array, requirements="C")
        size = array.nbytes
        guard = min(size, _LARGEST_GUARD)
        before = -(-guard // _ALIGNMENT) * _ALIGNMENT
        memory = np.empty(before + size + guard + 2 * _ALIGNMENT, np.uint8)
        shift = -(memory.ctypes.data + before) % _ALIGNMENT
        self._memory = memory[shift : shift + before + size + guard]
        self._before = self._memory[before - guard : before]
        self._bytes = self._memory[before : before + size]
        self._behind = self._memory[before + size :]
        self._dtype, self._shape = array.dtype, array.shape
        self._original = array.reshape(-1).view(np.uint8)
        if size:
            flat = tvm.runtime.from_dlpack(self._bytes)
            self.tensor = flat._create_view(array.shape, array.dtype.name)
        else:
            self.tensor = tvm.runtime.empty(array.shape, array.dtype.name)
        self.reset()

    def reset(self) -> None:
        """Put the values and what is around them back."""
        guard = self._behind.size
        self._bytes[:] = self._original
        self._before[:] = self._original[self._original.size - guard :]
        self._behind[:] = self._original[:guard]

    @property
    def is_unchanged(self) -> bool:
        """Whether the values are what they were."""
        return bool(np.array_equal(self._bytes, self._original))

    def numpy(self) -> Array:
        """Return a copy of the values as they are now."""
        return self._bytes.copy().view(self._dtype).reshape(self._shape)


def untouched(shape: Sequence[int], dtype: Any) -> Array:
    """Return what memory holds that no kernel wrote to: the same bytes always.

    As floats they are tiny negative numbers, as bool they take turns.
    """
    array = np.empty(shape, dtype)
    if array.dtype == bool:
        array.reshape(-1)[:] = np.arange(array.size) % 2 == 0
    else:
        array.reshape(-1).view(np.uint8)[:] = _UNTOUCHED
    return array
