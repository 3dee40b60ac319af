"""Tolerances that are kept in a suite and read back from it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

import ml_dtypes
import numpy as np
import pytest
from edited_suite import edited

from relax_tapml import tensor_file
from relax_tapml.compare.tolerances.elements import ElementTolerance
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.index import IndexTolerance
from relax_tapml.compare.tolerances.registry import kind_of
from relax_tapml.compare.tolerances.rule import RuleTolerance
from relax_tapml.compare.tolerances.stored import StoredTolerance, TensorWriter
from relax_tapml.compare.tolerances.tolerance import Tolerance
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import StoreError
from relax_tapml.replays.replay import replay
from relax_tapml.suite.manifest import SuiteCase, SuiteInput, SuiteOutput
from relax_tapml.suite.open_suite import open_suite
from relax_tapml.suite.tolerances import read_tolerance, store_tolerance
from relax_tapml.targets.platforms.parse_target import parse_target
from relax_tapml.targets.toolchain.low_precision_math import LowPrecisionMath

LOW_PRECISION = LowPrecisionMath(names=frozenset({"sin"}), reason="the shader language allows it")
TARGETS = {"llvm": (), "cuda": ("tanh",), "arm64": (), "webgpu": ("acos", "asin", "atan", "cos")}


class Tensors:
    """What reading a tolerance needs of a suite."""

    folder = "suite"

    def __init__(self, *inputs, is_low_precision=False):
        self.is_low_precision = is_low_precision
        self.low_precision_math = LOW_PRECISION
        self.written = {f"input {i}": array for i, array in enumerate(inputs)}
        self.inputs = tuple(SuiteInput(tensor=name, weight=None) for name in self.written)

    def write(self, array):
        self.written[f"bound {len(self.written)}"] = array
        return list(self.written)[-1]

    def tensor(self, digest):
        return self.written[digest]

    def round_trip(self, tolerance):
        inputs = [self.written[item.tensor] for item in self.inputs]
        kept = store_tolerance(
            tolerance, write=TensorWriter(oracle=self.write, bound=self.write), inputs=inputs
        )
        output = SuiteOutput(tensor="output", tolerance=kept)
        case = SuiteCase(
            name="main-000-case0",
            site="main/000/f",
            sample="a",
            frame=0,
            call=0,
            function="main",
            may_write=False,
            inputs=self.inputs,
            outputs=(output,),
            reason="test",
        )
        return kept, read_tolerance(self, case, output)


def test_a_rule_and_equality_are_kept():
    """They are read back as they were."""
    for tolerance in (RuleTolerance(atol=0.0, rtol=0.5, origin="a"), EqualTolerance(origin="b")):
        kept, found = Tensors().round_trip(tolerance)
        assert found == tolerance
        assert kept.origin == tolerance.origin


def test_bounds_are_kept_as_a_tensor():
    """In their own dtype, not judged values included."""
    bound = np.array([1.0, 2.0, np.nan]).astype(ml_dtypes.float8_e8m0fnu)
    kept, found = Tensors().round_trip(ElementTolerance(bound=bound, origin="measured"))
    assert (kept.kind, kept.bound, kept.origin) == ("elements", "bound 0", "measured")
    assert found.bound.dtype == bound.dtype
    np.testing.assert_array_equal(found.allowed(np.zeros(3)), [1.0, 2.0, np.nan])


@pytest.mark.parametrize("is_low_precision", [False, True])
def test_bounds_for_low_precision_devices_are_kept_beside(is_low_precision):
    """Which of them count depends on what the suite is opened for."""
    bound, wider = np.float32([1, 2]), np.float32([10, 20])
    tensors = Tensors(is_low_precision=is_low_precision)
    kept, found = tensors.round_trip(ElementTolerance(bound=bound, low_precision=wider, origin="o"))
    assert (kept.bound, kept.coarse) == ("bound 0", "bound 1")
    np.testing.assert_array_equal(found.allowed(np.zeros(2)), wider if is_low_precision else bound)
    assert ("the shader language allows it" in found.origin) == is_low_precision
    kept, found = tensors.round_trip(ElementTolerance(bound=bound, origin="o"))
    assert kept.coarse is None
    np.testing.assert_array_equal(found.allowed(np.zeros(2)), bound)


def test_a_suite_is_opened_for_a_target(finished, monkeypatch):
    """Browsers and fast math may be less accurate, each in other functions; processors may not."""
    monkeypatch.delenv("TVM_CUDA_NVCC_NO_FAST_MATH", raising=False)
    for name, functions in TARGETS.items():
        suite = open_suite(finished, parse_target(name))
        found = suite.low_precision_math
        assert (set() if found is None else found.names) >= set(functions)
        assert (found is None) == (not functions)
        # No function of the model is one of them.
        assert suite.as_allowed("softmax") is suite
    assert open_suite(finished).low_precision_math is None


def test_values_of_indices_are_an_input_of_the_case():
    """They are found by identity first, then by content; nothing is written."""
    first, second = np.array([1.0, np.nan]), np.array([1.0, np.nan])
    tensors = Tensors(np.zeros(2), first, second)
    for values, position in ((second, 2), (first.copy(), 1)):
        kept, found = tensors.round_trip(IndexTolerance(values=values, axis=-1, origin="ties"))
        assert (kept.kind, kept.input, kept.axis) == ("index", position, -1)
        np.testing.assert_array_equal(found.values, values)
        assert found.axis == -1
    assert len(tensors.written) == 3
    with pytest.raises(ValueError, match="input of the case"):
        tensors.round_trip(IndexTolerance(values=np.ones(2), axis=0, origin="ties"))


def test_another_kind_cannot_be_kept():
    """Better no suite than one that judges by something else."""

    class Mine(Tolerance):
        origin = "mine"

        def allowed(self, oracle):
            return np.ones(oracle.shape)

    with pytest.raises(TypeError, match="a suite cannot hold a Mine"):
        Tensors().round_trip(Mine())


def test_bounds_that_were_forged_are_a_damaged_suite():
    """A negative bound is found when it is read, and the case is named."""
    tensors = Tensors()
    tolerance = ElementTolerance(bound=np.ones(2), origin="measured")
    tensors.write = lambda _: "forged"
    tensors.written["forged"] = np.array([1.0, -1.0])
    with pytest.raises(StoreError, match=r"main-000-case0: bound: expected at least 0, got -1"):
        tensors.round_trip(tolerance)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "exact"}, "expected a tolerance of kind rule, equal, .*got 'exact'"),
        ({"kind": "rule", "atol": 1.0}, r"'rule' needs \['atol', 'rtol'\], got \['atol'\]"),
        ({"kind": "equal", "numbers": {"ulps": 1.0}}, r"'equal' needs \[\], got \['ulps'\]"),
        ({"kind": "choices", "bound": "a", "alternatives": "b", "coarse": "c"}, "no coarse bounds"),
        ({"kind": "equal", "axis": 0}, r"'equal' needs \[\], got \['axis'\]"),
        ({"kind": "elements"}, r"needs \['bound'\], got \[\]"),
        ({"kind": "index", "input": 0}, r"needs \['input', 'axis'\], got \['input'\]"),
        ({"kind": "rule", "atol": -1.0, "rtol": 0.0}, "a tolerance is -1.0"),
        ({"kind": "rule", "atol": 0.0, "rtol": float("nan")}, "a tolerance is nan"),
    ],
)
def test_what_makes_no_tolerance_is_refused(fields, message):
    """Each kind has its own numbers, all of them and no others."""
    with pytest.raises(ValueError, match=message):
        kind_of(StoredTolerance(origin="test", **fields))


def give(suite, unit, **fields):
    """Give the first output of every case of a unit another tolerance, as an editor could."""
    with edited(suite) as document:
        for case in document["units"][unit]["cases"]:
            case["outputs"][0]["tolerance"] = {"origin": "edited", **fields}


def add_tensor(suite, array):
    """Add a tensor to a suite, listed like the others."""
    data = tensor_file.dump_tensor(array)
    digest = hashlib.sha256(data).hexdigest()
    file = f"data/{digest[:32]}.safetensors"
    (suite / file).write_bytes(data)
    with edited(suite) as document:
        document["tensors"][digest] = {
            "file": file,
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "rows": None,
        }
        document["sha256"][file] = digest
    return digest


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "guess"}, "manifest.json is damaged: .*expected a tolerance of kind rule"),
        ({"kind": "elements", "bound": "0" * 64}, "manifest.json is damaged: it does not list"),
        ({"kind": "index", "input": 7, "axis": 0}, "there is no input 7 among 1"),
        ({"kind": "index", "input": -1, "axis": 0}, "there is no input -1 among 1"),
        ({"kind": "index", "input": 0, "axis": 5}, "do not choose along axis 5 of"),
        ({"kind": "rule", "atol": "x", "rtol": 0}, "manifest.json is damaged: .*atol"),
    ],
)
def test_a_suite_with_a_tolerance_that_does_not_fit_is_refused(suite, fields, message):
    """Before anything runs."""
    give(suite, "cumsum", **fields)
    with pytest.raises(StoreError, match=message):
        open_suite(suite)


@pytest.mark.parametrize(("dtype", "shape"), [("float32", (3, 5)), ("int32", None)])
def test_a_bound_that_does_not_fit_its_output_is_refused(suite, dtype, shape):
    """It must be of floats and of the output's shape."""
    case = open_suite(suite).manifest.units["cumsum"].cases[0]
    output = open_suite(suite).manifest.tensors[case.outputs[0].tensor]
    digest = add_tensor(suite, np.ones(shape or output.shape, dtype))
    give(suite, "cumsum", kind="elements", bound=digest)
    with pytest.raises(StoreError, match="tolerance of output 0: expected a float bound of shape"):
        open_suite(suite)


