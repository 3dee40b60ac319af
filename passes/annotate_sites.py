"""Name every operator call."""

from __future__ import annotations

from collections.abc import Iterator

import tvm
from tvm import relax

from ._rewriting import with_functions
from .module_pass import ModulePass
from .operator_call import operator_call, operator_functions
from .site import Site, site_of, with_site


@tvm.transform.module_pass(opt_level=0, name="AnnotateSites")
class AnnotateSites(ModulePass):
    """Give every operator call a stable, readable site id and the name of its unit.

    Both sides of a migration, the captures, the suite and the report name an operator by this id,
    so it must be given before target-specific lowering decides which kernels there are. The
    ordinal counts the operator calls of one function in program order, branches included.

    Precondition: normal form (the default after any Relax pass). Run after fusion, before
    ``DispatchSortScan`` and the build pipeline.

    The id lives in the call's span; nothing else changes::

        lv  = R.call_tir(cls.matmul, (x, w), ...)      # span: none
        lv1 = R.call_tir(cls.relu, (lv,), ...)
        # after
        lv  = R.call_tir(cls.matmul, (x, w), ...)      # main/000/matmul
        lv1 = R.call_tir(cls.relu, (lv,), ...)         # main/001/relu

    Applied twice, it changes nothing more. A module without operator calls is returned as it is.
    """

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        updated = {}
        for gvar, function in operator_functions(mod):
            namer = _Namer(mod, gvar.name_hint)
            named = namer.visit_expr(function)
            if namer.changed:
                updated[gvar] = named
        return with_functions(mod, updated)


def annotated_calls(mod: tvm.IRModule) -> Iterator[tuple[Site, relax.Call]]:
    """Yield every named call of a module, function by function in program order."""
    for _, function in operator_functions(mod):
        yield from annotated_calls_in(function)


def annotated_calls_in(function: relax.Function) -> Iterator[tuple[Site, relax.Call]]:
    """Yield every named call of a function in program order."""
    calls: list[relax.Call] = []
    relax.analysis.post_order_visit(
        function, lambda e: calls.append(e) if isinstance(e, relax.Call) else None
    )
    for call in calls:
        site = site_of(call)
        if site is not None:
            yield site, call


@relax.expr_functor.mutator
class _Namer(relax.PyExprMutator):  # type: ignore[misc]
    """Rewrites the calls of one function and counts its operators in program order."""

    def __init__(self, mod: tvm.IRModule, function: str) -> None:
        super().__init__(mod)
        self._mod = mod
        self._function = function
        self._count = 0
        self.changed = False

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = super().visit_call_(call)
        found = operator_call(call, self._mod)
        if found is None:
            return call
        site = Site(function=self._function, ordinal=self._count, unit=found.unit)
        self._count += 1
        if site_of(call) == site:
            return call
        self.changed = True
        return with_site(call, site)
