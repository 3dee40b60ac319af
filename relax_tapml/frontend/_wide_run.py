"""Runs a PyTorch computation with every float in a wider dtype.

``module.double()`` would copy all weights, and would change neither the dtypes that a model's code
names (``x.to(torch.float16)``) nor those in the graph of an exported program. So the float operands
of each operator, and its dtype arguments, are widened when it is dispatched. Some functions compare
the dtypes of their operands before that (a convolution those of input and bias), so operands are
also widened when a function is called from Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

_SKIPPED = "_assert_tensor_metadata"  # It asserts the dtypes of the model before widening.
_BITS = "aten::view.dtype"
_COMPLEX = {torch.float64: torch.complex128, torch.float32: torch.complex64}


def run_wide(run: Callable[[], Any], dtype: torch.dtype) -> Any:
    """Return what ``run`` returns when all floats that it computes with are of ``dtype``.

    Parameters
    ----------
    run
        A forward pass, without arguments. Weights are widened operator by operator, so no copy of
        all of them is held.
    dtype
        ``torch.float64`` or ``torch.float32``. Floats that are at least as wide stay as they are.

    Raises
    ------
    RuntimeError
        An operator reads the bits of a float or writes to a tensor of a narrower dtype, or PyTorch
        has no kernel of it for ``dtype``.
    """
    widening = _Widening(dtype)
    with torch.no_grad(), _Functions(widening), _Operators(widening):
        return run()


class _Widening:
    """Widens floats, complex numbers and their dtypes in nested arguments."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def is_narrow(self, value: Any) -> bool:
        return isinstance(value, torch.Tensor) and self._is_narrow_dtype(value.dtype)

    def all_of(self, values: Any) -> Any:
        return tree_map(self._widened, values)

    def call(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> Any:
        args, kwargs = self.all_of((tuple(args), dict(kwargs or {})))
        return func(*args, **kwargs)

    def _is_narrow_dtype(self, dtype: torch.dtype) -> bool:
        is_real = dtype.is_floating_point or dtype.is_complex
        return bool(is_real and dtype.itemsize < self._wide(dtype).itemsize)

    def _wide(self, dtype: torch.dtype) -> torch.dtype:
        return _COMPLEX[self._dtype] if dtype.is_complex else self._dtype

    def _widened(self, value: Any) -> Any:
        if isinstance(value, torch.dtype):
            return self._wide(value) if self._is_narrow_dtype(value) else value
        return value.to(self._wide(value.dtype)) if self.is_narrow(value) else value


class _Functions(TorchFunctionMode):  # type: ignore[misc]
    """Widens the operands of functions that are called from Python and do not write to them."""

    def __init__(self, widening: _Widening) -> None:
        super().__init__()
        self._widening = widening

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        # Attributes need no copy. _Operators handles functions that write, as x.add_ and x[i] = y.
        is_plain = name and not name.startswith("__") and not name.endswith("_")
        if is_plain and "out" not in (kwargs or {}):
            found = self._widening.call(func, args, kwargs)
        else:
            found = func(*args, **(kwargs or {}))
        # The code of a model may compare x.dtype.
        return self._widening.all_of(found) if isinstance(found, torch.dtype) else found


class _Operators(TorchDispatchMode):  # type: ignore[misc]
    """Widens the operands and results of operators."""

    def __init__(self, widening: _Widening) -> None:
        super().__init__()
        self._widening = widening

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func._schema.name
        if name.endswith(_SKIPPED):
            return None
        if func.name() == _BITS and (args[0].is_floating_point() or args[0].is_complex()):
            raise RuntimeError(f"{func.name()} reads the bits of a float")
        if func._schema.is_mutable:
            self._check_written(func, args, kwargs or {})
        return self._widening.all_of(self._widening.call(func, args, kwargs))

    def _check_written(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Refuse a write to a tensor that would go to its widened copy and be lost."""
        for index, parameter in enumerate(func._schema.arguments):
            if parameter.alias_info is None or not parameter.alias_info.is_write:
                continue
            value: Any = args[index] if index < len(args) else kwargs.get(parameter.name)
            if self._widening.is_narrow(value):
                raise RuntimeError(f"{func.name()} writes to a tensor of {value.dtype}")
