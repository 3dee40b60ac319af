"""Reductions in another order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tvm_ffi
from tvm import tirx

from mutation.edit import Edit, Place, changed_block, edits
from mutation.variants.scheduling import Maker
from relax_tapml._compat import SBlock, prim


def _permuting(what: str, order: Callable[[Any, Any], Any], *, is_even_only: bool = False) -> Maker:
    """Return a maker that runs through the reduction variables of a block in another order.

    The variables keep their values, so that the first step initialises the result as before; what
    is loaded in each step is another element.
    """

    def permuted(node: Any, _: Place) -> Iterator[Edit]:
        if not isinstance(node, SBlock) or node.init is None or _has_division(node.body):
            return
        reduced = [v for v in node.iter_vars if v.iter_type == tirx.IterVar.CommReduce]
        extents = [v.dom.extent for v in reduced]
        if not reduced or not all(isinstance(n, tirx.IntImm) and int(n) > 1 for n in extents):
            return
        if is_even_only and any(int(n) % 2 for n in extents):
            return
        other = {v.var: order(v.var, v.dom.extent) for v in reduced}
        body = tvm_ffi.structural_map(node.body, [(tirx.Var, lambda var: other.get(var, var))])
        yield Edit(where=f"{node.name_hint}: {what}", node=changed_block(node, body=body))

    return lambda function, _: edits(function, permuted)


def _even_then_odd(k: Any, n: Any) -> Any:
    half = n // 2
    return tirx.Select(k < half, 2 * k, 2 * (k - half) + 1)


def _has_division(body: Any) -> bool:
    """Return whether anything is divided: TVM 0.27 builds ``(1023 - k) // 8`` wrong for llvm."""
    found: list[Any] = []
    tvm_ffi.structural_walk(body, [(kind, found.append) for kind in (prim.FloorDiv, prim.FloorMod)])
    return bool(found)


MAKERS: dict[str, Maker] = {
    "backwards": _permuting("backwards", lambda k, n: n - 1 - k),
    "even then odd": _permuting("first even, then odd", _even_then_odd, is_even_only=True),
}
