"""Which layer a fault is in, from the alternatives that are right and those that are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relax_tapml.compare.verdict import WRONG, Verdict
from relax_tapml.printable import names_text
from relax_tapml.repair.alternative import Layer
from relax_tapml.repair.tried import Tried

_NAMED_AT_MOST = 4
_ANY_SCHEDULE, _ANY_OTHER = "with any schedule", "with any other schedule"


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """The unit on another device.

    Parameters
    ----------
    text
        A phrase that follows ``right``: ``on llvm``.
    verdict
        Of the kernel as it was lowered, without the device's pipeline.
    is_same_code
        Whether the device runs the very code that is wrong; else it is another target's.
    """

    text: str
    verdict: Verdict
    is_same_code: bool


def blamed(tried: Sequence[Tried], elsewhere: Sequence[Elsewhere] = ()) -> tuple[Layer, str]:
    """Return the layer, and a sentence with the evidence.

    Alternatives change one layer each, so a layer is at fault if a change of it alone makes the
    kernel right. Where changes of several layers do, the first in order counts: it changes least,
    and what comes later changes more than its own layer. Where none does, other devices tell: a
    kernel that is wrong on another target, too, is defined wrongly; code that is right on another
    device of the same target is right code.

    Parameters
    ----------
    tried
        In the order in which they were tried.
    elsewhere
        The unit on other devices, if that is known.
    """
    right = [one for one in tried if one.verdict is Verdict.PASS]
    layer, text = _by_alternatives(tried)
    if right or not elsewhere:
        return layer, text
    # What does not build there says nothing of what is wrong here.
    told = {verdict for verdict in WRONG if verdict is not Verdict.BUILD_ERROR} | {Verdict.PASS}
    others = [one for one in elsewhere if one.verdict in told]
    if not others:
        return layer, text
    same_and_right = any(one.is_same_code and one.verdict is Verdict.PASS for one in others)
    if same_and_right:
        layer = Layer.DRIVER
    elif any(one.verdict.is_wrong and not one.is_same_code for one in others):
        layer = Layer.DEFINITION
    return layer, "; ".join([text, *map(_elsewhere_text, others)])


def _by_alternatives(tried: Sequence[Tried]) -> tuple[Layer, str]:
    right = [one for one in tried if one.verdict is Verdict.PASS]
    wrong = [one for one in tried if one.verdict.is_wrong]
    if not tried:
        return Layer.UNKNOWN, "no alternative applies to it, so the layer of the fault is not known"
    if not right:
        if not wrong:
            return Layer.UNKNOWN, "no alternative could be judged"
        return Layer.UNKNOWN, f"wrong in every way that was tried: {_ways(tried, wrong)}"
    layer = right[0].layer
    same = [one for one in right if one.layer is layer]
    text = f"right {_ways(tried, same)}"
    others = [one for one in right if one.layer is not layer]
    if others:
        text += f"; also {_ways(tried, others)}"
    if wrong:
        text += f"; wrong {_ways(tried, wrong)}"
    return layer, text


def _ways(tried: Sequence[Tried], chosen: Sequence[Tried]) -> str:
    """Return the texts of alternatives; all schedules that were tried as one."""
    schedules = [one for one in tried if one.layer is Layer.SCHEDULE]
    has_all = len(schedules) > 1 and all(one in chosen for one in schedules)
    if not has_all:
        return names_text([one.text for one in chosen], _NAMED_AT_MOST)
    every = _ANY_OTHER if chosen[0].verdict is Verdict.PASS else _ANY_SCHEDULE
    texts = dict.fromkeys(every if one.layer is Layer.SCHEDULE else one.text for one in chosen)
    return names_text(list(texts), _NAMED_AT_MOST)


def _elsewhere_text(one: Elsewhere) -> str:
    code = "the same code" if one.is_same_code else "the kernel as it was lowered"
    return f"{code} is {'right' if one.verdict is Verdict.PASS else 'wrong'} {one.text}"
