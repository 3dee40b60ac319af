# ruff: noqa: N812, RET504, SIM108 - TVMScript
"""Every selected call is recorded as it happened, and the outputs stay what they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.capture.recorder import Recorder
from relax_tapml.capture.store import CaptureStore
from relax_tapml.capture.values import OpaqueValue, ParameterValue, TensorValue
from relax_tapml.partition.built_functions import flat_values
from relax_tapml.partition.bytecode import compile_functions
from relax_tapml.partition.hybrid import Host
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.passes import native
from relax_tapml.passes.annotate_sites import AnnotateSites, annotated_calls
from relax_tapml.passes.insert_capture import InsertCapture, SiteFilter

LLVM = tvm.target.Target("llvm")
ROW = np.arange(4, dtype="float32")


def compiled(module: tvm.IRModule) -> relax.VirtualMachine:
    """The module through TVM's default pipeline."""
    native.load()
    return relax.VirtualMachine(tvm.compile(module, LLVM), tvm.cpu())


def run(vm: relax.VirtualMachine, inputs: list[object]) -> list[bytes]:
    args = [tvm.runtime.tensor(i) if isinstance(i, np.ndarray) else i for i in inputs]
    return [array.tobytes() for array in flat_values(vm["main"](*args))]


@dataclass
class Recording:
    """A store, read the way tests want it."""

    store: CaptureStore

    def calls(self, site: str) -> list[tuple[list[object], list[object] | None]]:
        """Inputs and outputs of each call of a site; tensors as lists of numbers."""
        return [
            (self._plain(call.inputs), None if call.outputs is None else self._plain(call.outputs))
            for call in self.store.calls(site=site)
        ]

    def _plain(self, values: tuple[object, ...]) -> list[object]:
        return [
            self.store.tensor(v.digest).tolist() if isinstance(v, TensorValue) else v
            for v in values
        ]

    def sites(self) -> list[str]:
        return [call.site for call in self.store.calls()]


@pytest.fixture
def record(tmp_path) -> Callable[..., Recording]:
    """Run a module with captures, once for each list of inputs, all in one sample."""

    def record(vm: relax.VirtualMachine, *runs: list[object]) -> Recording:
        store = CaptureStore.create(tmp_path / "store", {})
        with Recorder(store) as recorder, recorder.sample("only"):
            for inputs in runs:
                run(vm, inputs)
        return Recording(store)

    return record


