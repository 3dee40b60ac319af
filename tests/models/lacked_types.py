"""A model of what TVM's code generators for GPUs lack: types, and digits of constants."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.relax import op

from relax_tapml import Model
from relax_tapml.frontend.model import Sample

# Of the bytes, the last three have no word of their own.
SHAPE = (3, 5)


def bounded(x: Any) -> Any:
    """Return what is infinite, and pi times the rest."""
    infinity, pi = (tirx.const(value, "float32") for value in (math.inf, math.pi))
    return te.compute(
        x.shape,
        lambda i, j: tirx.if_then_else(x[i, j] > 1, infinity, x[i, j] * pi),
        name="bounded",
    )


def model() -> Model:
    """Return the model, with a row of scores that is masked as a whole."""
    builder = relax.BlockBuilder()
    ids = relax.Var("ids", relax.TensorType(SHAPE, "int64"))
    x = relax.Var("x", relax.TensorType(SHAPE, "float32"))
    scores = relax.Var("scores", relax.TensorType((4, 24), "float32"))
    with builder.function("main", [ids, x, scores]):
        with builder.dataflow():
            wide = builder.emit(op.add(ids, ids))
            keep = builder.emit(op.greater(wide, relax.const(3, "int64")))
            kept = builder.emit(op.where(keep, x, relax.const(0.0, "float32")))
            weights = builder.emit(op.nn.softmax(scores, axis=-1))
            bound = builder.emit_te(bounded, x)
            out = builder.emit_output((wide, keep, kept, weights, bound))
        builder.emit_func_output(out)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4, 24)).astype("float32")
    rows[1] = np.finfo("float32").min
    arrays = (
        rng.integers(0, 4, SHAPE) * (1 << 33) * rng.integers(0, 2, SHAPE)
        + rng.integers(0, 4, SHAPE),
        rng.standard_normal(SHAPE).astype("float32"),
        rows,
    )
    samples = (Sample(name="one", arrays=arrays),)
    return Model(name="lacked", module=builder.get(), params={}, samples=samples)
