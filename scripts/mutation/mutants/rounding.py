"""Rounding the wrong way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tvm
from tvm import tirx

from mutation.edit import Edit, Offer, Place, instead
from relax_tapml._compat import prim, prim_op

_ROUNDINGS = {
    "tirx.floor": (tirx.ceil, tirx.trunc),
    prim_op("ceil"): (tirx.floor, tirx.trunc),
    "tirx.trunc": (tirx.floor, tirx.round),
    "tirx.round": (tirx.trunc, tirx.floor),
    "tirx.nearbyint": (tirx.trunc, tirx.floor),
}


def truncating_cast(node: Any, place: Place) -> Iterator[Edit]:
    """Cut the last bits off where a cast to a narrower float must round to the nearest."""
    if not isinstance(node, prim.Cast) or not place.is_value:
        return
    wide, narrow = str(node.value.ty.dtype), str(node.ty.dtype)
    if wide != "float32" or narrow not in ("float16", "bfloat16"):
        return
    if narrow == "bfloat16":
        high = tirx.reinterpret("uint32", node.value) & tirx.const(0xFFFF0000, "uint32")
        yield instead(place, node, prim.Cast(narrow, tirx.reinterpret("float32", high)))
        return
    # The value next to the rounded one, nearer to zero, if rounding went away from zero.
    bits = tirx.reinterpret("uint16", node)
    below = tirx.reinterpret(narrow, bits - tirx.const(1, "uint16"))
    is_away = tirx.abs(prim.Cast(wide, node)) > tirx.abs(node.value)
    yield instead(place, node, prim.Select(is_away, below, node))


def wrong_rounding(node: Any, place: Place) -> Iterator[Edit]:
    """Round in another direction: up for down, and to the nearest in a cast that cuts off."""
    if not place.is_value:
        return
    if isinstance(node, tvm.ir.Call):
        for other in _ROUNDINGS.get(getattr(node.op, "name", ""), ()):
            yield instead(place, node, other(node.args[0]))
    elif isinstance(node, prim.Cast):
        is_from_float = "float" in str(node.value.ty.dtype)
        if is_from_float and str(node.ty.dtype).startswith(("int", "uint")):
            for rounding in (tirx.nearbyint, tirx.floor):
                yield instead(place, node, prim.Cast(node.ty.dtype, rounding(node.value)))


OFFERS: dict[str, Offer] = {
    "truncating cast": truncating_cast,
    "wrong rounding mode": wrong_rounding,
}
