"""Tolerances derived from kernels: every correct kernel is inside, and not much else."""

from __future__ import annotations

from functools import cache, partial

import ml_dtypes
import numpy as np
import pytest
import tvm
import tvm_ffi
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_kernels import KERNELS, MATRIX, ROW, inputs_of, kernel
from tvm import relax, te, tirx
from tvm.script import tirx as T  # noqa: N812

from mutation.guarded import GuardedTensor
from mutation.kernel import build_kernels, output_tensors
from mutation.variants import variants
from relax_tapml.arrays import is_float
from relax_tapml.compare.comparison import compare
from relax_tapml.compare.tolerances.elements import ElementTolerance
from relax_tapml.compare.tolerances.equal import EqualTolerance
from relax_tapml.compare.tolerances.index import IndexTolerance
from relax_tapml.compare.tolerances.rule import RuleTolerance
from relax_tapml.compare.verdict import Verdict
from relax_tapml.derive.derivation import Derivation

ROUNDING = ("softmax", "layer_norm", "matmul", "sum", "gelu", "gelu_tanh", "silu", "exp", "power")
EXACT = ("transpose", "mask", "condition", "to_half", "to_int", "take")


def built(functions):
    """For each kernel a function that runs it on llvm: of inputs, its result."""

    def run(function, kernel, inputs):
        out = function.params[-1]
        like = np.zeros([int(extent) for extent in out.shape], np.dtype(str(out.dtype)))
        (found,) = kernel([GuardedTensor(array) for array in inputs], output_tensors([like]))
        return found

    kernels = build_kernels(functions, {"kind": "llvm", "opt-level": 1})
    return [partial(run, *each) for each in zip(functions, kernels, strict=True)]


def result_of(function, inputs):
    """Run a kernel on llvm."""
    (run,) = built([function])
    return run(inputs)


def derived(function, inputs, oracle):
    derivation = Derivation(function, [len(function.params) - 1])
    (tolerance,) = derivation.tolerances(dict(enumerate(inputs)), {}, [oracle])
    return tolerance


def judged(function, inputs=None):
    """Run a kernel on llvm; return what it gives and the derived tolerance of it."""
    inputs = inputs_of(function) if inputs is None else inputs
    oracle = result_of(function, inputs)
    return oracle, derived(function, inputs, oracle)


def elementwise(body, *params):
    """A kernel that computes each value of its result from those at the same place."""
    tensors = [te.placeholder(shape, dtype, f"x{n}") for n, (shape, dtype) in enumerate(params)]
    out = te.compute(params[0][0], lambda *at: body(*(tensor[at] for tensor in tensors)))
    return te.create_prim_func([*tensors, out])


@pytest.mark.parametrize("name", KERNELS)
def test_the_source_is_inside(name):
    """What the kernel itself returns would be legal had another kernel returned it."""
    oracle, tolerance = judged(KERNELS[name])
    assert np.isfinite(tolerance.allowed(oracle)).all()
    assert "the source is" not in tolerance.origin


@cache
def variants_of(name):
    """A kernel, and its variants for CPUs with where they differ, as functions of inputs."""
    found = [variant for variant in variants(KERNELS[name]) if variant.kind != "GPU schedule"]
    run, *others = built([KERNELS[name], *(variant.function for variant in found)])
    return run, [(variant.where, other) for variant, other in zip(found, others, strict=True)]


@pytest.mark.parametrize("name", ["softmax", "layer_norm", "matmul", "silu", "difference", "gelu"])
@settings(max_examples=8)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-6, 0.3, 30.0]))
def test_every_variant_is_inside(name, seed, scale):
    """Other schedules, orders and formulas that are right always pass."""
    inputs = [
        (array * scale).astype(array.dtype) if is_float(array.dtype) else array
        for array in inputs_of(KERNELS[name], seed)
    ]
    run, others = variants_of(name)
    oracle = run(inputs)
    tolerance = derived(KERNELS[name], inputs, oracle)
    assert len(others) >= 4
    for where, other in others:
        found = compare(oracle, other(inputs), tolerance)
        assert found.verdict is Verdict.PASS, f"{where}: {found.reason}"


