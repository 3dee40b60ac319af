"""What every pass must keep, checked wherever one is applied."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tvm
from tvm import relax

from relax_tapml.passes.annotate_sites import AnnotateSites
from relax_tapml.passes.outline_dispatched_ops import OutlineDispatchedOps

Apply = Callable[[tvm.transform.Pass, tvm.IRModule], tvm.IRModule]


@pytest.fixture
def apply() -> Apply:
    """Apply a pass; its input must stay as it was, spans included, its result be well-formed."""

    def apply(step: tvm.transform.Pass, module: tvm.IRModule) -> tvm.IRModule:
        before = tvm.ir.save_json(module)
        result = step(module)
        assert tvm.ir.save_json(module) == before
        relax.analysis.well_formed(result)
        return result

    return apply


@pytest.fixture
def lowered() -> Callable[[tvm.IRModule], tvm.IRModule]:
    """Legalize a module without fusion and name its sites."""

    def lowered(module: tvm.IRModule) -> tvm.IRModule:
        return AnnotateSites()(OutlineDispatchedOps()(relax.transform.LegalizeOps()(module)))

    return lowered
