"""A model whose objects of one kind live on the device, with the functions that concern them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from relax_tapml.frontend.model import Functions


class ObjectsMeet(Exception):  # noqa: N818 - it never leaves the search for a culprit
    """A call takes objects of the device and of the host, so neither side can run it."""


class SplitFunctions:
    """Functions of two builds of a model: each call is made where its objects are.

    Calls without objects are made on the host.

    Parameters
    ----------
    device, host
        All functions of the model, on either side.
    makers
        The functions whose results are on the device.
    """

    def __init__(self, device: Functions, host: Functions, makers: Collection[str]) -> None:
        self._device = device
        self._host = host
        self._makers = makers
        # What these functions have returned from the device, so that no other object has their id.
        self._there: dict[int, Any] = {}

    def __getitem__(self, name: str) -> Callable[..., list[Any]]:
        """Return a function; see ``relax_tapml.frontend.model.Functions``.

        Calling it raises ``ObjectsMeet`` if its objects are not all on one side.
        """

        def call(*values: Any) -> list[Any]:
            is_there = self._is_there(name, values) or name in self._makers
            results = (self._device if is_there else self._host)[name](*values)
            if is_there:
                self._there.update((id(item), item) for item in filter(_is_object, results))
            return results

        return call

    def runtime(self, name: str) -> Callable[..., Any]:
        """Return a function of the runtime on the side of its objects; it raises as the others."""

        def call(*values: Any) -> Any:
            is_there = self._is_there(name, values)
            result = (self._device if is_there else self._host).runtime(name)(*values)
            if is_there and _is_object(result):
                self._there[id(result)] = result
            return result

        return call

    def _is_there(self, name: str, values: Collection[Any]) -> bool:
        there = {id(value) in self._there for value in values if _is_object(value)}
        if len(there) > 1:
            raise ObjectsMeet(name)
        return there == {True}


def _is_object(value: Any) -> bool:
    plain = (np.ndarray, np.generic, tuple, list, str, bytes, int, float)
    return value is not None and not isinstance(value, plain)
