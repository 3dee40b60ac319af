"""What fills the memory that a kernel allocates for itself is small code."""

from __future__ import annotations

import pytest
import tvm

from relax_tapml.replays.unit._workspace import filler


def llvm_lines(pages):
    """Return how long the code of a filler is, as LLVM has optimised it."""
    module = tvm.IRModule({"fill": filler(pages).with_attr("global_symbol", "fill")})
    return len(tvm.tirx.build(module, target="llvm").inspect_source("ll").splitlines())


@pytest.mark.parametrize("pages", [16, 32, 4096])
def test_code_that_fills_memory_does_not_grow_with_it(pages):
    """LLVM unrolls loops whose length it knows, and may compile for ten seconds then."""
    assert llvm_lines([pages] * 8) < 1.2 * llvm_lines([1] * 8)
