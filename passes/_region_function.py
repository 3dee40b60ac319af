"""Build the device function of one region."""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.ir import PrimType

from relax_tapml._compat import Constant

from ._phase_schedule import Region
from .value_leaves import Leaf, ValueLeaves, pack_leaves

_DIMENSION = PrimType("int64")


@dataclass(frozen=True, kw_only=True)
class RegionFunction:
    """The device function of a region, and its arguments.

    Parameters
    ----------
    function
        It has no name yet. Its calls have the spans, and so the sites, of the original ones.
    inputs
        The leaves it takes, in the order of its parameters.
    shape_args
        The shape argument that follows them, if symbolic dimensions need one.
    """

    function: relax.Function
    inputs: list[Leaf]
    shape_args: list[relax.Expr]


def build_region(region: Region, outputs: list[Leaf], leaves: ValueLeaves) -> RegionFunction:
    """Put the device sites of a region into a function that returns ``outputs`` as a tuple.

    Symbolic dimensions that no tensor among the inputs defines become one shape argument.
    """
    return _Builder(region, leaves).build(outputs)


class _Builder:
    """Collects the parameters of a region while it rewrites its bindings."""

    def __init__(self, region: Region, leaves: ValueLeaves) -> None:
        self._leaves = leaves
        self._region = region
        self._params: dict[Leaf, relax.Var] = {}
        self._bindings: list[relax.Binding] = []
        self._aliases: set[relax.Var] = set()

    def build(self, outputs: list[Leaf]) -> RegionFunction:
        bindings = self._bindings
        for binding in self._region.bindings:
            value = self._inside(binding.value)
            if not _is_new(value):
                self._aliases.add(binding.var)
            bindings.append(relax.VarBinding(binding.var, value))
        result = relax.Tuple([self._result(leaf) for leaf in outputs])
        result_var = relax.Var("outputs", result.ty)
        bindings.append(relax.VarBinding(result_var, result))
        body = relax.SeqExpr([relax.BindingBlock(bindings)], result_var)
        params = list(self._params.values())
        function = relax.Function(params, body, result.ty)
        dims = list(relax.analysis.free_symbolic_vars(function))
        shape_args: list[relax.Expr] = []
        if dims:
            params.append(relax.Var("shape", relax.ShapeType(dims)))
            function = relax.Function(params, body, result.ty)
            shape_args.append(relax.ShapeExpr(dims))
        return RegionFunction(
            function=relax.utils.copy_with_new_vars(function),
            inputs=list(self._params),
            shape_args=shape_args,
        )

    def _inside(self, value: relax.Call) -> relax.Call:
        args = [self._argument(arg) for arg in value.args]
        call = relax.Call(value.op, args, attrs=value.attrs, ty_args=value.ty_args, span=value.span)
        relax.expr._update_type(call, value.ty)
        return call

    def _argument(self, arg: relax.Expr) -> relax.Expr:
        if isinstance(arg, relax.Tuple):
            return relax.Tuple([self._argument(item) for item in arg.fields])
        if not isinstance(arg, relax.Var | relax.TupleGetItem):
            return arg
        if arg.ty == _DIMENSION:
            return arg  # Defined by a tensor or by the shape argument.
        leaves = [self._leaf(leaf) for leaf in self._leaves.of(arg)]
        return pack_leaves(arg.ty, iter(leaves))

    def _leaf(self, leaf: Leaf) -> relax.Expr:
        if isinstance(leaf.root, Constant) or leaf.root in self._region.produced:
            return self._item(leaf)
        if leaf not in self._params:
            self._params[leaf] = relax.Var(leaf.root.name, leaf.type)
        return self._params[leaf]

    def _result(self, leaf: Leaf) -> relax.Expr:
        item = self._item(leaf)
        if leaf.root not in self._aliases:
            return item
        # A result that is an argument, written in place, is not valid after the call on every
        # device; a view of it is.
        reshape = relax.ExternFunc("vm.builtin.reshape")
        view = relax.Var(leaf.root.name, item.ty)
        shape = item.ty.shape
        if shape is None:
            found = relax.op.shape_of(item)
            shape = relax.Var("shape", relax.ShapeType(ndim=item.ty.ndim))
            self._bindings.append(relax.VarBinding(shape, found))
        value = relax.op.call_pure_packed(reshape, item, shape, ty_args=item.ty)
        self._bindings.append(relax.VarBinding(view, value))
        return view

    def _item(self, leaf: Leaf) -> relax.Expr:
        item, bindings = leaf.access()
        self._bindings.extend(bindings)
        return item


def _is_new(value: relax.Call) -> bool:
    """Return whether the results of a device site are never one of its arguments."""
    return isinstance(value.op, tvm.ir.Op) and bool(value.op.name == "relax.call_tir")
