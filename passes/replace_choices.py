"""Let a function observe the inputs of some units and replace their results at run time."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import tvm
from tvm import relax
from tvm.ir import TupleType

from relax_tapml._compat import StringImm

from ._rewriting import packed_call, rewritten, with_bindings, with_body, with_branches
from .module_pass import ModulePass
from .operator_call import operator_call
from .site import Site, site_of

OBSERVE = "relax_tapml.choice.observe"
"""Called with a site and the tensors that it takes."""

REPLACE = "relax_tapml.choice.replace"
"""Called with a site and its results, tuples flattened; returns the results to use instead."""


@tvm.transform.module_pass(opt_level=0, name="ReplaceChoices")
class ReplaceChoices(ModulePass):
    """Pass the results of some units through a function, which may replace them.

    Where two scores are equal, or nearly so, a unit may choose either, and all later values depend
    on the choice. Replacing a device's choices by the source's makes the later values comparable.

    Precondition: ``AnnotateSites`` has run. ``ToNonDataflow`` and ``RemovePurityChecking`` are
    applied where something is inserted. A module with no site of these units is returned as it is.
    The functions run on the host, whichever side the unit is on. ::

        i = R.call_tir(cls.argmax, (x,), out_ty=R.Tensor((4,), "int64"))     # main/000/argmax
        # after
        R.call_packed("relax_tapml.choice.observe", "main/000/argmax", x, ty_args=(R.Tuple,))
        i_own = R.call_tir(cls.argmax, (x,), out_ty=R.Tensor((4,), "int64"))
        i = R.call_packed("relax_tapml.choice.replace", "main/000/argmax", i_own,
                          ty_args=(R.Tensor((4,), "int64"),))

    Parameters
    ----------
    units
        Names of the units, which take and return tensors only.
    is_observed
        Whether their inputs are passed to a function, too.
    """

    def __init__(self, units: Collection[str], *, is_observed: bool = False) -> None:
        self._units = frozenset(units)
        self._is_observed = is_observed

    def transform_module(self, mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        return rewritten(mod, self._rewrite)

    def _rewrite(
        self, mod: tvm.IRModule, _name: str, function: relax.Function
    ) -> relax.Function | None:
        body = self._sequence(function.body, mod)
        return None if body.same_as(function.body) else with_body(function, body)

    def _sequence(self, seq: relax.SeqExpr, mod: tvm.IRModule) -> relax.SeqExpr:
        before = [binding for block in seq.blocks for binding in block.bindings]
        after = [new for binding in before for new in self._binding(binding, mod)]
        if len(after) == len(before) and all(map(_is_same, after, before)):
            return seq
        return with_bindings(seq, after)

    def _binding(self, binding: relax.Binding, mod: tvm.IRModule) -> Iterator[relax.Binding]:
        value = binding.value
        if isinstance(value, relax.If):
            true_branch = self._sequence(value.true_branch, mod)
            false_branch = self._sequence(value.false_branch, mod)
            if _is_same(true_branch, value.true_branch) and _is_same(
                false_branch, value.false_branch
            ):
                yield binding
                return
            new = with_branches(value, true_branch, false_branch)
            yield relax.VarBinding(binding.var, new)
            return
        site = site_of(value) if isinstance(value, relax.Call) else None
        if site is None or site.unit not in self._units:
            yield binding
            return
        if self._is_observed:
            found = operator_call(value, mod)
            args = [] if found is None else found.args
            nothing = relax.Var("_", TupleType([]))
            call = packed_call(OBSERVE, [StringImm(site.id), *args], nothing.ty)
            yield relax.VarBinding(nothing, call)
        own = relax.Var(f"{binding.var.name}_own", binding.var.ty)
        yield relax.VarBinding(own, value)
        yield from _replaced(binding.var, own, site)


def _is_same(a: tvm.Object, b: tvm.Object) -> bool:
    return bool(a.same_as(b))


def _replaced(var: relax.Var, own: relax.Var, site: Site) -> Iterator[relax.Binding]:
    items: list[relax.Expr] = [own]
    if isinstance(own.ty, TupleType):
        items = [relax.Var("item", ty) for ty in own.ty.fields]
        for number, item in enumerate(items):
            yield relax.VarBinding(item, relax.TupleGetItem(own, number))
    yield relax.VarBinding(var, packed_call(REPLACE, [StringImm(site.id), *items], own.ty))
