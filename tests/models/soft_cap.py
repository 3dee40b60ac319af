# ruff: noqa: N812 - TVMScript
"""A model with a soft cap, a rotation and a power, and pipelines that compute these inaccurately.

On a GPU, ``--target cuda`` does so by itself: see ``docs/platforms/cuda.md``.
"""

from __future__ import annotations

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call
from tvm.script import ir as I
from tvm.script import relax as R

from relax_tapml.frontend.model import Model, Sample


@I.ir_module
class Caps:
    """The module."""

    @R.function
    def main(x: R.Tensor((8, 64), "float32")):
        with R.dataflow():
            capped = R.multiply(R.tanh(R.multiply(x, R.const(0.1))), R.const(10.0))
            scores = R.nn.softmax(capped)
            turned = R.sin(scores)
            squared = R.power(R.matmul(turned, R.permute_dims(x)), R.const(2.0))
            R.output(squared)
        return squared


def model() -> Model:
    """The module with one sample, from small to saturated values."""
    x = np.random.default_rng(0).standard_normal((8, 64)) * np.logspace(-2, 2, 64)
    samples = (Sample(name="logits", arrays=(x.astype("float32"),)),)
    return Model(name="caps", module=Caps, params={}, samples=samples)


def inaccurately(function: str, share: float) -> tvm.transform.Pass:
    """Return a pipeline in which every call of a function returns ``1 + share`` times as much."""

    def change(call: Call) -> Call:
        if getattr(call.op, "name", "") != f"tirx.{function}":
            return call
        return call * tirx.const(1 + share, "float32")

    @tvm.transform.module_pass(opt_level=0, name="Inaccurately")
    def run(module: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        out = module.clone()
        for gvar, kernel in module.functions.items():
            if isinstance(kernel, tirx.PrimFunc):
                out.update_func(gvar, tvm_ffi.structural_map(kernel, (Call, change)))
        return out

    return run


tanh_fast = inaccurately("tanh", 2.0**-12)
tanh_wrong = inaccurately("tanh", 2.0**-8)
sin_inaccurate = inaccurately("sin", 2.0**-12)
