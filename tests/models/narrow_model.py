"""A model whose values are of a narrow float, computed in float32."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from tvm import relax

from relax_tapml.frontend.model import Model, Sample

UNITS = ["cast", "cast1", "fused_matmul_cast2", "transpose", "cast3", "fused_softmax_cast4"]


def model(dtype: str) -> Model:
    """Return a product and a softmax, with drawn weights and two samples."""
    narrow = np.dtype(getattr(ml_dtypes, dtype, dtype))
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4, 8), dtype))
    w = relax.Var("w", relax.TensorType((8, 8), dtype))

    def cast(value: relax.Expr, to: str) -> relax.Var:
        return builder.emit(relax.op.astype(value, to))

    with builder.function("main", [x, w]):
        with builder.dataflow():
            product = builder.emit(relax.op.matmul(cast(x, "float32"), cast(w, "float32")))
            turned = builder.emit(relax.op.permute_dims(cast(product, dtype)))
            shares = builder.emit(relax.op.nn.softmax(cast(turned, "float32")))
            outputs = [builder.emit_output(value) for value in (cast(shares, dtype), turned)]
        builder.emit_func_output(relax.Tuple(outputs))
    rng = np.random.default_rng(0)
    samples = tuple(
        Sample(name=str(n), arrays=(rng.standard_normal((4, 8)).astype(narrow),)) for n in range(2)
    )
    weights = {"w": rng.standard_normal((8, 8)).astype(narrow)}
    return Model(name=dtype, module=builder.get(), params=weights, samples=samples)
