# ruff: noqa: N812 - TVMScript
"""A model of eight units that compiles in a second: nested tuples, a scan, a unit called twice."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from tvm.script import ir as I
from tvm.script import relax as R

from relax_tapml.arrays import Array
from relax_tapml.frontend.model import Model, Sample

UNITS = ["matmul", "softmax", "split", "fused_gelu", "cumsum", "concatenate", "layer_norm", "sum"]


@I.ir_module
class Tiny:
    """The module: matrix products and what may stand between them."""

    @R.function
    def main(
        x: R.Tensor((4, 8), "float32"),
        w: R.Tensor((8, 8), "float32"),
        b: R.Tensor((8,), "float32"),
    ):
        with R.dataflow():
            h = R.matmul(x, w)
            s = R.nn.softmax(h, axis=-1)
            halves = R.split(s, 2, axis=1)
            left = halves[0]
            right = halves[1]
            c = R.cumsum(left, axis=1)
            g = R.nn.gelu(right)
            joined = R.concat((c, g), axis=1)
            p = R.matmul(joined, w)
            n = R.nn.layer_norm(p, b, b, axes=[-1])
            m = R.sum(n, axis=[1])
            R.output(g, n, m)
        return (n, (m, g))


def model() -> Model:
    """The module with weights, two samples, and numpy as its framework."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((8, 8)).astype("float32"),
        "b": rng.standard_normal(8).astype("float32"),
    }
    samples = tuple(
        Sample(name=name, arrays=(rng.standard_normal((4, 8)).astype("float32"),))
        for name in ("first", "second")
    )
    return Model(
        name="tiny",
        module=Tiny,
        params=weights,
        samples=samples,
        reference=lambda sample: in_numpy(*sample.arrays, **weights),
    )


def in_numpy(x: Array, w: Array, b: Array) -> list[Array]:
    """What the model computes, by other code, in float64."""
    x, w, b = (array.astype("float64") for array in (x, w, b))
    h = x @ w
    s = np.exp(h - h.max(axis=-1, keepdims=True))
    s /= s.sum(axis=-1, keepdims=True)
    c = np.cumsum(s[:, :4], axis=1)
    g = s[:, 4:] * 0.5 * (1 + np.vectorize(math.erf)(s[:, 4:] / math.sqrt(2)))
    p = np.concatenate((c, g), axis=1) @ w
    centred = p - p.mean(axis=1, keepdims=True)
    n = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * b + b
    return [array.astype("float32") for array in (n, n.sum(axis=1), g)]


def misread_by_the_importer() -> Model:
    """The same model, of a framework that says something else."""
    right = model()

    def other(sample: Sample) -> list[Array]:
        first, *rest = in_numpy(*sample.arrays, **right.params)
        return [first * np.float32(1.01), *rest]

    return dataclasses.replace(right, name="misread", reference=other)