@pytest.mark.parametrize("name", ROUNDING)
def test_a_bound_is_near_what_float32_can_do(name):
    """Half of the values may differ by less than a hundred roundings of the largest value."""
    oracle, tolerance = judged(KERNELS[name])
    assert isinstance(tolerance, ElementTolerance)
    allowed = tolerance.allowed(oracle)
    assert 0 < np.median(allowed) < 100 * 2**-24 * np.abs(oracle).max()
    # Four times as far is seen.
    assert compare(oracle, oracle + (4 * allowed).astype(np.float32), tolerance).mismatches > 0


@pytest.mark.parametrize("name", EXACT)
def test_what_rounds_nothing_must_be_equal(name):
    """Kernels that move, choose and compare; only denormals may be flushed."""
    _, tolerance = judged(KERNELS[name])
    assert isinstance(tolerance, EqualTolerance | RuleTolerance)
    if isinstance(tolerance, RuleTolerance):
        assert (tolerance.atol, tolerance.rtol) == (2.0**-126, 0.0)


def test_the_origin_lists_what_was_counted():
    """Sums with their length, elementary functions by name; these are the same on every device."""
    _, tolerance = judged(KERNELS["softmax"])
    assert "sums of 8 terms" in tolerance.origin
    assert "exp" in tolerance.origin
    assert tolerance.low_precision is None


def test_each_value_has_a_bound_of_its_own():
    """A row of large values does not excuse errors in a row of small ones."""
    function = KERNELS["matmul"]
    x, w = inputs_of(function)
    x[0] *= 1000
    oracle, tolerance = judged(function, [x, w])
    allowed = tolerance.allowed(oracle)
    assert allowed[0].min() > 30 * allowed[1:].max()


def test_cancellation_is_allowed_for():
    """The tail of GeLU is the difference of almost equal numbers."""
    function = KERNELS["gelu"]
    (x,) = inputs_of(function)
    x[:] = -4.0
    oracle, tolerance = judged(function, [x])
    other = (np.float32(0.5) * x * (1 + np.tanh(np.float32(1.1296) * x))).astype(np.float32)
    # An erf that is off by one rounding of 1 is fine, another function is not.
    assert compare(oracle, oracle + np.float32(1.2e-7), tolerance).verdict is Verdict.PASS
    assert compare(oracle, other, tolerance).verdict is Verdict.MISMATCH


@pytest.mark.parametrize("lowest", [-3.4028235e38, -1e9, -np.inf])
def test_masks_are_judged(lowest):
    """A sum with the lowest number is neither unbounded nor overlooked."""
    function = KERNELS["softmax"]
    (x,) = inputs_of(function)
    unmasked = result_of(function, [x])
    x[:, 5:] += np.float32(lowest)
    oracle, tolerance = judged(function, [x])
    allowed = tolerance.allowed(oracle)
    assert np.isfinite(allowed).all()
    assert allowed.max() < 1e-5
    assert compare(oracle, unmasked, tolerance).verdict is Verdict.MISMATCH


def test_a_sum_with_a_mask_may_not_lose_it():
    """The result rounds to the lowest number, and is judged although its neighbour is infinite."""
    function = kernel(lambda x, m: x + m, MATRIX, MATRIX)
    x, mask = inputs_of(function)
    mask[:] = np.finfo(np.float32).min
    oracle, tolerance = judged(function, [x, mask])
    assert compare(oracle, x, tolerance).mismatches == x.size


@settings(max_examples=30)
@given(
    st.integers(1, 1024),
    st.floats(0.1, 10.0),
    st.sampled_from(["equal", "alternating", "random", "rising"]),
    st.integers(0, 2**32 - 1),
)
def test_a_sum_may_run_in_any_order(count, size, kind, seed):
    """Forwards, backwards, shuffled, in pairs, in float32 each."""
    rng = np.random.default_rng(seed)
    terms = {
        "equal": np.full(count, size),
        "alternating": size * (-1.0) ** np.arange(count),
        "random": size * rng.standard_normal(count),
        "rising": size * np.linspace(0.001, 1, count) ** 3,
    }[kind].astype(np.float32)
    tolerance = SUM.tolerance(terms)
    oracle = SUM.oracle
    for order in (terms, terms[::-1], rng.permutation(terms)):
        one_by_one = np.zeros(1, np.float32)
        for term in order:
            one_by_one += term
        for found in (one_by_one, order.sum(keepdims=True)):
            assert compare(oracle, found, tolerance).verdict is Verdict.PASS


