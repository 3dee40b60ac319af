"""Values without tuple structure, followed back to where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import tvm
from tvm import relax
from tvm.ir import TupleType

# A value as nested lists of leaves, for a tuple that is spelled out in the module.
_Tree: TypeAlias = "Leaf | list[_Tree]"


@dataclass(frozen=True)
class Leaf:
    """One value that is not a tuple: an item of the value of ``root``.

    ``root`` is a variable that is bound to a computation or is a parameter, or a constant, shape or
    immediate; ``path`` leads through its tuple structure.
    """

    root: relax.Expr
    path: tuple[int, ...] = ()

    @property
    def type(self) -> tvm.ir.Type:
        """The type of the item."""
        ty = self.root.ty
        for index in self.path:
            ty = ty.fields[index]
        return ty

    def item(self, index: int) -> Leaf:
        """Return the leaf one level further in."""
        return Leaf(self.root, (*self.path, index))

    def access(self) -> tuple[relax.Expr, list[relax.Binding]]:
        """Return the item in normal form, with the bindings that take it out of its tuple."""
        expr = self.root
        bindings = []
        for index in self.path:
            item = relax.TupleGetItem(expr, index)
            expr = relax.Var("item", item.ty)
            bindings.append(relax.VarBinding(expr, item))
        return expr, bindings


class ValueLeaves:
    """Resolves the bindings of one function that only rename, pack or unpack values."""

    def __init__(self) -> None:
        self._bound: dict[relax.Var, _Tree] = {}

    def bind(self, binding: relax.Binding) -> bool:
        """Store a binding that only renames, packs or unpacks; return whether it is one."""
        if not isinstance(binding, relax.VarBinding):
            return False
        if not isinstance(binding.value, relax.Var | relax.Tuple | relax.TupleGetItem):
            return False
        self._bound[binding.var] = self._resolve(binding.value)
        return True

    def of_parameters(self, params: Iterable[relax.Var]) -> ValueLeaves:
        """Return a copy that resolves values of ``params`` only; other variables are its roots."""
        roots = set(params)
        inner = ValueLeaves()
        for var, tree in self._bound.items():
            if roots.issuperset(leaf.root for leaf in self.of(var)):
                inner._bound[var] = tree
        return inner

    def of(self, value: relax.Expr) -> list[Leaf]:
        """Flatten a value to its leaves, left to right."""
        return _spread(self._resolve(value), value.ty)

    def _resolve(self, value: relax.Expr) -> _Tree:
        if isinstance(value, relax.Tuple):
            return [self._resolve(field) for field in value.fields]
        if isinstance(value, relax.TupleGetItem):
            tree = self._resolve(value.tuple_value)
            index = int(value.index)
            return tree[index] if isinstance(tree, list) else tree.item(index)
        if isinstance(value, relax.Var) and value in self._bound:
            return self._bound[value]
        return Leaf(value)


def bindings_in(seq: relax.SeqExpr) -> Iterator[relax.Binding]:
    """Yield the bindings of a sequence and of its branches, each after what it uses."""
    for block in seq.blocks:
        for binding in block.bindings:
            if isinstance(binding.value, relax.If):
                yield from bindings_in(binding.value.true_branch)
                yield from bindings_in(binding.value.false_branch)
            yield binding


def pack_leaves(ty: tvm.ir.Type, leaves: Iterator[relax.Expr]) -> relax.Expr:
    """Put leaves, left to right, into the tuple structure of a type: the inverse of ``of``."""
    if isinstance(ty, TupleType):
        return relax.Tuple([pack_leaves(field, leaves) for field in ty.fields])
    return next(leaves)


def _spread(tree: _Tree, ty: tvm.ir.Type) -> list[Leaf]:
    if isinstance(tree, list):
        return [
            leaf
            for item, field in zip(tree, ty.fields, strict=True)
            for leaf in _spread(item, field)
        ]
    if isinstance(ty, TupleType):
        return [
            leaf
            for index, field in enumerate(ty.fields)
            for leaf in _spread(tree.item(index), field)
        ]
    return [tree]
