"""Long reductions for ``bench_detection.py``: what layers of a large language model add up."""

from __future__ import annotations

from typing import Any

import ml_dtypes  # noqa: F401 - makes bfloat16 known to NumPy
import numpy as np
from tvm import relax, te, tirx

from relax_tapml.arrays import Array
from relax_tapml.frontend.model import Model, Sample

SAMPLES = 2
COLUMNS = 16
GROUP = 32


class _Given:
    """Variables of a function, with what is passed for each."""

    def __init__(self) -> None:
        self.inputs: list[tuple[relax.Var, list[Array]]] = []
        self.weights: list[tuple[relax.Var, Array]] = []
        self._rng = np.random.default_rng(0)

    def sample(self, shape: tuple[int, ...], dtype: str) -> relax.Var:
        """Return an input of normal values."""
        variable = relax.Var(f"x{len(self.inputs)}", relax.TensorType(shape, dtype))
        drawn = [self._rng.standard_normal(shape).astype(dtype) for _ in range(SAMPLES)]
        self.inputs.append((variable, drawn))
        return variable

    def weight(self, shape: tuple[int, ...], dtype: str, scale: float) -> relax.Var:
        """Return a weight of normal values."""
        return self._weight((self._rng.standard_normal(shape) * scale).astype(dtype))

    def bits(self, shape: tuple[int, ...]) -> relax.Var:
        """Return a weight of random words."""
        return self._weight(self._rng.integers(0, 2**32, shape, dtype=np.uint32))

    def _weight(self, array: Array) -> relax.Var:
        kind = relax.TensorType(array.shape, array.dtype.name)
        variable = relax.Var(f"w{len(self.weights)}", kind)
        self.weights.append((variable, array))
        return variable


def reductions() -> Model:
    """Return products of up to 11,008 terms that are added in float16, bfloat16 and float32.

    Among them are two whose weights are packed into 4 bits, and attention to 2,048 tokens.
    """
    given, builder = _Given(), relax.BlockBuilder()
    with builder.function("main"):
        with builder.dataflow():
            found = [y for part in (_products, _packed, _attention) for y in part(builder, given)]
            output = builder.emit_output(relax.Tuple(found))
        params = [variable for variable, _ in (*given.inputs, *given.weights)]
        builder.emit_func_output(output, params)
    module = builder.get()
    module["main"] = module["main"].with_attr("num_input", len(given.inputs))
    samples = [
        Sample(name=f"sample {n}", arrays=tuple(drawn[n] for _, drawn in given.inputs))
        for n in range(SAMPLES)
    ]
    return Model(
        name="reductions",
        module=module,
        entry="main",
        params={variable.name: array for variable, array in given.weights},
        samples=tuple(samples),
    )


def _products(builder: relax.BlockBuilder, given: _Given) -> list[Any]:
    outputs = []
    for dtype, terms, is_wide in (
        ("float16", 1024, False),
        ("float16", 4096, False),
        ("float16", 11008, False),
        ("bfloat16", 512, False),
        ("bfloat16", 4096, False),
        ("float16", 11008, True),
        ("float32", 11008, False),
    ):
        x = given.sample((1, terms), dtype)
        w = given.weight((terms, COLUMNS), dtype, 1 / np.sqrt(terms))
        wide = "float32" if is_wide else dtype
        y = builder.emit(relax.op.matmul(x, w, out_dtype=wide))
        outputs.append(builder.emit(relax.op.astype(y, dtype)) if is_wide else y)
    return outputs


def _packed(builder: relax.BlockBuilder, given: _Given) -> list[Any]:
    """A product with weights of 4 bits, eight in a word, that are unpacked term by term."""
    outputs = []
    for terms in (1024, 4096):
        x = given.sample((1, terms), "float16")
        words = given.bits((terms // 8, COLUMNS))
        scales = given.weight((terms // GROUP, COLUMNS), "float16", 0.02 / np.sqrt(terms))
        outputs.append(builder.emit_te(_dequantized_matmul, x, words, scales))
    return outputs


def _dequantized_matmul(x: te.Tensor, words: te.Tensor, scales: te.Tensor) -> te.Tensor:
    word = te.reduce_axis((0, words.shape[0]), name="word")
    lane = te.reduce_axis((0, 8), name="lane")

    def weight(row: Any, nibble: Any, column: Any) -> Any:
        shift = tirx.Cast("uint32", nibble) * tirx.const(4, "uint32")
        whole = (words[row, column] >> shift) & tirx.const(15, "uint32")
        return (tirx.Cast("float16", whole) - tirx.const(7, "float16")) * scales[
            row // (GROUP // 8), column
        ]

    return te.compute(
        (x.shape[0], words.shape[1]),
        lambda i, j: te.sum(x[i, word * 8 + lane] * weight(word, lane, j), axis=[word, lane]),
        name="dequantized_matmul",
    )


def _attention(builder: relax.BlockBuilder, given: _Given) -> list[Any]:
    outputs = []
    heads, tokens, width = 2, 2048, 32
    for dtype in ("float16", "float32"):
        q = given.sample((heads, 2, width), dtype)
        k = given.sample((heads, width, tokens), dtype)
        v = given.sample((heads, tokens, width), dtype)
        scores = builder.emit(relax.op.matmul(q, k))
        share = builder.emit(relax.op.nn.softmax(scores, axis=-1))
        outputs.append(builder.emit(relax.op.matmul(share, v)))
    return outputs
