# ruff: noqa: N812 - TVMScript
"""A small model that derives weights: transposed, dequantised, packed together, and shared."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm.script import ir as I
from tvm.script import relax as R

from relax_tapml.arrays import Array
from relax_tapml.frontend.model import Functions, Model, Sample

LAYERS = 5
TRANSPOSE = "transpose"
DEQUANTIZE = "fused_reshape_cast_reshape1_multiply_reshape2"


@I.ir_module
class Weighted:
    """Two functions that share weights; ``prefill`` has layers, ``decode`` only the first."""

    @R.function
    def prefill(
        x: R.Tensor((4, 8), "float32"),
        w0: R.Tensor((8, 8), "float32"),
        w1: R.Tensor((8, 8), "float32"),
        w2: R.Tensor((8, 8), "float32"),
        w3: R.Tensor((8, 8), "float32"),
        w4: R.Tensor((8, 8), "float32"),
        q: R.Tensor((8, 8), "int8"),
        s: R.Tensor((16,), "float32"),
    ):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            t0 = R.permute_dims(w0)
            h0 = R.matmul(x, t0)
            t1 = R.permute_dims(w1)
            h1 = R.matmul(h0, t1)
            t2 = R.permute_dims(w2)
            h2 = R.matmul(h1, t2)
            t3 = R.permute_dims(w3)
            h3 = R.matmul(h2, t3)
            t4 = R.permute_dims(w4)
            h4 = R.matmul(h3, t4)
            g = R.reshape(q, (16, 4))
            f = R.astype(g, "float32")
            c = R.reshape(s, (16, 1))
            d = R.multiply(f, c)
            e = R.reshape(d, (8, 8))
            y = R.matmul(h4, e)
            u = R.matmul(y, w0)
            R.output(u, t0)
        return (u, t0)

    @R.function
    def decode(x: R.Tensor((1, 8), "float32"), w0: R.Tensor((8, 8), "float32")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            t = R.permute_dims(w0)
            y = R.matmul(x, t)
            R.output(y)
        return y


def weights() -> dict[str, Array]:
    """Return the weights, by name; each layer doubles nothing, so values stay around 1."""
    rng = np.random.default_rng(0)
    layers = {
        f"w{number}": (rng.standard_normal((8, 8)) / 8**0.5).astype("float32")
        for number in range(LAYERS)
    }
    quantized = {
        "q": rng.integers(-8, 8, (8, 8)).astype("int8"),
        "s": rng.uniform(0.02, 0.2, 16).astype("float32"),
    }
    return {**layers, **quantized}


def drive(functions: Functions, sample: Sample) -> list[Any]:
    """Call prefill, then decode twice with a row of what it returned."""
    rows, transposed = functions["prefill"](*sample.arrays)
    outputs = [rows, transposed]
    for row in range(2):
        outputs += functions["decode"](sample.arrays[0][row : row + 1])
    return outputs


def model() -> Model:
    """Return the model with three samples."""
    rng = np.random.default_rng(1)
    samples = tuple(
        Sample(name=name, arrays=(rng.standard_normal((4, 8)).astype("float32"),))
        for name in ("first", "second", "third")
    )
    return Model(
        name="weighted",
        module=Weighted,
        params=weights(),
        samples=samples,
        entry="prefill",
        drive=drive,
    )
