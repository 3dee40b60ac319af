"""A model as every later stage sees it: Relax, parameters by name, and real inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One set of real inputs of the entry function.

    Parameters
    ----------
    name
        Where it comes from, for reports: a file name, the start of a text.
    arrays
        One array per input of the entry function, in its order. Low-precision types are
        ``ml_dtypes``.
    """

    name: str
    arrays: tuple[Array, ...]


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a frontend returns.

    Parameters
    ----------
    name
        For people: ``all-MiniLM-L6-v2``.
    module
        IRModule with a Relax function ``entry``, whose parameters are its inputs followed by one
        parameter for each item of ``params``. It may be high-level Relax or already lowered.
    params
        Parameter name to array, in the order of ``entry``'s parameters after the inputs. Names
        are those of the Relax parameters.
    samples
        Real inputs, at least one.
    reference
        The framework's own outputs for a sample, flattened in order, or None where there is none.
    """

    name: str
    module: Any
    params: dict[str, Array]
    samples: tuple[Sample, ...]
    entry: str = "main"
    reference: Callable[[Sample], list[Array]] | None = field(default=None, compare=False)
