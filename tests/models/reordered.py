"""A pipeline whose matmuls sum backwards: other roundings, the same product."""

from __future__ import annotations

import tvm
from tvm import tirx

from mutation.variants import order


@tvm.transform.module_pass(opt_level=0, name="Reordered")
def pipeline(module, _context):
    """Run through every reduction backwards."""
    out = module.clone()
    for gvar, function in module.functions_items():
        if isinstance(function, tirx.PrimFunc) and "matmul" in gvar.name_hint:
            for _, other in order.MAKERS["backwards"](function, 0):
                out.update_func(gvar, other.with_attrs(dict(function.attrs.items())))
    return out
