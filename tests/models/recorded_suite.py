"""A small model with every kind of call, recorded on llvm."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812
from tvm.script import tirx as T  # noqa: N812

from relax_tapml.capture.recorder import Recorder
from relax_tapml.capture.store import CaptureStore
from relax_tapml.carve.select.choose_cases import choose_cases
from relax_tapml.carve.write_suite import write_suite
from relax_tapml.partition.lower import lower
from relax_tapml.passes import native
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.passes.insert_capture import InsertCapture
from relax_tapml.passes.site import Site

LLVM = tvm.target.Target("llvm")


@I.ir_module
class Kinds:
    @T.prim_func(private=True, s_tir=True)
    def increment(x: T.handle, y: T.handle):
        n = T.int64()
        X = T.match_buffer(x, (n, 4))
        Y = T.match_buffer(y, (n, 4))
        for i, j in T.grid(n, 4):
            with T.sblock("Y"):
                vi, vj = T.axis.remap("SS", [i, j])
                Y[vi, vj] = X[vi, vj] + T.float32(1)

    @T.prim_func(private=True, s_tir=True)
    def double_inplace(x: T.handle):
        n = T.int64()
        X = T.match_buffer(x, (n, 4))
        for i, j in T.grid(n, 4):
            with T.sblock("X"):
                vi, vj = T.axis.remap("SS", [i, j])
                X[vi, vj] = X[vi, vj] * T.float32(2)

    @T.prim_func(private=True, s_tir=True)
    def add_and_subtract(
        X: T.Buffer((2, 4), "float32"),
        k: T.int64,
        Y: T.Buffer((2, 4), "float32"),
        Z: T.Buffer((2, 4), "float32"),
    ):
        for i, j in T.grid(2, 4):
            with T.sblock("Y"):
                vi, vj = T.axis.remap("SS", [i, j])
                Y[vi, vj] = X[vi, vj] + T.Cast("float32", k)
                Z[vi, vj] = X[vi, vj] - T.Cast("float32", k)

    @R.function
    def main(x: R.Tensor(("n", 4), dtype="float32"), w: R.Tensor((2, 4), dtype="float32")):
        R.func_attr({"num_input": 1})
        n = T.int64()
        cls = Kinds
        a = R.call_tir(cls.increment, (x,), out_ty=R.Tensor((n, 4), "float32"))
        b = R.cumsum(a, axis=1)
        c = R.call_tir(
            cls.add_and_subtract,
            (w, n),
            out_ty=[R.Tensor((2, 4), "float32"), R.Tensor((2, 4), "float32")],
        )
        d = R.call_pure_packed(
            "vm.builtin.reshape", a, R.shape([4, n]), ty_args=R.Tensor((4, n), "float32")
        )
        e = R.call_dps_packed("test_carve.sine", (d,), out_ty=R.Tensor((4, n), "float32"))
        f = R.add(a, R.const([1.0, 2.0, 3.0, 4.0], "float32"))
        g = R.call_tir_inplace(
            cls.double_inplace, (a,), inplace_indices=[0], out_ty=R.Tensor((n, 4), "float32")
        )
        return b, c, e, f, g


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A lowered module, its named calls, and what they were given and returned."""

    lowered: Any
    calls: dict[str, Any]
    sites: list[Site]
    store: CaptureStore

    def call_of(self, unit):
        return next(self.calls[site.id] for site in self.sites if site.unit == unit)

    def records_of(self, unit):
        return [
            record
            for site in self.sites
            if site.unit == unit
            for record in self.store.calls(site=site.id)
        ]

    def write_suite(self, folder, cases=None, **options):
        """Write a suite of these cases, or of those that are chosen, and return it."""
        chosen = choose_cases(self.store, self.sites) if cases is None else cases
        given = {"lowered": self.lowered, "store": self.store, "source": LLVM}
        return write_suite(folder, chosen, **{**given, **options})

    def weight_type(self, name):
        array = self.store.parameter(name)
        return relax.TensorType(array.shape, array.dtype.name)


def record(module, folder, samples):
    """Lower a module, run it on samples with every call recorded, and return the recording."""
    native.load()
    lowered = lower(module)
    executable = tvm.compile(InsertCapture()(lowered), target="llvm")
    vm = relax.VirtualMachine(executable, tvm.cpu())
    store = CaptureStore.create(folder, {})
    with Recorder(store) as recorder:
        for index, arrays in enumerate(samples):
            with recorder.sample(f"sample {index}"):
                vm["main"](*[tvm.runtime.tensor(array) for array in arrays])
    calls = list(annotated_calls(lowered))
    return Recording(
        lowered=lowered,
        calls={site.id: call for site, call in calls},
        sites=[site for site, _ in calls],
        store=store,
    )


@pytest.fixture(scope="session")
def record_model():
    """The function ``record``, for models of a test's own."""
    return record


@pytest.fixture(scope="session")
def recording(tmp_path_factory):
    @tvm.register_global_func("test_carve.sine", override=True)
    def sine(x, y):
        y.copyfrom(np.sin(x.numpy()))

    rng = np.random.default_rng(0)
    weight = rng.standard_normal((2, 4), dtype="float32")
    samples = [
        (scale * rng.standard_normal((rows, 4), dtype="float32"), weight)
        for scale, rows in ((1, 3), (10, 3), (1, 5))
    ]
    recording = record(Kinds, tmp_path_factory.mktemp("recording") / "captures", samples)
    yield recording
    recording.store.close()


@pytest.fixture(scope="session")
def _suite(recording, tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite") / "tests"
    recording.write_suite(folder, is_probed=False)
    return folder


@pytest.fixture
def suite(_suite, tmp_path):
    """A suite of every unit, without probes, in the folder ``tests`` of an output folder."""
    return shutil.copytree(_suite, tmp_path / "out" / "tests")