class _Sum:
    """The sum of as many terms as there are."""

    def __init__(self):
        @T.prim_func(private=True, s_tir=True)
        def total(x: T.handle, y: T.handle):
            n = T.int64()
            X = T.match_buffer(x, (n,))
            Y = T.match_buffer(y, (T.int64(1),))
            for i, k in T.grid(T.int64(1), n):
                with T.sblock("Y"):
                    vi, vk = T.axis.remap("SR", [i, k])
                    with T.init():
                        Y[vi] = T.float32(0)
                    Y[vi] = Y[vi] + X[vk]

        self.derivation = Derivation(total, [1])
        self.oracle = np.zeros(1, np.float32)

    def tolerance(self, terms):
        self.oracle = terms.astype(np.float64).sum(keepdims=True).astype(np.float32)
        (tolerance,) = self.derivation.tolerances({0: terms}, {}, [self.oracle])
        return tolerance


SUM = _Sum()


def test_symbolic_shapes_share_one_derivation():
    """The number of terms is that of the call."""
    few, many = np.ones(4, np.float32) / 3, np.ones(4000, np.float32) / 3
    shares = [
        SUM.tolerance(terms).allowed(SUM.oracle).item() / terms.sum() for terms in (few, many)
    ]
    assert shares[1] > 20 * shares[0]
    assert "sums" in SUM.tolerance(few).origin


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn"])
def test_a_narrow_result_is_rounded_once(dtype):
    """It may be either neighbour only where the exact value lies between them."""
    function = kernel(lambda x: relax.op.astype(x * x, dtype), ((64,), "float32"))
    (x,) = inputs_of(function)
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    oracle = (x * x).astype(kind)
    tolerance = derived(function, [x], oracle)
    allowed = tolerance.allowed(oracle)
    assert np.median(allowed) <= float(ml_dtypes.finfo(kind).smallest_normal)
    exact = x.astype(np.float64) ** 2
    truncated = oracle.copy()
    above = np.abs(oracle.astype(np.float64)) > exact
    truncated[above] = np.nextafter(oracle[above], kind.type(0))
    assert above.any()
    assert compare(oracle, truncated, tolerance).verdict is Verdict.MISMATCH


def test_arithmetic_in_half_precision_may_keep_more_digits():
    """Of an intermediate result, not of the last one."""
    function = kernel(lambda x, y: x * y + y, ((64,), "float16"), ((64,), "float16"))
    x, y = inputs_of(function)
    stepwise = x * y + y
    wide = (x.astype(np.float32) * y.astype(np.float32) + y.astype(np.float32)).astype(np.float16)
    assert (stepwise != wide).any()
    tolerance = derived(function, [x, y], stepwise)
    assert compare(stepwise, wide, tolerance).verdict is Verdict.PASS
    assert compare(stepwise, stepwise * np.float16(1.01), tolerance).mismatches > 32


def test_a_tie_of_rounding_may_go_either_way():
    """Only where rounding before it may decide."""
    function = kernel(lambda x, y: relax.op.astype(relax.op.round(x / y), "int32"), ROW, ROW)
    x = np.array([2.4, 2.5, 2.6, 7.5, 1.1, 3.5, 100.2, 0.0], np.float32) * np.float32(0.7)
    y = np.full(8, 0.7, np.float32)
    oracle, tolerance = judged(function, [x, y])
    allowed = tolerance.allowed(oracle)
    np.testing.assert_array_equal(allowed > 0, [0, 1, 0, 1, 0, 1, 0, 0])
    assert allowed.max() <= 2


def test_a_comparison_is_not_judged_where_rounding_decides():
    """And is judged everywhere else."""
    function = kernel(lambda x, y: relax.op.less(x * y, relax.const(0.1, "float32")), ROW, ROW)
    x = np.array([0.1, 0.2, 0.3, 0.05, -1, 0, 1, 5], np.float32)
    y = np.array([1.0000001, 0.5, 0.5, 2, 1, 1, 1, 1], np.float32)
    oracle, tolerance = judged(function, [x, y])
    np.testing.assert_array_equal(np.isnan(tolerance.allowed(oracle)), [1, 1, 0, 1, 0, 0, 0, 0])
    wrong = oracle.copy()
    wrong[4] = not wrong[4]
    assert compare(oracle, wrong, tolerance).mismatches == 1


