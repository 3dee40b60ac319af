"""Derived weights are computed once, by the host or by the device, and are held once."""

from __future__ import annotations

import gc
import weakref
from collections import Counter

import numpy as np
import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from same_kernels import LLVM, partitioned
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812

from relax_tapml.arrays import empty_aligned
from relax_tapml.capture.host_tensor import tensor_over
from relax_tapml.files.mapped import map_file
from relax_tapml.partition.derived_weights import (
    DerivedValues,
    DerivedWeight,
    derivations,
    deriving_units,
)
from relax_tapml.partition.hybrid import Host, HybridModule
from relax_tapml.partition.kernel_library import KernelLibrary
from relax_tapml.partition.lower import lower
from relax_tapml.partition.lower_for_target import lower_for_target
from relax_tapml.passes.lift_derived_weights import LiftDerivedWeights
from relax_tapml.targets.session.inline import InlineSession
from relax_tapml.tensor_file import parse_tensors, raw_tensors, write_tensors


@I.ir_module
class Module:
    @R.function
    def main(x: R.Tensor((2, 8), "float32"), w: R.Tensor((4, 8), "float32")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            t = R.permute_dims(w)
            y = R.matmul(x, t)
            n = R.nn.softmax(w, axis=0)
            u = R.permute_dims(n)
            z = R.matmul(x, u)
            r = R.add(y, z)
            R.output(r)
        return r


WEIGHT = np.arange(32, dtype="float32").reshape(4, 8)
X = np.ones((2, 8), "float32")
OTHER = np.ones(3, "float32")


class Session(InlineSession):
    """A session that counts what it does."""

    def __init__(self) -> None:
        super().__init__(LLVM)
        self.made = Counter()

    def upload(self, array):
        self.made["upload"] += 1
        return super().upload(array)

    def call(self, module, function, args):
        self.made[function] += 1
        return super().call(module, function, args)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    lowered = lower(Module)
    units = lower_for_target(lowered, LLVM)
    library = KernelLibrary(tmp_path_factory.mktemp("kernels"))
    return lowered, units, library, library.build(units, LLVM)


@pytest.fixture
def hybrid(built):
    """Return a hybrid with units on a device; all of a test have one host."""
    lowered, units, library, kernels = built
    host = Host(LLVM, kernels.files(), {"w": WEIGHT})

    def hybrid(session, *moved):
        program = partitioned(lowered, units, library, *moved)
        return HybridModule(host, program, session, kernels.files())

    hybrid.host = host
    return hybrid


def test_the_module_derives_as_the_tests_say(built):
    """Two weights, one of them over another one, neither of which needs the other."""
    lifted = LiftDerivedWeights()(built[0])
    found = derivations(lifted, ["main/000/transpose", "main/001/softmax"])
    assert [(item.function, item.weights) for item in found] == [
        ("main_weights", ("w",)),
        ("main_weights2", ("w",)),
    ]
    results = [result for item in found for result in item.results]
    assert [(item.name, item.origin, item.device_sites) for item in results] == [
        ("transpose(w)", "main/000/transpose", ("main/000/transpose",)),
        ("transpose(softmax(w))", "main/002/transpose", ("main/001/softmax",)),
    ]
    assert deriving_units(lifted) == {"transpose", "softmax"}


REGIONS = ("main_weights_region0", "main_weights2_region0")


def test_the_device_derives_once_in_a_session(hybrid):
    """Whatever moves then, and however often it runs; it is not sent what it has computed."""
    session = Session()
    plain = hybrid(None)["main"](X)
    moved = ["transpose", "softmax"]
    for more in ([], ["matmul"], ["matmul", "fused_matmul_add"]):
        program = hybrid(session, *moved, *more)
        for _ in range(2):
            (result,) = program["main"](X)
            assert result.tobytes() == plain[0].tobytes()
    assert [session.made[region] for region in REGIONS] == [1, 1]
    # The weight once, and the input in each run of two programs.
    assert session.made["upload"] == 1 + 4
    again = Session()
    hybrid(again, *moved)["main"](X)
    assert [again.made[region] for region in REGIONS] == [1, 1]


def test_a_weight_is_derived_anew_only_if_its_own_sites_move(hybrid):
    """What another chain of sites computes stays as it is."""
    session = Session()
    hybrid(session, "softmax")["main"](X)
    assert [session.made[region] for region in REGIONS] == [0, 1]


LAYERS = 4


@I.ir_module
class Layers:
    """As many weights that are transposed as there are layers."""

    @R.function
    def main(
        x: R.Tensor((2, 8), "float32"),
        a: R.Tensor((8, 8), "float32"),
        b: R.Tensor((8, 8), "float32"),
        c: R.Tensor((8, 8), "float32"),
        d: R.Tensor((8, 8), "float32"),
    ):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            y = R.matmul(x, R.permute_dims(a))
            z = R.matmul(y, R.permute_dims(b))
            r = R.matmul(z, R.permute_dims(c))
            s = R.matmul(r, R.permute_dims(d))
            R.output(s)
        return s


class Live:
    """Copies of tensors and arrays, and how many of them are alive, at most at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def array(self, given):
        copied = empty_aligned(given.shape, given.dtype)
        copied[:] = given
        self.now += 1
        self.most = max(self.most, self.now)
        weakref.finalize(copied, self._forget)
        return copied

    def tensor(self, given):
        return tensor_over(self.array(given.numpy()))

    def _forget(self) -> None:
        self.now -= 1


class MappingSession(Session):
    """As the process of a CPU: its parameters are pages of files."""

    def __init__(self, results: Live, downloads: Live) -> None:
        super().__init__()
        self._results, self._downloads = results, downloads

    def maps(self, array):
        return True

    def call(self, module, function, args):
        return [self._results.tensor(tensor) for tensor in super().call(module, function, args)]

    def download(self, tensor):
        return self._downloads.array(super().download(tensor))


@pytest.mark.parametrize("is_equal", [True, False])
def test_one_chain_is_held_at_a_time(is_equal, tmp_path):
    """Of what a device derives: of results that the host has no other memory is needed at all."""
    lowered = lower(Layers)
    units = lower_for_target(lowered, LLVM)
    library = KernelLibrary(tmp_path)
    kernels = library.build(units, LLVM)
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((8, 8)).astype("float32") for name in "abcd"}
    host = Host(LLVM, kernels.files(), weights)
    derived = {f"transpose({name})": empty_aligned((8, 8), np.dtype("float32")) for name in "abcd"}
    for name, weight in weights.items():
        derived[f"transpose({name})"][:] = weight.T if is_equal else weight.T + 1
    host.take_derived(derivations(LiftDerivedWeights()(lowered)), derived)
    results, downloads = Live(), Live()
    session = MappingSession(results, downloads)
    program = partitioned(lowered, units, library, "transpose")
    (output,) = HybridModule(host, program, session, kernels.files())["main"](X)
    gc.collect()
    np.testing.assert_allclose(
        output, X @ weights["a"].T @ weights["b"].T @ weights["c"].T @ weights["d"].T, rtol=1e-4
    )
    if is_equal:
        assert (results.most, results.now, downloads.most) == (1, 0, 0)
    else:  # All are other values, which both sides keep.
        assert (results.most, downloads.most) == (LAYERS, LAYERS)


def test_equal_values_are_held_once(hybrid):
    """What the device computes bit for bit as the host does is the host's."""
    hybrid(None)["main"](X)
    before = {value.tensor for value in hybrid.host.derived._values.values()}
    hybrid(Session(), "transpose")["main"](X)
    assert {value.tensor for value in hybrid.host.derived._values.values()} == before
    assert len(before) == 2


def test_a_value_belongs_to_the_session_that_has_computed_it():
    """In another one it is computed again; what the host has computed stays."""
    values = DerivedValues()
    first, second = Session(), Session()
    here = DerivedWeight(name="f(w)", origin="main/000/f")
    there = DerivedWeight(name="f(w)", origin="main/000/f", device_sites=("main/000/f",))
    values.begin(first)
    values.add(here, tvm.runtime.tensor(OTHER))
    values.add(there, tvm.runtime.tensor(OTHER + 1))
    kept, wrong = values.of(here), values.of(there)
    assert kept is not None
    assert wrong is not None
    assert kept.key != wrong.key
    values.begin(first)
    assert values.of(there) is wrong
    values.begin(second)
    assert (values.of(here), values.of(there)) == (kept, None)


def test_a_device_gets_the_value_of_its_own_variant():
    """Names alone do not say who has computed it."""
    values = DerivedValues()
    session = Session()
    values.begin(session)
    one = DerivedWeight(name="f(w)", origin="main/000/f")
    same = DerivedWeight(name="f(w)#2", origin="main/007/f")
    other = DerivedWeight(name="f(w)", origin="main/000/f", device_sites=("main/000/f",))
    values.add(one, tvm.runtime.tensor(OTHER))
    values.add(same, tvm.runtime.tensor(OTHER))
    values.add(other, tvm.runtime.tensor(-OTHER))
    assert values.of(same) is values.of(one)
    for weight, expected in ((one, OTHER), (other, -OTHER), (same, OTHER)):
        value = values.of(weight)
        assert value is not None
        np.testing.assert_array_equal(values.on_device(value).numpy(), expected)
    assert session.made["upload"] == 2


UNITS = ("transpose", "softmax", "matmul", "fused_matmul_add")


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(UNITS), is_mapped=st.booleans())
def test_each_weight_crosses_once_in_whatever_order_units_move(
    built, tmp_path_factory, order, is_mapped
):
    """Whoever derives it, and whoever has derived it before."""
    lowered, units, library, kernels = built
    weights = {"w": WEIGHT}
    if is_mapped:
        file = tmp_path_factory.mktemp("weights") / "w"
        write_tensors(file, raw_tensors(weights))
        weights = parse_tensors(map_file(file, fix="", max_bytes=1 << 20))
    host = Host(LLVM, kernels.files(), weights)
    sent = Counter()

    class Recording(Session):
        def upload(self, array):
            if array.shape in ((4, 8), (8, 4)):
                sent[array.tobytes()] += 1
            return super().upload(array)

    session = Recording()
    (expected,) = HybridModule(host, partitioned(lowered, units, library))["main"](X)
    for count in range(1, len(order) + 1):
        program = partitioned(lowered, units, library, *order[:count])
        (output,) = HybridModule(host, program, session, kernels.files())["main"](X)
        assert output.tobytes() == expected.tobytes()
    assert max(sent.values()) == 1


def test_tied_weights_of_a_file_are_one_on_the_device(tmp_path):
    """Each has a name of its own; arrays in memory may change and are not compared."""
    write_tensors(tmp_path / "w", raw_tensors({"w": WEIGHT, "v": WEIGHT + 1}))
    found = parse_tensors(map_file(tmp_path / "w", fix="", max_bytes=1 << 20))
    session = Session()
    one, other = session.parameter("a", found["w"]), session.parameter("b", found["w"][:])
    assert one.data_ptr() == other.data_ptr()
    apart = [session.parameter(f"c{i}", array) for i, array in enumerate((found["v"], WEIGHT))]
    assert len({tensor.data_ptr() for tensor in (one, *apart)}) == 3
    assert session.made["upload"] == 3
    session.release()
    session.parameter("a", found["w"])
    assert session.made["upload"] == 4
