"""The one place that reads a module from JSON."""

from __future__ import annotations

import tvm

from relax_tapml._compat import load_json
from relax_tapml.errors import StoreError


def read_module(data: bytes, where: str, *, fix: str) -> tvm.IRModule:
    """Return the module in what ``tvm.ir.save_json`` wrote.

    Parameters
    ----------
    data
        Content of a file, or of an entry of one.
    where
        For messages: its path.
    fix
        What to do where it cannot be used, a sentence.

    Raises
    ------
    StoreError
        This TVM cannot read it, or it is no module.
    """
    try:
        module = load_json(data.decode())
    except Exception as error:  # Whatever TVM raises about it.
        lines = str(error).strip().splitlines()
        told = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        raise StoreError(
            f"{where} is damaged: it is not a module this TVM can read: {told}. {fix}"
        ) from error
    if not isinstance(module, tvm.IRModule):
        raise StoreError(f"{where} holds a {type(module).__name__}, expected an IRModule. {fix}")
    return module