def test_a_mask_made_from_whole_numbers_has_no_edge_to_doubt():
    """(1 - m) * lowest is exact for m of 0 and 1, although products carry errors."""
    masked = elementwise(lambda x, m: x + (1 - m) * T.float32(-3.4e38), MATRIX, MATRIX)
    x, mask = inputs_of(masked)
    mask[:] = 1
    mask[:, 6:] = 0
    oracle, tolerance = judged(masked, [x, mask])
    assert tolerance.allowed(oracle)[:, :6].max() < 1e-6


def test_indices_of_the_largest_are_compared_by_value():
    """Ties make several answers right."""
    function = kernel(lambda x: relax.op.argmax(x, axis=1), ((2, 4), "float32"))
    x = np.array([[1, 3, 3, 0], [5, 1, 2, 5]], np.float32)
    oracle = np.array([1, 0])
    tolerance = derived(function, [x], oracle)
    assert isinstance(tolerance, IndexTolerance)
    assert compare(oracle, np.array([2, 3]), tolerance).verdict is Verdict.PASS
    assert compare(oracle, np.array([3, 0]), tolerance).verdict is Verdict.MISMATCH


def test_padding_is_not_read():
    """A condition keeps loads in bounds, also in the evaluation in float64."""
    function = kernel(lambda x: relax.op.nn.pad(x * x, [2, 2]), ((3,), "float32"))
    x = np.array([1.1, 2.2, 3.3], np.float32)
    oracle, tolerance = judged(function, [x])
    allowed = tolerance.allowed(oracle)
    assert oracle.shape == (7,)
    assert allowed[[0, 1, 5, 6]].max() <= 2.0**-126
    assert allowed[2:5].min() > 0


def test_an_overflow_of_the_source_is_not_judged():
    """Where exact arithmetic is finite, another kernel may be finite, too."""
    function = kernel(lambda x: relax.op.log(relax.op.exp(x)), ROW)
    x = np.array([1, 2, 3, 100, 200, 4, 5, 6], np.float32)
    with np.errstate(over="ignore"):
        oracle = np.log(np.exp(x))
    tolerance = derived(function, [x], oracle)
    found = compare(oracle, x, tolerance)
    assert (found.verdict, found.unjudged) == (Verdict.PASS, 2)


def test_an_infinity_of_the_kernel_must_be_there():
    """Where exact arithmetic is infinite, too."""
    function = kernel(lambda x: x / x, ROW)
    x = np.arange(8, dtype=np.float32)
    with np.errstate(invalid="ignore"):
        oracle = x / x
    tolerance = derived(function, [x, x], oracle)
    finite = np.ones(8, np.float32)
    assert compare(oracle, finite, tolerance).mismatches == 1
    inverse = elementwise(lambda x: T.float32(1) / x, ROW)
    with np.errstate(divide="ignore"):
        oracle = 1 / x
    tolerance = derived(inverse, [x], oracle)
    assert compare(oracle, np.where(x == 0, 0, oracle).astype("float32"), tolerance).mismatches == 1


def test_what_is_written_in_place_begins_with_its_argument():
    """The parameter is argument and result."""

    @T.prim_func(private=True, s_tir=True)
    def scale(x: T.Buffer((T.int64(8),), "float32")):
        for i in range(T.int64(8)):
            with T.sblock("x"):
                vi = T.axis.spatial(T.int64(8), i)
                x[vi] = x[vi] * T.float32(1.7)

    x = np.linspace(0.3, 3, 8, dtype=np.float32)
    oracle = x * np.float32(1.7)
    (tolerance,) = Derivation(scale, [0]).tolerances({0: x}, {}, [oracle])
    allowed = tolerance.allowed(oracle)
    assert (allowed > 0).all()
    assert (allowed < 1e-6).all()
    assert Derivation(scale, [0]).evaluated({0: x}, {}, [oracle]) is None


def test_what_cannot_be_followed_falls_back_on_the_rule():
    """And the origin has the reason."""
    external = elementwise(lambda x: tirx.call_extern("float32", "expm1f", x), ((4,), "float32"))
    oracle = np.ones(4, np.float32)
    derivation = Derivation(external, [1])
    (tolerance,) = derivation.tolerances({0: oracle}, {}, [oracle])
    assert isinstance(tolerance, RuleTolerance)
    assert "tirx.call_extern" in tolerance.origin
    assert derivation.evaluated({0: oracle}, {}, [oracle]) is None