@I.ir_module
class Simple:
    @R.function
    def main(x: R.Tensor((4,), "float32"), w: R.Tensor((4,), "float32")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            a = R.add(x, w)
            t = (a, x)
            b = t[0]
            c = R.add(b, x)
            R.output(c)
        return c


@I.ir_module
class SimpleCaptured:
    @R.function
    def main(x: R.Tensor((4,), "float32"), w: R.Tensor((4,), "float32")):
        R.func_attr({"num_input": 1, "relax.force_pure": True})
        frame = R.call_packed("relax_tapml.capture.begin_frame", R.str("main"), ty_args=[R.Object])
        _0 = R.call_packed(
            "relax_tapml.capture.inputs",
            *(frame, R.str("main/000/add"), R.str("+0"), x, R.str("@w"), w),
            ty_args=[R.Tuple([])],
        )
        a = R.add(x, w)
        _1 = R.call_packed(
            "relax_tapml.capture.outputs",
            *(frame, R.str("main/000/add"), R.str("+1"), a),
            ty_args=[R.Tuple([])],
        )
        t = (a, x)
        b = t[0]
        _2 = R.call_packed(
            "relax_tapml.capture.inputs",
            *(frame, R.str("main/001/add"), R.str("=1"), R.str("=0")),
            ty_args=[R.Tuple([])],
        )
        c = R.add(b, x)
        _3 = R.call_packed(
            "relax_tapml.capture.outputs",
            *(frame, R.str("main/001/add"), R.str("+2"), c),
            ty_args=[R.Tuple([])],
        )
        return c


def test_calls_are_put_around_each_site(apply):
    """Inputs before it, outputs after it; what is known is referred to, renamed or not."""
    captured = apply(InsertCapture(), AnnotateSites()(Simple))
    tvm.ir.assert_structural_equal(captured, SimpleCaptured)
    assert [site.id for site, _ in annotated_calls(captured)] == ["main/000/add", "main/001/add"]


@pytest.mark.parametrize(
    "select",
    [
        SiteFilter(units=[]),
        SiteFilter(units=["other"]),
        SiteFilter(functions=["other"]),
        SiteFilter(sites=["main/1*"]),
        SiteFilter(units=["add"], sites=["main/002/*"]),
    ],
    ids=str,
)
def test_nothing_selected_returns_the_same_module(apply, select):
    """Also where a pattern matches a part of a name only."""
    named = AnnotateSites()(Simple)
    assert apply(InsertCapture(select), named).same_as(named)


def test_without_names_there_is_nothing_to_capture(apply):
    """A module is annotated first."""
    assert apply(InsertCapture(), Simple).same_as(Simple)


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ({}, ["main/000/add", "main/001/add"]),
        ({"sites": ["main/001/*"]}, ["main/001/add"]),
        ({"functions": ["m*"], "units": ["a?d"], "sites": ["*/000/*", "x"]}, ["main/000/add"]),
    ],
    ids=["all", "site", "every field"],
)
def test_only_selected_sites_are_recorded(record, select, expected):
    """All fields of a filter must match; one pattern of a field is enough."""
    vm = compiled(InsertCapture(SiteFilter(**select))(AnnotateSites()(Simple)))
    recording = record(vm, [ROW, ROW])
    assert recording.sites() == expected


def test_each_sample_has_its_own_values_and_shares_the_weights(record):
    """A weight is recorded once by its name, an input in every run."""
    vm = compiled(InsertCapture()(AnnotateSites()(Simple)))
    w = tvm.runtime.tensor(ROW)
    recording = record(vm, [ROW, w], [ROW + 1, w])
    first, second = recording.calls("main/000/add")
    assert first == ([ROW.tolist(), ParameterValue(name="w")], [(ROW * 2).tolist()])
    assert second == ([(ROW + 1).tolist(), ParameterValue(name="w")], [(ROW * 2 + 1).tolist()])
    assert recording.store.parameter("w").tolist() == ROW.tolist()
    frames = {call.frame for call in recording.store.calls()}
    assert len(frames) == 2


@tvm.register_global_func("relax_tapml.test_insert_capture.scale")
def scale(*args):
    """Store the first tensor times the sum of all numbers in the last."""
    source, *factors, out = args
    out.copyfrom(source.numpy() * np.float32(sum(f for f in factors if isinstance(f, int | float))))


@tvm.register_global_func("relax_tapml.test_insert_capture.pick")
def pick(tensors, index):
    """Return an item of a tuple."""
    return tensors[index]


@tvm.register_global_func("relax_tapml.test_insert_capture.bump")
def bump(tensor, *_rest):
    """Add one in place and return nothing."""
    tensor.copyfrom(tensor.numpy() + 1)


@tvm.register_global_func("relax_tapml.test_insert_capture.bumped")
def bumped(tensor):
    """Add one in place and return the tensor."""
    tensor.copyfrom(tensor.numpy() + 1)
    return tensor


