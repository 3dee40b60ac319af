"""Evaluations in blocks of a free axis."""

from __future__ import annotations

import numpy as np
import pytest
from operator_kernels import kernel
from tvm import relax

from relax_tapml.arrays import as_float64
from relax_tapml.derive import _blocks
from relax_tapml.derive.derivation import Derivation

M, K, N = 5, 64, 64


@pytest.fixture(params=["whole", "blocks"])
def way(request, monkeypatch):
    if request.param == "blocks":
        monkeypatch.setattr(_blocks, "BLOCK_BYTES", 1 << 12)


def product(dtype):
    return kernel(relax.op.matmul, ((M, K), dtype), ((K, N), dtype))


def inputs(dtype):
    rng = np.random.default_rng(0)
    return {n: rng.standard_normal(s).astype(dtype) for n, s in enumerate([(M, K), (K, N)])}


COLUMNS = {"some": [0, 3, 17, 40, 63], "the last block": [62], "all": range(N), "none": []}


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.usefixtures("way")
def test_what_a_source_computed_is_the_oracle(columns, dtype):
    """And its bounds reach from there over all legal results; other elements are evaluated."""
    derivation, arguments = Derivation(product(dtype), [2]), inputs(dtype)
    places = (np.arange(M), np.array(COLUMNS[columns], int))
    nothing = np.zeros((M, N), dtype)
    [evaluated], [usual] = derivation.evaluated(arguments, {}, [nothing])
    # A source that is less accurate than any kernel should be.
    source = (as_float64(evaluated) + 3 * usual.allowed(evaluated)).astype(dtype)
    is_recorded = np.zeros((M, N), bool)
    is_recorded[np.ix_(*places)] = True
    [oracle], [tolerance] = derivation.evaluated(arguments, {}, [source], recorded=[places])
    np.testing.assert_array_equal(oracle, np.where(is_recorded, source, evaluated))
    [of_source] = derivation.tolerances(arguments, {}, [source])
    allowed = tolerance.allowed(oracle)
    expected = np.where(is_recorded, of_source.allowed(source), usual.allowed(evaluated))
    np.testing.assert_array_equal(allowed, expected)
    assert ("the source is up to" in tolerance.origin) == bool(is_recorded.any())
    right, wrong = as_float64(evaluated), as_float64(oracle) + 1.1 * allowed
    assert (np.abs(right - as_float64(oracle)) <= allowed).all()
    assert (np.abs(wrong - as_float64(oracle)) > allowed).all()


def test_blocks_give_what_the_whole_gives_at_recorded_places(monkeypatch):
    """Bit for bit, bounds too."""
    derivation, arguments = Derivation(product("float16"), [2]), inputs("float16")
    source = (as_float64(arguments[0]) @ as_float64(arguments[1]) * 1.01).astype("float16")
    places = (np.array([0, 2, 4]), np.array([0, 30, 31, 32, 63]))

    def run():
        return derivation.evaluated(arguments, {}, [source], recorded=[places])

    [whole], [bounds] = run()
    monkeypatch.setattr(_blocks, "BLOCK_BYTES", 1 << 12)
    [blocked], [of_blocks] = run()
    np.testing.assert_array_equal(blocked, whole)
    np.testing.assert_array_equal(of_blocks.allowed(blocked), bounds.allowed(whole))
    np.testing.assert_array_equal(whole[np.ix_(*places)], source[np.ix_(*places)])


def test_what_a_kernel_moves_is_recorded_too():
    """Where a source returned something else, that is what the suite says it returned."""
    derivation = Derivation(kernel(relax.op.permute_dims, ((3, 4), "float32")), [1])
    argument = np.arange(12, dtype="float32").reshape(3, 4)
    source = argument.T + 1
    places = (np.array([1]), np.array([0, 2]))
    [oracle], _ = derivation.evaluated({0: argument}, {}, [source], recorded=[places])
    np.testing.assert_array_equal(oracle[np.ix_(*places)], source[np.ix_(*places)])
    np.testing.assert_array_equal(oracle[0], argument.T[0])