def test_an_evaluation_is_what_the_kernel_computes():
    """With the same tolerances as for a source that returned it."""
    function = KERNELS["layer_norm"]
    inputs = inputs_of(function)
    oracle = result_of(function, inputs)
    derivation = Derivation(function, [len(function.params) - 1])
    [found], [tolerance] = derivation.evaluated(dict(enumerate(inputs)), {}, [oracle])
    assert found.dtype == np.float32
    assert compare(found, oracle, tolerance).verdict is Verdict.PASS
    assert "the source is" not in tolerance.origin


def test_a_source_that_is_less_accurate_is_reported():
    """Its result stays inside, and the origin has how far off it is."""
    function = KERNELS["matmul"]
    inputs = inputs_of(function)
    oracle = result_of(function, inputs) * np.float32(1.001)
    tolerance = derived(function, inputs, oracle)
    assert compare(oracle, oracle, tolerance).verdict is Verdict.PASS
    assert "the source is up to" in tolerance.origin


def test_nothing_changes_the_kernel():
    """Derivation reads it only."""
    for name in ("softmax", "take", "unpack_int4"):
        function = KERNELS[name]
        before = tvm.ir.load_json(tvm.ir.save_json(function))
        judged(function)
        assert tvm_ffi.structural_equal(function, before)


def test_indices_of_a_gather_are_followed():
    """What is loaded depends on whole numbers, and carries the error of what was computed."""

    @T.prim_func(private=True, s_tir=True)
    def take(
        w: T.Buffer((T.int64(8),), "float32"),
        i: T.Buffer((T.int64(4),), "int64"),
        y: T.Buffer((T.int64(4),), "float32"),
    ):
        square = T.alloc_buffer((T.int64(8),), "float32")
        for a in range(T.int64(8)):
            with T.sblock("square"):
                va = T.axis.spatial(T.int64(8), a)
                square[va] = w[va] * w[va]
        for b in range(T.int64(4)):
            with T.sblock("y"):
                vb = T.axis.spatial(T.int64(4), b)
                y[vb] = square[i[vb]]

    w, i = inputs_of(take)
    oracle = (w * w)[i]
    allowed = derived(take, [w, i], oracle).allowed(oracle)
    np.testing.assert_array_less(0, allowed)
    np.testing.assert_array_less(allowed, 4e-7 * oracle + 1e-37)


def test_a_denormal_argument_may_be_taken_for_zero():
    """What it is divided by may make it visible."""
    function = kernel(lambda x, y: x / y, ROW, ROW)
    x = np.array([3e-40, 1.7, -5e-41, 0, 1.7, 1e-39, 2e-38, 1e-30], np.float32)
    y = np.full(8, 1e-9, np.float32)
    oracle = x / y
    flushed = np.where(np.abs(x) < 2.0**-126, 0, oracle).astype(np.float32)
    tolerance = derived(function, [x, y], oracle)
    assert compare(oracle, flushed, tolerance).verdict is Verdict.PASS
    wrong = np.where(np.abs(x) < 1e-29, 0, oracle).astype(np.float32)
    assert compare(oracle, wrong, tolerance).mismatches == 2


def test_a_float16_that_overflows_on_its_way_is_not_judged():
    """The kernel may keep it in a wider dtype, or not."""
    function = kernel(lambda x: x * x / x, ((4,), "float16"))
    x = np.array([1.5, 300, 2.5, 3.5], np.float16)
    with np.errstate(over="ignore"):
        oracle = x * x / x
    arguments = [x] * (len(function.params) - 1)
    allowed = derived(function, arguments, oracle).allowed(oracle)
    np.testing.assert_array_equal(np.isnan(allowed), [0, 1, 0, 0])


def test_a_shadow_kernel_that_does_not_build_ends_no_run(monkeypatch):
    """The rule of the dtype judges, and the origin has the message of TVM."""

    def refuse(*_args, **_options):
        raise RuntimeError("no such intrinsic")

    monkeypatch.setattr("tvm.tirx.build", refuse)
    oracle = np.ones((8, 8), np.float32)
    derivation = Derivation(KERNELS["softmax"], [1])
    (tolerance,) = derivation.tolerances({0: oracle}, {}, [oracle])
    assert isinstance(tolerance, RuleTolerance)
    assert tolerance.origin.endswith("no such intrinsic")


