"""What chosen units return passes through a function of the host."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from choosing_models import ROUTES, TABLE, Pick, Route
from tvm import relax

from relax_tapml.partition.hybrid import callback_module
from relax_tapml.partition.lower import lower
from relax_tapml.passes.replace_choices import OBSERVE, REPLACE, ReplaceChoices


@pytest.mark.parametrize("is_observed", [False, True])
def test_a_tuple_is_passed_on_and_may_be_replaced(apply, is_observed):
    """Flattened; its inputs are observed if ``is_observed``."""
    module = apply(ReplaceChoices({"topk"}, is_observed=is_observed), lower(Route))
    seen = []

    def impose(site, values, places):
        seen.append((str(site), values.numpy(), places.numpy()))
        return tvm.runtime.convert([values, tvm.runtime.tensor(np.array([[2, 1]] * 3, "int64"))])

    executable = tvm.compile(module, "llvm").mod
    callbacks = {REPLACE: impose, OBSERVE: lambda *args: seen.append(args)}
    executable.import_module(callback_module(callbacks))
    machine = relax.VirtualMachine(executable, tvm.cpu())
    output = machine["main"](tvm.runtime.tensor(ROUTES), tvm.runtime.tensor(TABLE)).numpy()
    *observed, (site, values, places) = seen
    assert site == "main/000/topk"
    assert places.shape == (3, 2)
    assert len(observed) == is_observed
    wanted = (TABLE[[[2, 1]] * 3] * values[..., None]).sum(1)
    np.testing.assert_allclose(output, wanted, rtol=1e-5)


def test_without_such_a_unit_nothing_changes(apply):
    """The same module comes back."""
    module = lower(Pick)
    assert apply(ReplaceChoices({"topk"}), module).same_as(module)
