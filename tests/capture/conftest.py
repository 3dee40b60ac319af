"""A small instrumented model, and runs of the intrinsics without one."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812

from relax_tapml.capture.store import CaptureStore
from relax_tapml.partition.lower import lower
from relax_tapml.passes import native
from relax_tapml.passes.insert_capture import InsertCapture


@I.ir_module
class Model:
    @R.function
    def main(x: R.Tensor((8, 8), "float32"), w: R.Tensor((8, 8), "float32")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            y = R.matmul(x, w)
            z = R.add(y, x)
            R.output(y, z)
        return (z, y)


@pytest.fixture(scope="session")
def instrumented():
    """The model with every call recorded, ready to run."""
    native.load()
    return relax.VirtualMachine(tvm.compile(InsertCapture()(lower(Model)), "llvm"), tvm.cpu())


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    with CaptureStore.create(tmp_path / "store", {"model": "test"}) as store:
        yield store


@pytest.fixture
def intrinsics() -> SimpleNamespace:
    """The intrinsics themselves."""
    native.load()
    names = ("begin_frame", "inputs", "outputs", "stats", "start", "stop")
    return SimpleNamespace(
        **{n: tvm_ffi.get_global_func(f"relax_tapml.capture.{n}") for n in names}
    )


@pytest.fixture
def call_site(intrinsics) -> Callable[..., None]:
    """Capture one call: its site, an input array, and an output array or None."""

    def call(site, given, returned=None):
        frame = intrinsics.begin_frame("main")
        intrinsics.inputs(frame, site, "+0", tvm.runtime.tensor(np.asarray(given)))
        if returned is not None:
            intrinsics.outputs(frame, site, "+1", tvm.runtime.tensor(np.asarray(returned)))

    return call
