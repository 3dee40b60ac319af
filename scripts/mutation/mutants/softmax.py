"""Softmax that overflows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tvm

from mutation.edit import Edit, Offer, Place, instead
from relax_tapml._compat import prim


def no_maximum(node: Any, place: Place) -> Iterator[Edit]:
    """Leave out the subtraction inside an exponential: ``exp(x - maximum) -> exp(x)``."""
    if not isinstance(node, tvm.ir.Call) or not place.is_value:
        return
    if getattr(node.op, "name", "") == "tirx.exp" and isinstance(node.args[0], prim.Sub):
        plain = tvm.ir.Call(node.op, [node.args[0].a], attrs=node.attrs, ret_ty=node.ty)
        yield instead(place, node, plain)


OFFERS: dict[str, Offer] = {"softmax without maximum": no_maximum}