def test_a_minimum_has_the_error_of_what_wins():
    """And a maximum; what is clipped is exact."""
    function = kernel(lambda x: relax.op.clip(x * x, 0.1, 6.0), ROW)
    x = np.array([0.1, 0.9, 1.3, 2.0, 3.0, 9.0, 2.3, 0.2], np.float32)
    oracle = np.clip(x * x, np.float32(0.1), np.float32(6.0))
    allowed = derived(function, [x] * (len(function.params) - 1), oracle).allowed(oracle)
    is_clipped = (x * x > 6) | (x * x < 0.1)
    assert allowed[is_clipped].max() <= 2e-38
    assert allowed[~is_clipped].min() > 5e-8 * 0.8
    assert allowed.max() < 2e-6


def test_a_division_that_a_condition_prevents_is_not_done():
    """Both arms of a choice are evaluated; dividing whole numbers by zero would end the process."""
    ratio = elementwise(
        lambda a, b: tirx.if_then_else(b != 0, tirx.truncdiv(a, b), 0), *[((4,), "int32")] * 2
    )
    a, b = np.array([7, 8, 9, 10], np.int32), np.array([2, 0, 3, 0], np.int32)
    [found], _ = Derivation(ratio, [2]).evaluated({0: a, 1: b}, {}, [a])
    np.testing.assert_array_equal(found, [3, 0, 3, 0])


def test_a_sum_into_places_that_data_decides_may_run_in_any_order():
    """All terms may meet in one place."""

    @T.prim_func(private=True, s_tir=True)
    def scatter(
        x: T.Buffer((T.int64(900),), "float32"),
        i: T.Buffer((T.int64(900),), "int32"),
        y: T.Buffer((T.int64(2),), "float32"),
    ):
        for j in range(T.int64(2)):
            with T.sblock("init"):
                vj = T.axis.spatial(T.int64(2), j)
                y[vj] = T.float32(0)
        for k in range(T.int64(900)):
            with T.sblock("y"):
                vk = T.axis.opaque(T.int64(900), k)
                y[i[vk]] = y[i[vk]] + x[vk]

    x = np.full(900, 0.1, np.float32)
    oracle = np.array([0, x.sum()], np.float32)
    derivation = Derivation(scatter, [2])
    (tolerance,) = derivation.tolerances({0: x, 1: np.ones(900, np.int32)}, {}, [oracle])
    one_by_one = np.float32(0)
    for term in x:
        one_by_one += term
    assert "sums of 900 terms" in tolerance.origin
    found = np.array([0, one_by_one], np.float32)
    assert compare(oracle, found, tolerance).verdict is Verdict.PASS


def test_sums_that_are_bound_to_a_variable_or_under_a_condition_are_sums():
    """As those of several results at once, and of masked elements."""

    @T.prim_func(private=True, s_tir=True)
    def both(x: T.Buffer((T.int64(512),), "float32"), y: T.Buffer((T.int64(2),), "float32")):
        total = T.alloc_buffer((T.int64(1),), "float32")
        square = T.alloc_buffer((T.int64(1),), "float32")
        for i, k in T.grid(T.int64(1), T.int64(512)):
            with T.sblock("both"):
                vi, vk = T.axis.remap("SR", [i, k])
                with T.init():
                    total[vi] = T.float32(0)
                    square[vi] = T.float32(0)
                v: T.let[T.float32] = total[vi] + x[vk]
                total[vi] = v
                square[vi] = T.if_then_else(
                    x[vk] > T.float32(0), square[vi] + x[vk] * x[vk], square[vi]
                )
        for j in range(T.int64(2)):
            with T.sblock("y"):
                vj = T.axis.spatial(T.int64(2), j)
                y[vj] = T.if_then_else(vj == T.int64(0), total[T.int64(0)], square[T.int64(0)])

    x = np.random.default_rng(0).standard_normal(512).astype(np.float32)
    wide = x.astype(np.float64)
    oracle = np.array([wide.sum(), (wide[x > 0] ** 2).sum()], np.float32)
    (tolerance,) = Derivation(both, [1]).tolerances({0: x}, {}, [oracle])
    allowed = tolerance.allowed(oracle)
    most = 2.0**-24 * np.array([np.abs(wide).sum(), (wide[x > 0] ** 2).sum()])
    # What all terms carry, and more for the sum, but less than a rounding for each term.
    np.testing.assert_array_less(3 * most, allowed)
    np.testing.assert_array_less(allowed, 120 * most)


