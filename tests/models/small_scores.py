# ruff: noqa: N812 - TVMScript
"""A detector that finds nothing, of a framework whose sigmoid is accurate relative to 1 only."""

from __future__ import annotations

import numpy as np
from tvm.script import ir as I
from tvm.script import relax as R

from relax_tapml.arrays import Array
from relax_tapml.frontend.model import Model, Sample


@I.ir_module
class Scores:
    """The module: a sigmoid."""

    @R.function
    def main(x: R.Tensor((1, 1000), "float32")) -> R.Tensor((1, 1000), "float32"):
        with R.dataflow():
            y = R.sigmoid(x)
            R.output(y)
        return y


def in_steps(sample: Sample) -> list[Array]:
    """What the framework returns: multiples of 2**-25."""
    exact = 1 / (1 + np.exp(-sample.arrays[0].astype("float64")))
    return [(np.round(exact * 2**25) / 2**25).astype("float32")]


def model() -> Model:
    """The module with one sample, whose scores are at most 3e-7."""
    x = np.random.default_rng(0).uniform(-19, -15, (1, 1000)).astype("float32")
    samples = (Sample(name="empty", arrays=(x,)),)
    return Model(name="scores", module=Scores, params={}, samples=samples, reference=in_steps)
