# ruff: noqa: N812 - TVMScript has its own conventions
"""Small models, and a way to run any model on llvm."""

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relax_tapml.frontend.model import Model, Sample


@I.ir_module
class Affine:
    """``x * scale + 2 * x[n:]``: a symbolic dimension, a derived one, a constant."""

    @R.function
    def main(
        x: R.Tensor(("n", 4), "float32"),
        y: R.Tensor(("n * 2",), "int64"),
        scale: R.Tensor((4,), "float32"),
    ) -> R.Tuple(R.Tensor(("n", 4), "float32"), R.Tensor(("n * 2",), "int64")):
        with R.dataflow():
            scaled = R.multiply(x, scale)
            shifted = R.add(y, R.const(3, "int64"))
            outputs = (scaled, shifted)
            R.output(outputs)
        return outputs


def affine_sample(rows, name="one"):
    x = np.arange(rows * 4, dtype="float32").reshape(rows, 4)
    return Sample(name=name, arrays=(x, np.arange(rows * 2, dtype="int64")))


@pytest.fixture
def affine():
    return Model(
        name="affine",
        module=Affine,
        params={"scale": np.array([1, 2, 3, 4], "float32")},
        samples=(affine_sample(2), affine_sample(3, name="two")),
    )


@pytest.fixture
def run_on_llvm():
    """Compile a model for llvm and return its flattened outputs for each sample."""

    def run(model):
        target = tvm.target.Target({"kind": "llvm", "opt-level": 1})
        executable = tvm.compile(model.module, target=target)
        vm = relax.VirtualMachine(executable, tvm.cpu())
        params = [tvm.runtime.tensor(array) for array in model.params.values()]
        results = []
        for sample in model.samples:
            inputs = [tvm.runtime.tensor(array) for array in sample.arrays]
            output = vm[model.entry](*inputs, *params)
            leaves = [output] if isinstance(output, tvm.runtime.Tensor) else list(output)
            results.append([leaf.numpy() for leaf in leaves])
        return results

    return run
