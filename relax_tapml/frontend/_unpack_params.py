"""UnpackParams: a tuple of parameters becomes one parameter for each item.

Models of MLC-LLM take all weights as one tuple, ``packed_params``. All later stages identify a
parameter by its name, so the tuple is unpacked once, here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from relax_tapml.frontend.signature import entry_function


class UnpackParams:
    """Replace each tuple-typed model parameter of ``entry`` by its items.

    Before::

        def main(x, packed_params: R.Tuple(R.Tensor((4,), "float32"), R.Tensor((2,), "float32"))):
            lv = R.add(x, packed_params[0])

    After::

        def main(x, packed_params_0: R.Tensor((4,), "float32"), packed_params_1: ...):
            lv = R.add(x, packed_params_0)

    Parameters
    ----------
    entry
        Name of a Relax function. With the attribute ``num_input``, only the parameters after that
        number are unpacked. Items keep their order; an item that is a tuple is left as it is.
    names
        Names of all items, in order; ``packed_params_0`` and so on by default.
    """

    def __init__(self, entry: str, names: Sequence[str] = ()) -> None:
        self.entry = entry
        self.names = tuple(names)

    def __call__(self, module: tvm.IRModule) -> tvm.IRModule:
        """Return a module with ``entry`` rewritten, or the module itself where it has no tuple."""
        function = entry_function(module, self.entry)
        attrs = function.attrs or {}
        count = int(attrs["num_input"]) if "num_input" in attrs else 0
        packed = [p for p in list(function.params)[count:] if isinstance(p.ty, tvm.ir.TupleType)]
        if not packed:
            return module
        numbered = [f"{var.name}_{index}" for var in packed for index in range(len(var.ty.fields))]
        names = iter(self.names or numbered)
        items = {var: [relax.Var(next(names), field) for field in var.ty.fields] for var in packed}
        params = [new for var in function.params for new in items.get(var, [var])]
        body = _ReadItems(module, items).visit_expr(function.body)
        result = tvm.IRModule(
            module.functions, attrs=module.attrs, global_infos=module.global_infos
        )
        result[self.entry] = relax.Function(
            params, body, function.ret_ty, function.is_pure, function.attrs, function.span
        )
        return result


@mutator
class _ReadItems(PyExprMutator):  # type: ignore[misc]
    """Read an item's own variable instead of an item of the tuple."""

    def __init__(self, module: tvm.IRModule, items: dict[Any, list[Any]]) -> None:
        super().__init__(module)
        self.items = items

    def visit_tuple_getitem_(self, op: Any) -> Any:
        if op.tuple_value in self.items:
            return self.items[op.tuple_value][op.index]
        return super().visit_tuple_getitem_(op)

    def visit_var_(self, op: Any) -> Any:
        if op in self.items:
            return relax.Tuple(self.items[op])
        return super().visit_var_(op)
