"""What a machine lacks decides no tolerance."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
from operator_kernels import KERNELS, inputs_of

from relax_tapml.derive.derivation import Derivation
from relax_tapml.errors import MachineError


@pytest.mark.parametrize(
    "lack", [MemoryError("Unable to allocate"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))]
)
def test_a_lacking_machine_is_no_underivable_kernel(lack, monkeypatch):
    """Which would be judged by the rule for its dtype."""
    function = KERNELS["softmax"]
    (x,) = inputs_of(function)
    oracle = np.zeros_like(x)

    def fail(*args, **kwargs):
        raise lack

    monkeypatch.setattr("tvm.tirx.build", fail)
    with pytest.raises(MachineError):
        Derivation(function, [1]).tolerances({0: x}, {}, [oracle])
    with pytest.raises(MachineError):
        Derivation(function, [1]).evaluated({0: x}, {}, [oracle])
