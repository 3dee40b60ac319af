"""Reductions in another order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tvm_ffi
from tvm import tirx

from mutation.edit import Edit, Place, edits
from mutation.variants.scheduling import Made, Maker
from relax_tapml._compat import SBlock, prim


def _backwards(function: tirx.PrimFunc, seed: int) -> Made:
    del seed
    return edits(function, _Permutation("backwards", lambda k, n: n - 1 - k))


def _even_then_odd(function: tirx.PrimFunc, seed: int) -> Made:
    del seed

    def order(k: Any, n: Any) -> Any:
        half = n // 2
        return tirx.Select(k < half, 2 * k, 2 * (k - half) + 1)

    return edits(function, _Permutation("first even, then odd", order, is_even_only=True))


class _Permutation:
    """An offer to run through the reduction variables of a block in another order.

    The variables keep their values, so that the first step initialises the result as before; what
    is loaded in each step is another element.
    """

    def __init__(
        self, what: str, order: Callable[[Any, Any], Any], *, is_even_only: bool = False
    ) -> None:
        self._what = what
        self._order = order
        self._is_even_only = is_even_only

    def __call__(self, node: Any, _: Place) -> Iterator[Edit]:
        if not isinstance(node, SBlock) or node.init is None:
            return
        reduced = [v for v in node.iter_vars if v.iter_type == tirx.IterVar.CommReduce]
        extents = [v.dom.extent for v in reduced]
        if not reduced or not all(isinstance(n, tirx.IntImm) and int(n) > 1 for n in extents):
            return
        if self._is_even_only and any(int(n) % 2 for n in extents):
            return
        if _has_division(node.body):
            return
        other = {v.var: self._order(v.var, v.dom.extent) for v in reduced}

        def variable(var: Any) -> Any:
            return other.get(var, var)

        yield Edit(
            where=f"{node.name_hint}: {self._what}",
            node=SBlock(
                node.iter_vars,
                node.reads,
                node.writes,
                node.name_hint,
                tvm_ffi.structural_map(node.body, [(tirx.Var, variable)]),
                node.init,
                node.alloc_buffers,
                node.match_buffers,
                node.annotations,
            ),
        )


def _has_division(body: Any) -> bool:
    """Return whether anything is divided: TVM 0.27 builds ``(1023 - k) // 8`` wrong for llvm."""
    found: list[Any] = []
    tvm_ffi.structural_walk(body, [(kind, found.append) for kind in (prim.FloorDiv, prim.FloorMod)])
    return bool(found)


MAKERS: dict[str, Maker] = {"backwards": _backwards, "even then odd": _even_then_odd}