def test_a_whole_number_becomes_float16_with_its_rounding():
    """2049 has no float16, and every platform takes 2048."""

    def body(x):
        return relax.op.astype(relax.op.astype(x, "float16"), "float32") * relax.const(
            1.1, "float32"
        )

    function = kernel(body, ((2,), "int32"))
    x = np.array([2049, 3], np.int32)
    oracle = x.astype(np.float16).astype(np.float32) * np.float32(1.1)
    arguments = [
        x if str(param.dtype) == "int32" else np.asarray(1.1, np.float32)
        for param in function.params[:-1]
    ]
    assert derived(function, arguments, oracle).allowed(oracle).max() < 1e-3


def test_one_over_infinity_is_zero():
    """What is added to an infinity does not change it, nor its inverse."""
    inverse = elementwise(lambda x: T.float32(1) / (x * T.float32(1.1)), ((2,), "float32"))
    x = np.array([np.inf, 2.0], np.float32)
    oracle = (1 / (x * np.float32(1.1))).astype(np.float32)
    assert derived(inverse, [x], oracle).allowed(oracle)[0] < 1e-37


def test_arguments_that_cannot_be_evaluated_end_no_run():
    """Such as packed numbers of four bits."""
    function = KERNELS["softmax"]
    wrong = np.ones((8, 8), np.int32)
    oracle = np.ones((8, 8), np.float32)
    derivation = Derivation(function, [1])
    (tolerance,) = derivation.tolerances({0: wrong}, {}, [oracle])
    assert "because" in tolerance.origin
    assert derivation.evaluated({0: wrong}, {}, [oracle]) is None


@pytest.mark.parametrize(("dtype", "allowed"), [("float32", 2.0**-11), ("float16", 2.0**-7)])
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_browsers_may_be_less_accurate(name, dtype, allowed):
    """By what WGSL allows for sine and cosine, also after a sum; elsewhere by much less."""
    x = np.linspace(-3, 3, 101).astype(dtype)
    function = kernel(lambda v: relax.op.add(getattr(relax.op, name)(v), v), (x.shape, dtype))
    _, tolerance = judged(function, [x])
    bound, wider = (np.asarray(b, "float64") for b in (tolerance.bound, tolerance.low_precision))
    assert (wider >= allowed).all()
    assert (wider <= 1.3 * allowed + bound).all()
    if dtype == "float32":
        assert (bound < 0.01 * wider).all()


def test_whole_numbers_that_only_a_low_precision_cosine_changes():
    """Elsewhere they must be equal."""
    x = np.linspace(0.1, 3.0, 64).astype("float32")
    function = kernel(
        lambda v: relax.op.astype(
            relax.op.multiply(relax.op.cos(v), relax.const(1000, "float32")), "int32"
        ),
        (x.shape, "float32"),
    )
    oracle, tolerance = judged(function, [x])
    assert not tolerance.allowed(oracle).any()
    assert set(np.asarray(tolerance.low_precision, "float64")) == {0.0, 1.0}


def test_without_low_precision_bounds_such_devices_are_not_judged(monkeypatch):
    """They would be held to what only others can do."""
    x = np.linspace(-1, 1, 32).astype("float32")
    function = kernel(relax.op.sin, (x.shape, "float32"))
    oracle, tolerance = judged(function, [x])
    bound = tolerance.bound
    monkeypatch.setattr("relax_tapml.derive._shadow_runs.LOW_PRECISION_FUNCTIONS", {})
    tolerance = derived(function, [x], oracle)
    assert np.isnan(tolerance.low_precision).all()
    assert "not judged" in tolerance.origin
    np.testing.assert_array_equal(tolerance.bound, bound)


def test_a_tangent_is_a_sine_by_a_cosine():
    """Far from its poles a few units in the last place; less accurate in a browser."""
    x = np.linspace(-1.2, 1.2, 64).astype("float32")
    function = kernel(relax.op.tan, (x.shape, "float32"))
    _, tolerance = judged(function, [x])
    bound, wider = (np.asarray(b, "float64") for b in (tolerance.bound, tolerance.low_precision))
    assert (np.abs(np.tan(x) - np.tan(x.astype("float64"))) <= bound).all()
    assert bound.max() < 2e-5
    assert (wider >= 2.0**-11).all()