@I.ir_module
class Everything:
    """Each kind of call and of argument."""

    @T.prim_func(private=True, s_tir=True)
    def shift(x_handle: T.handle, k: T.int64, y_handle: T.handle):
        n = T.int64()
        x = T.match_buffer(x_handle, (n,), "float32")
        y = T.match_buffer(y_handle, (n,), "float32")
        for i in range(n):
            with T.sblock("y"):
                v = T.axis.spatial(n, i)
                y[v] = x[v] + T.cast(k, "float32")

    @T.prim_func(private=True, s_tir=True)
    def negate_inplace(x_handle: T.handle):
        n = T.int64()
        x = T.match_buffer(x_handle, (n,), "float32")
        for i in range(n):
            with T.sblock("x"):
                v = T.axis.spatial(n, i)
                x[v] = T.float32(0) - x[v]

    @T.prim_func(private=True, s_tir=True)
    def both(x_handle: T.handle, y_handle: T.handle, z_handle: T.handle):
        n = T.int64()
        x = T.match_buffer(x_handle, (n,), "float32")
        y = T.match_buffer(y_handle, (n,), "float32")
        z = T.match_buffer(z_handle, (n,), "float32")
        for i in range(n):
            with T.sblock("yz"):
                v = T.axis.spatial(n, i)
                y[v] = x[v] * T.float32(2)
                z[v] = x[v] * T.float32(3)

    @R.function(private=True)
    def unit_cumsum(x: R.Tensor(("n",), "float32")) -> R.Tensor(("n",), "float32"):
        R.func_attr({"relax_tapml.unit": "cumsum"})
        y = R.cumsum(x, axis=0)
        return y

    @R.function(private=True)
    def helper(x: R.Tensor(("n",), "float32")) -> R.Tensor(("n",), "float32"):
        n = T.int64()
        cls = Everything
        y = R.call_tir(cls.shift, (x, n), out_ty=R.Tensor((n,), "float32"))
        return y

    @R.function(pure=False)
    def main(
        x: R.Tensor(("n",), "float32"),
        w: R.Tensor(("n",), "float32"),
        packed: R.Tuple(R.Tensor(("n",), "float32"), R.Tensor(("n",), "float32")),
    ):
        R.func_attr({"num_input": 1})
        n = T.int64()
        cls = Everything
        a = R.call_tir(cls.shift, (x, n), out_ty=R.Tensor((n,), "float32"))
        b = R.call_tir_inplace(
            cls.negate_inplace, (a,), inplace_indices=[0], out_ty=R.Tensor((n,), "float32")
        )
        c = R.call_tir(
            cls.both, (b,), out_ty=[R.Tensor((n,), "float32"), R.Tensor((n,), "float32")]
        )
        c1 = c[1]
        d = R.call_dps_packed(
            "relax_tapml.test_insert_capture.scale",
            (c1, 2, R.prim_value(T.float32(0.5)), n, R.const([7.0], "float32")),
            out_ty=R.Tensor((n,), "float32"),
        )
        e = R.call_pure_packed(
            "relax_tapml.test_insert_capture.pick",
            (d, (packed, w)),
            R.prim_value(0),
            ty_args=R.Tensor((n,), "float32"),
        )
        _ = R.call_packed(
            "relax_tapml.test_insert_capture.bump",
            *(e, R.str("text"), R.shape([n, 2]), R.dtype("float16")),
            ty_args=R.Tuple([]),
        )
        f = R.call_inplace_packed(
            "relax_tapml.test_insert_capture.bumped",
            e,
            inplace_indices=[0],
            ty_args=R.Tensor((n,), "float32"),
        )
        g = cls.unit_cumsum(f)
        h = cls.helper(g)
        return (h, c)


INPUTS = [
    ROW,
    ROW * 10,
    (tvm.runtime.tensor(ROW * 100), tvm.runtime.tensor(ROW * 1000)),
]
A = ROW + 4
C = -A * 3
D = C * np.float32(2 + 0.5 + 4)


def prebuilt(module: tvm.IRModule, tmp_path, plain: tvm.IRModule) -> relax.VirtualMachine:
    """Bytecode of ``module`` with the kernels of the plain module, built apart."""
    native.load()
    library = KernelLibrary(tmp_path / "kernels")
    kernels = library.build(lower_for_target(plain, LLVM), LLVM)
    assert not kernels.failed
    host = Host(LLVM, kernels.files(), {})
    return host.virtual_machine(compile_functions(lower_for_target(module, LLVM), LLVM, library))


