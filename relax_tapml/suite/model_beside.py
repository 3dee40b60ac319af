"""The model that a suite was carved from, where it lies beside the suite."""

from __future__ import annotations

import tvm

from relax_tapml.errors import StoreError
from relax_tapml.files.read import MAX_JSON_BYTES, read_bytes
from relax_tapml.foreign.module import read_module
from relax_tapml.partition.device_side import is_caller
from relax_tapml.passes.submodule import is_same
from relax_tapml.suite.open_suite import Suite


def model_beside(suite: Suite) -> tvm.IRModule | None:
    """Return ``lowered.json`` of the output folder that a suite lies in.

    Returns
    -------
    IRModule or None
        None where there is no such file, or the suite's units are not those of that model.
    """
    path = suite.folder.parent / "lowered.json"
    try:
        data = read_bytes(path, fix="", max_bytes=MAX_JSON_BYTES)
        lowered = read_module(data, str(path), fix="", trust=suite.trust)
    except StoreError:  # It is no part of the suite: without it, the suite is one alone.
        return None
    own = {gvar.name_hint: function for gvar, function in lowered.functions.items()}
    for unit in suite.manifest.units:
        for gvar, function in suite.module(unit).functions.items():
            name = gvar.name_hint
            if not is_caller(function) and not (name in own and is_same(own[name], function)):
                return None
    return lowered