def keep_one_case(suite, unit):
    with edited(suite) as document:
        del document["units"][unit]["cases"][1:]
    opened = open_suite(suite)
    return opened.tensor(opened.manifest.units[unit].cases[0].outputs[0].tensor)


def test_replay_holds_each_value_to_its_own_bound(suite):
    """Bounds are read from the suite, and a value without one is not judged."""
    oracle = keep_one_case(suite, "cumsum")
    bound = np.full(oracle.shape, 2.0**-6)
    bound[0, 0] = np.nan
    digest = add_tensor(suite, bound.astype(ml_dtypes.float8_e8m0fnu))
    give(suite, "cumsum", kind="elements", bound=digest)
    detail = replay(suite, session="inline", units=["cumsum"]).details["cumsum"]
    assert detail.verdict is Verdict.PASS
    assert (detail.worst.total, detail.worst.unjudged) == (oracle.size - 1, 1)
    assert (detail.worst.allowed, detail.worst.tolerance.origin) == (2.0**-6, "edited")


def test_a_case_of_which_nothing_is_judged_is_skipped(suite):
    """It is no pass, and the reason is given."""
    oracle = keep_one_case(suite, "cumsum")
    digest = add_tensor(suite, np.full(oracle.shape, np.nan, "float32"))
    give(suite, "cumsum", kind="elements", bound=digest)
    report = replay(suite, session="inline", units=["cumsum"])
    assert report.units == {"cumsum": Verdict.SKIPPED}
    assert report.details["cumsum"].reason.startswith("none of ")
    assert report.details["cumsum"].reason.endswith(" can be judged: edited")
    assert report.exit_code == 3


def test_the_manifest_holds_all_of_a_tolerance(suite):
    """Reading the document gives what was written."""
    document = json.loads((suite / "manifest.json").read_text())
    for unit, entry in open_suite(suite).manifest.units.items():
        for case, written in zip(entry.cases, document["units"][unit]["cases"], strict=True):
            found = [asdict(output.tolerance) for output in case.outputs]
            assert found == [output["tolerance"] for output in written["outputs"]]
