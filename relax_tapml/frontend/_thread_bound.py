"""Functions of a module that run on GPUs only, because kernels of theirs are bound to threads.

MLC binds some kernels to threads of a GPU whatever it compiles for: top-k and indices of mixtures
of experts, recurrences, image processing.
"""

from __future__ import annotations

from collections.abc import Collection

import tvm
from tvm import relax, tirx
from tvm_ffi import structural_walk
from tvm_ffi.structural import VisitInterrupt


def thread_bound_kernels(module: tvm.IRModule) -> dict[str, list[str]]:
    """Return the names of such kernels, by the public function that calls them, in order of name.

    A function calls what the functions that it calls do. Functions without such kernels are left
    out.
    """
    called = {gvar.name_hint: _names_in(function) for gvar, function in module.functions.items()}
    bound = {
        gvar.name_hint
        for gvar, function in module.functions.items()
        if isinstance(function, tirx.PrimFunc) and _is_bound(function)
    }
    found = {name: sorted(bound & _reached(name, called)) for name in _public(module)}
    return {name: kernels for name, kernels in found.items() if kernels}


def without_functions(module: tvm.IRModule, names: Collection[str]) -> tvm.IRModule:
    """Return a module without some public functions, and without what only they call."""
    if not names:
        return module
    called = {gvar.name_hint: _names_in(function) for gvar, function in module.functions.items()}
    kept = [name for name in _public(module) if name not in names]
    stays = set(kept).union(*(_reached(name, called) for name in kept))
    gone = set().union(*(_reached(name, called) for name in names), names) - stays
    left = {g: f for g, f in module.functions.items() if g.name_hint not in gone}
    return tvm.IRModule(left, attrs=module.attrs, global_infos=module.global_infos)


def _public(module: tvm.IRModule) -> list[str]:
    return sorted(
        gvar.name_hint
        for gvar, function in module.functions.items()
        if isinstance(function, relax.Function) and "global_symbol" in (function.attrs or {})
    )


def _reached(name: str, called: dict[str, set[str]]) -> set[str]:
    """Return the names of all functions that a function calls, itself or by others."""
    found: set[str] = set()
    pending = [name]
    while pending:
        new = called.get(pending.pop(), set()) - found
        found |= new
        pending += new
    return found


def _names_in(function: object) -> set[str]:
    names: set[str] = set()

    def note(node: object) -> None:
        if isinstance(node, tvm.ir.GlobalVar):
            names.add(node.name_hint)

    if isinstance(function, relax.Function):
        relax.analysis.post_order_visit(function, note)
    return names


def _is_bound(kernel: tirx.PrimFunc) -> bool:
    def stop(node: tirx.For) -> VisitInterrupt | None:
        return VisitInterrupt() if node.kind == tirx.ForKind.THREAD_BINDING else None

    return structural_walk(kernel.body, (tirx.For, stop), order="pre") is not None