@pytest.mark.parametrize("build", ["compile", "prebuilt"])
def test_every_kind_of_call_is_recorded(build, record, apply, tmp_path):
    """Compiled as a whole, or with kernels that were built for the plain module."""
    named = AnnotateSites()(Everything)
    captured = apply(InsertCapture(), named)
    vm = compiled(captured) if build == "compile" else prebuilt(captured, tmp_path, named)
    recording = record(vm, INPUTS)

    def only(site: str) -> tuple[list[object], list[object] | None]:
        (call,) = recording.calls(site)
        return call

    name = "relax_tapml.test_insert_capture"
    assert only("main/000/shift") == ([ROW.tolist(), 4], [A.tolist()])
    assert only("main/001/negate_inplace") == ([A.tolist()], [(-A).tolist()])
    assert only("main/002/both") == ([(-A).tolist()], [(-A * 2).tolist(), C.tolist()])
    constant = ParameterValue(name="main.const0")
    assert only(f"main/003/{name}.scale") == ([C.tolist(), 2, 0.5, 4, constant], [D.tolist()])
    weights = [ParameterValue(name=name) for name in ("packed.0", "packed.1", "w")]
    assert only(f"main/004/{name}.pick") == ([D.tolist(), *weights, 0], [D.tolist()])
    dtype = OpaqueValue(type_key="DataType")
    assert only(f"main/005/{name}.bump") == ([D.tolist(), "text", (4, 2), dtype], [])
    assert only(f"main/006/{name}.bumped") == ([(D + 1).tolist()], [(D + 2).tolist()])
    total = np.cumsum(D + 2)
    assert only("main/007/cumsum") == ([(D + 2).tolist()], [total.tolist()])
    assert only("helper/000/shift") == ([total.tolist(), 4], [(total + 4).tolist()])
    assert len(recording.sites()) == 9
    assert {call.function for call in recording.store.calls()} == {"main", "helper"}
    assert recording.store.parameter("packed.1").tolist() == (ROW * 1000).tolist()
    assert recording.store.parameter("main.const0").tolist() == [7.0]


def test_outputs_are_bit_identical(apply, tmp_path):
    """With a recorder and without one, however it is built."""
    named = AnnotateSites()(Everything)
    captured = apply(InsertCapture(), named)
    expected = run(compiled(named), INPUTS)
    vm = compiled(captured)
    assert run(vm, INPUTS) == expected
    assert run(prebuilt(captured, tmp_path, named), INPUTS) == expected
    store = CaptureStore.create(tmp_path / "store", {})
    with Recorder(store) as recorder, recorder.sample("recorded"):
        assert run(vm, INPUTS) == expected


@I.ir_module
class Overwritten:
    """A value is read, overwritten by a call and read again, with an ``If`` in between."""

    @R.function(pure=False)
    def main(
        cond: R.Tensor((), "bool"), x: R.Tensor((4,), "float32"), w: R.Tensor((4,), "float32")
    ):
        R.func_attr({"num_input": 2})
        alias = w
        a = R.call_pure_packed(
            "relax_tapml.test_insert_capture.pick",
            *((x, alias), R.prim_value(0)),
            ty_args=R.Tensor((4,), "float32"),
        )
        if cond:
            _ = R.call_packed("relax_tapml.test_insert_capture.bump", x, ty_args=R.Tuple([]))
            y = R.call_packed(
                "relax_tapml.test_insert_capture.bumped", alias, ty_args=R.Tensor((4,), "float32")
            )
        else:
            y = x
        b = R.call_pure_packed(
            "relax_tapml.test_insert_capture.pick",
            *((x, w), R.prim_value(1)),
            ty_args=R.Tensor((4,), "float32"),
        )
        return (a, b, y)


