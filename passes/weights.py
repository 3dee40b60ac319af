"""Which values of a function are weights."""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.ir import TupleType

from .operator_call import operator_call
from .value_leaves import Leaf, ValueLeaves, bindings_in

DERIVED_ATTR = "relax_tapml.derived_weights"
"""Function attribute: the names of its results, which are weights that it computes from others."""

WEIGHTS_OF_ATTR = "relax_tapml.weights_of"
"""Function attribute: the name of the function that takes the results of this one as weights."""


def weight_params(function: relax.Function) -> list[relax.Var]:
    """Return the parameters after the first ``num_input`` ones; none without that attribute."""
    attrs = function.attrs or {}
    params = list(function.params)
    return params[int(attrs["num_input"]) :] if "num_input" in attrs else []


def derived_names(name: str, ty: tvm.ir.Type) -> list[str]:
    """Name the leaves of a derived weight, left to right: ``split(w).0`` for items of a tuple."""
    if not isinstance(ty, TupleType):
        return [name]
    return [
        leaf
        for index, field in enumerate(ty.fields)
        for leaf in derived_names(f"{name}.{index}", field)
    ]


class Weights:
    """The leaves of the parameters after the first ``num_input`` ones, by name.

    A parameter that a call may write to is not a weight, since its value changes during the run.

    Parameters
    ----------
    function
        Without the attribute ``num_input`` it has no weights.
    mod
        The module it is in.
    """

    def __init__(self, function: relax.Function, mod: tvm.IRModule) -> None:
        self._names = {param: param.name for param in weight_params(function)}
        self._written: set[Leaf] = set()
        leaves = ValueLeaves()
        for binding in bindings_in(function.body):
            if leaves.bind(binding) or not isinstance(binding.value, relax.Call):
                continue
            found = operator_call(binding.value, mod)
            if found is not None and found.may_write:
                for arg in found.args:
                    self._written.update(leaves.of(arg))

    def name(self, leaf: Leaf) -> str | None:
        """Name a leaf of a weight parameter (``packed_params.3``), or return None."""
        if leaf.root not in self._names or leaf in self._written:
            return None
        return ".".join((self._names[leaf.root], *map(str, leaf.path)))
