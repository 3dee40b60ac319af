"""A suite of two units, written by a real recording."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812

from relax_tapml.capture.recorder import Recorder
from relax_tapml.capture.store import CaptureStore
from relax_tapml.carve.select.choose_cases import choose_cases
from relax_tapml.carve.write_suite import write_suite
from relax_tapml.partition.lower import lower
from relax_tapml.passes import native
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.passes.insert_capture import InsertCapture


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
    native.load()
    lowered = lower(Model)
    vm = relax.VirtualMachine(tvm.compile(InsertCapture()(lowered), target="llvm"), tvm.cpu())
    rng = np.random.default_rng(0)
    weight = tvm.runtime.tensor(rng.standard_normal((8, 8), dtype="float32"))
    with CaptureStore.create(folder / "captures", {}) as store:
        with Recorder(store) as recorder:
            for name in ("first", "second"):
                with recorder.sample(name):
                    vm["main"](tvm.runtime.tensor(rng.standard_normal((4, 8), "float32")), weight)
        write_suite(
            folder / "tests",
            choose_cases(store, [site for site, _ in annotated_calls(lowered)]),
            lowered=lowered,
            store=store,
            source=tvm.target.Target("llvm"),
            is_probed=False,
        )
    return folder / "tests"


@pytest.fixture
def moved_suite(written_suite, tmp_path):
    """A copy of its own, away from where it was written, without the captures."""
    return shutil.copytree(written_suite, tmp_path / "moved" / "tests")
