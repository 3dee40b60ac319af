"""A suite of two units, written by a real recording."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from recorded_suite import record
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812


@I.ir_module
class Model:
    @R.function
    def main(x: R.Tensor((4, 8), "float32"), w: R.Tensor((8, 8), "float32")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            a = R.matmul(x, w)
            b = R.nn.softmax(a, axis=-1)
            R.output(b)
        return b


@pytest.fixture(scope="session")
def written_suite(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((8, 8), dtype="float32")
    samples = [(rng.standard_normal((4, 8), "float32"), weight) for _ in range(2)]
    recording = record(Model, folder / "captures", samples)
    recording.write_suite(folder / "tests", is_probed=False)
    recording.store.close()
    return folder / "tests"


@pytest.fixture
def moved_suite(written_suite, tmp_path):
    """A copy of its own, away from where it was written, without the captures."""
    return shutil.copytree(written_suite, tmp_path / "moved" / "tests")
