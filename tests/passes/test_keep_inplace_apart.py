"""What overwrites a value, and what must read it before, is not fused."""

from __future__ import annotations

import pytest
from inplace_models import Chain, Plain, Square, Two
from tvm import relax

from relax_tapml.passes.keep_inplace_apart import KeepInplaceApart


def patterned(module):
    return relax.transform.AnnotateTIROpPattern()(relax.transform.LegalizeOps()(module))


def opaque(module):
    return {
        gvar.name_hint
        for gvar, function in module.functions.items()
        if function.attrs and int(function.attrs.get("op_pattern", 0)) == 8
    }


@pytest.mark.parametrize(
    ("module", "kept"),
    [
        (Square, {"square", "sum"}),
        (Chain, {"square", "tir_exp", "relu"}),
        (Two, {"both"}),
    ],
    ids=["a reader before", "an alias", "one of two results"],
)
def test_writers_and_earlier_readers_are_kept_apart(apply, module, kept):
    """Also where a kernel writes to a result that is in the memory of another value."""
    result = apply(KeepInplaceApart(), patterned(module))
    assert opaque(result) == kept
    assert apply(KeepInplaceApart(), result).same_as(result)


def test_without_writers_nothing_changes(apply):
    """The same module comes back."""
    module = patterned(Plain)
    assert apply(KeepInplaceApart(), module).same_as(module)
