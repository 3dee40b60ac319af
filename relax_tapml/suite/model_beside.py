"""The model that a suite was carved from, where it lies beside the suite."""

from __future__ import annotations

import tvm

from relax_tapml.files.read import MAX_JSON_BYTES, read_bytes
from relax_tapml.foreign.module import read_module
from relax_tapml.passes.operator_call import is_caller
from relax_tapml.passes.submodule import is_same
from relax_tapml.suite.open_suite import Suite

_FIX = "Restore the file, or replay a copy of the suite that has no lowered.json beside it"


def model_beside(suite: Suite) -> tvm.IRModule | None:
    """Return ``lowered.json`` of the output folder that a suite lies in.

    Returns
    -------
    IRModule or None
        None where there is no such file, or the suite's units are not those of that model.

    Raises
    ------
    StoreError
        The file is damaged, or calls what is not known to be harmless and the suite is not trusted.
        A pipeline would be applied to other functions without it, so it is not ignored.
    """
    path = suite.folder.parent / "lowered.json"
    if not path.exists() and not path.is_symlink():
        return None
    data = read_bytes(path, fix=_FIX, max_bytes=MAX_JSON_BYTES)
    lowered = read_module(data, str(path), fix=_FIX, trust=suite.trust)
    own = {gvar.name_hint: function for gvar, function in lowered.functions.items()}
    for unit in suite.manifest.units:
        for gvar, function in suite.module(unit).functions.items():
            name = gvar.name_hint
            if not is_caller(function) and not (name in own and is_same(own[name], function)):
                return None
    return lowered
