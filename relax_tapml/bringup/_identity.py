"""What a resumed run must have in common with the one it continues."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Iterable
from typing import Any

import numpy as np
import tvm
from tvm import relax

from relax_tapml.arrays import Array
from relax_tapml.cores import in_threads
from relax_tapml.frontend.model import Model
from relax_tapml.partition.kernel_library import KernelSet


def source_identity(
    model: Model, lowered: tvm.IRModule, side: tvm.IRModule, kernels: KernelSet
) -> dict[str, str]:
    """Return digests of what the captures depend on, each named as a user would name it.

    Parameters
    ----------
    model, lowered
        What is run, and what it was lowered to.
    side, kernels
        What ``lower_for_target`` made of that for the source, and the kernels of it.
    """
    weights = (item for name, array in model.params.items() for item in (name, array))
    inputs = (array for sample in model.samples for array in sample.arrays)
    return {
        "model": _digest((tvm.ir.save_json(lowered), *weights)),
        "inputs": _digest((*inputs, _drive_text(model.drive))),
        "source or host pipeline": side_identity(side, kernels),
    }


def side_identity(side: tvm.IRModule, kernels: KernelSet) -> str:
    """Return a digest of what runs on a side: its kernels, and the functions that call them.

    Kernels count by what they are made of. Whether they have been built, and to which bytes, says
    something of the machine.
    """
    callers = {g: f for g, f in side.functions.items() if isinstance(f, relax.Function)}
    return _digest((tvm.ir.save_json(tvm.IRModule(callers)), *sorted(set(kernels.names))))


def module_identity(module: tvm.IRModule) -> str:
    """Return a digest of a whole module."""
    return _digest((tvm.ir.save_json(module),))


def _drive_text(drive: Any) -> str:
    """Say what a drive does as far as one can: its fields, or else its source."""
    if drive is None or dataclasses.is_dataclass(drive):
        return repr(drive)
    code = drive if inspect.isroutine(drive) else type(drive)
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):  # Typed in, or written in C.
        return f"{code.__module__}.{code.__qualname__}"


def _digest(items: Iterable[str | Array]) -> str:
    listed = list(items)
    digests = [b""] * len(listed)

    def add(number: int) -> None:
        item = listed[number]
        if isinstance(item, str):
            digests[number] = hashlib.sha256(b"text" + item.encode()).digest()
        else:
            digest = hashlib.sha256(f"{item.dtype}{item.shape}".encode())
            digest.update(np.ascontiguousarray(item).view(np.uint8).data)
            digests[number] = digest.digest()

    in_threads(add, range(len(listed)))
    return hashlib.sha256(b"".join(digests)).hexdigest()
