"""Which layer a fault is in, from the alternatives that are right and those that are wrong."""

from __future__ import annotations

from collections.abc import Sequence

from relax_tapml.compare.verdict import Verdict
from relax_tapml.printable import names_text
from relax_tapml.repair.alternative import Layer
from relax_tapml.repair.tried import Tried

_NAMED_AT_MOST = 4


def blamed(tried: Sequence[Tried]) -> tuple[Layer, str]:
    """Return the layer, and a sentence with the evidence.

    Alternatives change one layer each, so a layer is at fault if a change of it alone makes the
    kernel right. Where changes of several layers do, the first in order counts: it changes least,
    and what comes later changes more than its own layer.
    """
    right = [one for one in tried if one.verdict is Verdict.PASS]
    wrong = [one for one in tried if one.verdict.is_wrong]
    if not tried:
        return Layer.UNKNOWN, "no alternative applies to it, so the layer of the fault is not known"
    if not right:
        ways = names_text([one.text for one in wrong], _NAMED_AT_MOST)
        if not wrong:
            return Layer.UNKNOWN, "no alternative could be judged"
        return Layer.UNKNOWN, f"wrong in every way that was tried: {ways}"
    layer = right[0].layer
    same = [one.text for one in right if one.layer is layer]
    text = f"right {names_text(same, _NAMED_AT_MOST)}"
    others = [one.text for one in right if one.layer is not layer]
    if others:
        text += f"; also {names_text(others, _NAMED_AT_MOST)}"
    if wrong:
        text += f"; wrong {names_text([one.text for one in wrong], _NAMED_AT_MOST)}"
    return layer, text
