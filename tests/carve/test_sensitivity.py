"""How far a model's outputs may be from the source's."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import ir as I  # noqa: N812
from tvm.script import relax as R  # noqa: N812

from relax_tapml import bring_up
from relax_tapml.carve.sensitivity import Noise, noise, noise_levels, output_tolerances
from relax_tapml.compare.comparison import compare
from relax_tapml.compare.tolerances.rule import tolerance_for
from relax_tapml.compare.verdict import Verdict
from relax_tapml.frontend.model import Model, Sample
from relax_tapml.suite.open_suite import open_suite


def test_levels_are_those_of_units_that_round(finished):
    """Of the order of the tolerance, relative to the result; what must be equal has none."""
    levels = noise_levels(open_suite(finished))
    assert levels
    assert all(1e-8 < unit.level < 1e-4 for unit in levels.values())
    assert all(unit.results for unit in levels.values())
    assert set(levels) <= set(open_suite(finished).manifest.units)


def test_noise_moves_results_of_units_and_keeps_what_is_masked():
    """As far as the level allows; other calls, arguments and mask values stay."""
    x = np.array([[1.0, -2.0, -1e9, -np.inf, np.nan, 0.0]], np.float32)
    argument, result, other = (tvm.runtime.tensor(x) for _ in range(3))
    instrument = noise({"softmax": Noise(level=1e-3, results=(1,))}, 0)
    instrument(None, "softmax", True, None, argument, result)
    np.testing.assert_array_equal(result.numpy(), x)
    instrument(None, "softmax", False, None, argument, result)
    instrument(None, "vm.builtin.reshape", False, None, other)
    moved = result.numpy()
    assert (moved[0, [0, 1, 5]] != x[0, [0, 1, 5]]).all()
    np.testing.assert_allclose(moved[0, [0, 1, 5]], x[0, [0, 1, 5]], atol=5e-3)
    np.testing.assert_array_equal(moved[0, 2:5], x[0, 2:5])
    for tensor in (argument, other):
        np.testing.assert_array_equal(tensor.numpy(), x)


def test_the_same_seed_makes_the_same_noise():
    """A resumed run judges as the run before."""
    found = []
    for seed in (1, 1, 2):
        tensor = tvm.runtime.tensor(np.ones(8, np.float32))
        noise({"a": Noise(level=1e-3, results=(0,))}, seed)(None, "a", False, None, tensor)
        found.append(tensor.numpy())
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


def test_no_two_results_or_blocks_have_the_same_noise(monkeypatch):
    """Or what differs in sign would cancel out, or add up, in all of them at once."""
    monkeypatch.setattr("relax_tapml.carve.sensitivity._BLOCK", 8)
    tensors = [tvm.runtime.tensor(np.ones(16, np.float32)) for _ in range(2)]
    instrument = noise({"a": Noise(level=1e-3, results=(0,))}, 0)
    for tensor in tensors:
        instrument(None, "a", False, None, tensor)
    parts = [part.tobytes() for tensor in tensors for part in tensor.numpy().reshape(2, 8)]
    assert len(set(parts)) == 4


def test_an_output_may_be_farther_off_than_it_was_seen_to_move():
    """And at least as far as its dtype allows; where noise makes it infinite it is not judged."""
    oracle = np.array([1.0, 2.0, np.inf, np.nan, 5.0], np.float32)
    runs = [
        [np.array([1.1, 2.0, np.inf, np.nan, np.inf], np.float32)],
        [np.array([0.9, 2.0, np.inf, np.nan, 5.0], np.float32)],
    ]
    (tolerance,) = output_tolerances([oracle], runs)
    allowed = tolerance.allowed(oracle)
    assert allowed[0] == pytest.approx(0.4, rel=1e-2)
    assert 0.05 < allowed[1] < 0.4
    np.testing.assert_array_equal(allowed[2:], [0, 0, np.nan])
    assert "4 times as far as the source's output moved" in tolerance.origin


def test_without_noise_the_dtype_decides():
    """So do whole numbers, and outputs whose shape depends on noise."""
    for oracle in (np.arange(4), np.ones(4, np.float32)):
        (tolerance,) = output_tolerances([oracle], [[oracle], [oracle]])
        np.testing.assert_allclose(
            tolerance.allowed(oracle), tolerance_for(oracle).allowed(oracle), rtol=1e-6
        )
    (tolerance,) = output_tolerances([np.ones(4, np.float32)], [[np.ones(5, np.float32)]])
    assert tolerance == tolerance_for(np.ones(4, np.float32))


@I.ir_module
class Amplifying:
    @R.function
    def main(x: R.Tensor((4, 64), "float32"), w: R.Tensor((64, 64), "float32")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            a = R.matmul(x, w)
            b = R.nn.softmax(a * R.const(3000.0, "float32"), axis=-1)
            c = R.matmul(b, w)
            R.output(c)
        return c


@pytest.fixture(scope="module")
def amplifying():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((4, 64), "float32"), rng.standard_normal((64, 64), "float32")
    # The two best keys score almost alike, as in a sharp attention.
    w[:, 0] = x.sum(axis=0)
    w[:, 1] = w[:, 0] * np.float32(1 + 1e-6)
    samples = (Sample(name="a", arrays=(x,)),)
    return Model(name="amplifying", module=Amplifying, params={"w": w}, samples=samples)


def test_a_right_kernel_passes_although_the_model_amplifies_its_errors(amplifying, tmp_path):
    """Summing in another order is right, although the output moves far more than float32 allows."""
    result = bring_up(
        amplifying,
        out=tmp_path / "out",
        session="inline",
        repair=False,
        device_pipeline="reordered:pipeline",
    )
    assert (result.verdict, result.culprits) == ("pass", [])
    step = result.document["steps"][-1]
    outputs = relax.VirtualMachine(tvm.compile(Amplifying, "llvm"), tvm.cpu())["main"](
        tvm.runtime.tensor(amplifying.samples[0].arrays[0]),
        tvm.runtime.tensor(amplifying.params["w"]),
    )
    rule = tolerance_for(outputs.numpy())
    off = outputs.numpy() + np.float32(step["error"])
    assert compare(outputs.numpy(), off, rule).verdict is Verdict.MISMATCH


def test_arguments_are_never_moved():
    """A kernel that writes in place has its result before its other arguments."""
    result, weight = (tvm.runtime.tensor(np.ones(4, np.float32)) for _ in range(2))
    noise({"a": Noise(level=1e-3, results=(0,))}, 0)(None, "a", False, None, result, weight)
    assert (result.numpy() != 1).all()
    np.testing.assert_array_equal(weight.numpy(), np.ones(4))