@pytest.mark.parametrize("taken", [True, False])
def test_a_value_that_was_written_to_is_recorded_anew(taken, record):
    """A weight that is written to is no weight; what one branch wrote is stale after both."""
    vm = compiled(InsertCapture()(AnnotateSites()(Overwritten)))
    recording = record(vm, [np.array(taken), ROW, ROW * 10])
    before, after = (
        recording.calls(f"main/{ordinal}/relax_tapml.test_insert_capture.pick")[0][0]
        for ordinal in ("000", "003")
    )
    assert before == [ROW.tolist(), (ROW * 10).tolist(), 0]
    assert after == [(ROW + taken).tolist(), (ROW * 10 + taken).tolist(), 1]
    assert not recording.store.parameters()


def test_a_branch_is_recorded_when_it_runs(record):
    """What only one branch has captured is captured again after it."""

    @I.ir_module
    class Module:
        @R.function
        def main(cond: R.Tensor((), "bool"), x: R.Tensor((4,), "float32")):
            if cond:
                y = R.exp(x)
            else:
                y = x
            return R.add(y, x)

    captured = InsertCapture()(AnnotateSites()(relax.transform.LegalizeOps()(Module)))
    recording = record(compiled(captured), [np.array(False), ROW], [np.array(True), ROW])
    assert recording.sites() == ["main/001/add", "main/000/tir_exp", "main/001/add"]
    exp = np.frombuffer(run(compiled(Module), [np.array(True), ROW])[0], "float32") - ROW
    (skipped, _), (taken, _) = recording.calls("main/001/add")
    assert skipped == [ROW.tolist(), ROW.tolist()]
    np.testing.assert_allclose(taken[0], exp, rtol=1e-5)
    assert taken[1] == ROW.tolist()


@I.ir_module
class Rare:
    """A unit that few frames call, with a value that a call before it captures."""

    @R.function
    def main(cond: R.Tensor((), "bool"), x: R.Tensor((4,), "float32")):
        a = R.add(x, x)
        if cond:
            y = R.exp(a)
        else:
            y = a
        return y


def test_frames_between_record_what_is_new_only(record, apply):
    """Every third frame is recorded; a unit that is first called in another is, with its values."""
    captured = apply(InsertCapture(every=3), AnnotateSites()(relax.transform.LegalizeOps()(Rare)))
    runs = [[np.array(turn in (4, 5)), ROW + turn] for turn in range(8)]
    recording = record(compiled(captured), *runs)
    assert recording.sites() == [
        *("main/000/add", "main/000/add", "main/001/tir_exp", "main/000/add"),
    ]
    assert [inputs[0] for inputs, _ in recording.calls("main/000/add")] == [
        (ROW + turn).tolist() for turn in (0, 3, 6)
    ]
    ((given, _),) = recording.calls("main/001/tir_exp")
    assert given == [(2 * (ROW + 4)).tolist()]


def test_each_sample_counts_its_frames(tmp_path):
    """So the first frame of each is recorded."""
    vm = compiled(InsertCapture(every=2)(AnnotateSites()(Simple)))
    store = CaptureStore.create(tmp_path / "store", {})
    with Recorder(store) as recorder:
        for name in ("one", "other"):
            with recorder.sample(name):
                for turn in range(3):
                    run(vm, [ROW + turn, ROW])
    for name in ("one", "other"):
        found = [call.site for call in store.calls(sample=name)]
        assert found == ["main/000/add", "main/001/add"] * 2


def test_a_period_is_a_number_of_frames():
    with pytest.raises(ValueError, match="every: expected at least 1, got 0"):
        InsertCapture(every=0)


def test_a_call_that_cannot_be_captured_runs_on(record, apply):
    """It has a name and a reason, and no records."""

    @I.ir_module
    class Module:
        @R.function(pure=False)
        def main(x: R.Tensor((4,), "float32")):
            a = R.call_builtin_with_ctx("vm.builtin.copy", (x,), ty_args=R.Tensor((4,), "float32"))
            return R.add(a, x)

    named = AnnotateSites()(relax.transform.LegalizeOps()(Module))
    assert len(list(annotated_calls(named))) == 2
    captured = apply(InsertCapture(), named)
    inputs = captured.script().count("relax_tapml.capture.inputs")
    assert inputs == 1
