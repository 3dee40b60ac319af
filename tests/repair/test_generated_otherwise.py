"""Kernels for code generators that lack types or digits compute the same, at every edge, too."""

from __future__ import annotations

import functools
import math
import re

import numpy as np
import pytest
import tvm
import tvm_ffi
from repaired_kernels import LLVM, arguments, computed, kernels, lowered
from tvm import te, tirx
from tvm.relax import op
from tvm.script import tirx as T  # noqa: N812

from relax_tapml._compat import IS_TVM_026
from relax_tapml.repair._scheduled import scheduled
from relax_tapml.repair.alternative import Kernel
from relax_tapml.repair.alternatives.exact_constants import exact_constants
from relax_tapml.repair.alternatives.int64_as_words import int64_as_words
from relax_tapml.repair.alternatives.packed_bytes import packed_bytes
from relax_tapml.repair.alternatives.registry import ALTERNATIVES

pytestmark = pytest.mark.skipif(IS_TVM_026, reason="the generators of TVM 0.27")

WEBGPU = tvm.target.Target("webgpu")
BY_NAME = {one.name: one for one in ALTERNATIVES}

WHOLE = [0, 1, -1, 2, 5, -7, 255, 1 << 24, (1 << 24) + 1, (1 << 31) - 1, 1 << 31, -(1 << 31)]
WHOLE += [(1 << 32) - 1, 1 << 32, -(1 << 32) - 1, (1 << 55) + 12345, (1 << 63) - 1, -(1 << 63)]
BYTES = [0, 1, -1, 2, 100, 127, -128, -127, 64, -64]


def pairs(values, dtype, count=40):
    """Return every pair of edges, and pairs of random numbers of all sizes, in two arrays."""
    limits = np.iinfo(dtype)
    edges = np.array([value & ((1 << limits.bits) - 1) for value in values], f"uint{limits.bits}")
    rng = np.random.default_rng(0)
    a, b = (part.ravel() for part in np.meshgrid(edges.view(dtype), edges.view(dtype)))
    sizes = rng.integers(0, limits.bits, (2, count)).astype(dtype)
    random = rng.integers(limits.min, limits.max, (2, count), dtype=dtype) >> sizes
    a, b = np.concatenate([a, random[0]]), np.concatenate([b, random[1]])
    missing = -len(a) % 4
    return np.pad(a, (0, missing)), np.pad(b, (0, missing))


def mapped(function, dtype, count):
    """Return a kernel of a function of two tensors, by way of a tensor of each result."""
    a, b = (te.placeholder((count,), dtype, name=name) for name in "ab")
    first = te.compute((count,), lambda i: function(a[i], b[i]), name="first")
    return te.create_prim_func([a, b, te.compute((count,), lambda i: first[i], name="out")])


def shifted(operation, bits):
    return lambda a, b: operation(a + b, tirx.const(bits, a.ty.dtype))


ARITHMETIC = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "maximum": lambda a, b: tirx.max(a, b),
    "minimum": lambda a, b: tirx.min(a, b),
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
}
COMPARISONS = {
    "less": lambda a, b: a < b,
    "at most": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "at least": lambda a, b: a >= b,
    "equal": lambda a, b: tirx.EQ(a, b),
    "unequal": lambda a, b: tirx.NE(a, b),
}
NUMPY = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "maximum": np.maximum,
    "minimum": np.minimum, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "less": np.less, "at most": np.less_equal, "greater": np.greater,
    "at least": np.greater_equal, "equal": np.equal, "unequal": np.not_equal,
}  # fmt: skip


def all_of(functions, dtype, a):
    """Return a kernel with a result for each function, in one tensor."""
    names = list(functions)

    def value(i, at):
        result = functions[names[-1]](*at(i))
        for number, name in reversed(list(enumerate(names[:-1]))):
            result = tirx.Select(i[0] < number + 1, functions[name](*at(i)), result)
        return result

    x, y = (te.placeholder(a.shape, dtype, name=name) for name in "xy")
    shape = (len(names), *a.shape)
    return te.create_prim_func(
        [x, y, te.compute(shape, lambda *i: value(i, lambda j: (x[j[1]], y[j[1]])), name="out")]
    )


@pytest.mark.parametrize("functions", [ARITHMETIC, COMPARISONS], ids=["values", "truth"])
@pytest.mark.parametrize(
    ("dtype", "values", "rewrite"),
    [
        ("int64", WHOLE, int64_as_words),
        ("int8", BYTES, packed_bytes),
        ("uint8", BYTES, packed_bytes),
    ],
)
def test_each_operation_gives_the_same_bits(dtype, values, rewrite, functions):
    """As NumPy has them, which wraps."""
    a, b = pairs(values, dtype)
    made = rewrite(all_of(functions, dtype, a))
    expected = np.stack([NUMPY[name](a, b) for name in functions])
    found = computed(made, [a, b, np.zeros_like(expected)])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("constant", [0, -1, 3, 1 << 40, -(1 << 63)])
def test_constants_have_words_too(constant):
    a, b = pairs(WHOLE, "int64")
    other = tirx.const(constant, "int64")
    own = mapped(lambda x, _: tirx.Select(x < other, other - x, x & other), "int64", len(a))
    found = computed(int64_as_words(own), [a, b, np.zeros(len(a), "int64")])
    expected = np.where(a < constant, np.int64(constant) - a, a & np.int64(constant))
    np.testing.assert_array_equal(found, expected)


@T.prim_func(s_tir=True)
def positive(given: T.handle, found: T.handle):
    """Of a number of rows that is not known."""
    n = T.int64()
    x = T.match_buffer(given, (n, 3), "int64")
    y = T.match_buffer(found, (n, 3), "bool")
    for i, j in T.grid(n, T.int64(3)):
        with T.sblock("y"):
            v, w = T.axis.remap("SS", [i, j])
            y[v, w] = x[v, w] > T.int64(0)


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_extents_need_not_be_known(rows):
    made = packed_bytes(int64_as_words(positive))
    x = np.array([[1 << 40, -1, 0], [-(1 << 40), 5, 1 << 33], [2, -2, 0], [1, 1, 1]])[:rows]
    np.testing.assert_array_equal(computed(made, [x, np.zeros(x.shape, "bool")]), x > 0)
    module = tvm.IRModule({"main": scheduled(made, WEBGPU).with_attr("global_symbol", "main")})
    text = tirx.build(module, target=WEBGPU).imports[0].inspect_source()
    assert not re.search("i64|i8", text)


@pytest.mark.parametrize("bits", [0, 1, 31, 32, 45, 63])
def test_shifts_carry_from_word_to_word(bits):
    a, b = pairs(WHOLE, "int64")
    shift = tirx.const(bits, "int64")
    own = all_of({"left": lambda x, _: x << shift, "right": lambda x, _: x >> shift}, "int64", a)
    found = computed(int64_as_words(own), [a, b, np.zeros((2, len(a)), "int64")])
    np.testing.assert_array_equal(found, [a << np.int64(bits), a >> np.int64(bits)])


@pytest.mark.parametrize("dtype", ["float32", "int32", "int8", "uint8", "bool"])
def test_casts_of_wide_integers_wrap_or_round_to_nearest(dtype):
    """Beyond 2**32, float32 is one of the two next to the number."""
    a, b = pairs(WHOLE, "int64")
    own = mapped(lambda x, _: tirx.Cast(dtype, x), "int64", len(a))
    made = int64_as_words(own)
    found = computed(packed_bytes(made) or made, [a, b, np.zeros(len(a), dtype)])
    near = np.abs(a.astype("float64")) < 2.0**32
    np.testing.assert_array_equal(found[near], a.astype(dtype)[near])
    if dtype == "float32":
        np.testing.assert_array_max_ulp(found, a.astype(dtype), 1)
    else:
        np.testing.assert_array_equal(found, a.astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "int32", "bool", "int8", "uint8"])
def test_casts_to_wide_integers_keep_the_value(dtype):
    values = np.array([0, 1, 2, 100, 127], dtype)
    if dtype in ("float32", "int32", "int8"):
        values = np.concatenate([values, -values - 1])
    if dtype == "float32":
        large = np.array([2.0**24, 2.0**33 + 2.0**12, 1.5e18, -(2.0**62), -1e12, 0.75, -3.9])
        values = np.concatenate([values, large.astype("float32")])
    values = np.resize(values, 20)
    x = te.placeholder(values.shape, dtype, name="x")
    own = te.create_prim_func(
        [x, te.compute(values.shape, lambda i: tirx.Cast("int64", x[i]) * 3, name="out")]
    )
    made = int64_as_words(own)
    found = computed(packed_bytes(made) or made, [values, np.zeros(20, "int64")])
    np.testing.assert_array_equal(found, values.astype("int64") * 3)


def test_values_that_are_chosen_are_whole():
    """Also where what is not chosen is outside of the tensor."""
    a, b = pairs(WHOLE, "int64")
    count = len(a)
    own = all_of(
        {
            "select": lambda x, y: tirx.Select(x < y, x * y, y),
            "guard": lambda x, y: tirx.if_then_else(x < y, x - y, tirx.const(-7, "int64")),
        },
        "int64",
        a,
    )
    found = computed(int64_as_words(own), [a, b, np.zeros((2, count), "int64")])
    np.testing.assert_array_equal(found, [np.where(a < b, a * b, b), np.where(a < b, a - b, -7)])


@pytest.mark.parametrize("name", ["take", "same", "to float", "to bytes", "weighted"])
def test_kernels_of_operators_compute_the_same(name):
    """What both views are made of, one after the other."""
    given = arguments(kernels()[name])
    if name == "to bytes":
        given[0] *= 20
    made = kernels()[name]
    for rewrite in (int64_as_words, packed_bytes):
        made = rewrite(made) or made
    assert not tvm_ffi.structural_equal(made, kernels()[name])
    np.testing.assert_array_equal(computed(made, given), computed(kernels()[name], given))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_bytes_that_fill_no_word_are_right(count):
    own = lowered(op.less, ((3, count), "float32"), ((3, count), "float32"))
    x, y, out = arguments(own)
    np.testing.assert_array_equal(computed(packed_bytes(own), [x, y, ~out]), x < y)


def test_bytes_that_a_kernel_leaves_are_kept():
    """An output of which one value is written, as by an operator in place."""
    x = te.placeholder((8,), "int8", name="x")
    whole = te.create_prim_func([x, te.compute((8,), lambda i: x[i] + x[i], name="out")])
    (param,) = [one for one in whole.params if one.name == "out"]

    def one_value(store):
        if not store.buffer.same_as(param):
            return store
        return tirx.IfThenElse(store.indices[0] < 1, store, None)

    partly = tvm_ffi.structural_map(whole, (tirx.BufferStore, one_value))
    before = np.arange(-4, 4, dtype="int8")
    found = computed(packed_bytes(partly), [before[::-1].copy(), before.copy()])
    np.testing.assert_array_equal(found, [6, *before[1:]])


@pytest.mark.parametrize(
    ("name", "why"), [("sum of int64", "adds up int64"), ("counted", "no form of FloorMod")]
)
def test_what_has_no_form_in_words_is_told(name, why):
    with pytest.raises(Exception, match=why):
        int64_as_words(kernels()[name])


def constants():
    """Return a kernel with numbers of each kind, and what it computes."""
    numbers = [math.pi, -math.inf, math.inf, math.nan, float(np.finfo("float32").min), 1e-5, 0.1]

    def value(v, at):
        result = tirx.const(numbers[-1], "float32")
        for number, constant in reversed(list(enumerate(numbers[:-1]))):
            result = tirx.Select(at < number + 1, tirx.const(constant, "float32"), result)
        return v * tirx.const(0.0, "float32") + result

    x = te.placeholder((len(numbers),), name="x")
    own = te.create_prim_func([x, te.compute((len(numbers),), lambda i: value(x[i], i), name="o")])
    return own, np.array(numbers, "float32")


def test_constants_keep_all_their_bits():
    own, numbers = constants()
    made = exact_constants(own)
    found = computed(made, [np.ones(len(numbers), "float32"), np.zeros(len(numbers), "float32")])
    np.testing.assert_array_equal(found, numbers)
    script = made.script()
    assert re.search(r"float32\((3\.14|-340)", own.script())
    assert not re.search(r"float32\((3\.14|-340|.*inf|.*nan)", script)
    assert "float32(0.1" in script  # which seven digits write


def test_the_start_of_a_maximum_across_threads_is_exact():
    """Lowering puts it in, where the schedule has none of it."""
    own = kernels()["softmax"]
    assert "340282346638528859811704183484516925440" in scheduled(own, WEBGPU).script()
    made = BY_NAME["exact-constants"].make(Kernel(failing=own, lowered=own, target=WEBGPU))
    assert "tvm_thread_allreduce" in made.script()
    assert "340282346638528859811704183484516925440" not in made.script()


@functools.cache
def source(name, *members):
    """Return what TVM generates for WebGPU, of a kernel that some alternatives made."""
    own = constants()[0] if name == "constants" else kernels()[name]
    for member in members:
        own = BY_NAME[member].make(Kernel(failing=own, lowered=own, target=WEBGPU))
    module = tvm.IRModule({"main": scheduled(own, WEBGPU).with_attr("global_symbol", "main")})
    return tirx.build(module, target=WEBGPU).imports[0].inspect_source()


@pytest.mark.parametrize(
    ("name", "members", "lacks"),
    [
        ("take", ["int64-as-words"], "i64"),
        ("same", ["generated-otherwise"], "i64|i8"),
        ("same", ["int64-as-words", "packed-bytes"], "i64|i8"),
        ("to bytes", ["packed-bytes"], "i8"),
        ("constants", ["exact-constants"], "inff|nanf|3.14159"),
    ],
)
def test_the_source_for_webgpu_has_what_there_is(name, members, lacks):
    assert not re.search(lacks, source(name, *members))
    if "i64" in lacks:
        with pytest.raises(Exception, match="i64"):
            source(name)
    else:
        assert re.search(lacks, source(name))


@pytest.mark.parametrize("name", ["int64-as-words", "packed-bytes"])
def test_targets_that_have_such_types_need_no_words(name):
    own = kernels()["same"]
    for target in (LLVM, tvm.target.Target("opencl")):
        assert BY_NAME[name].make(Kernel(failing=own, lowered=own, target=target)) is None
    exp = kernels()["exp"]
    assert BY_NAME[name].make(Kernel(failing=exp, lowered=exp, target=WEBGPU)) is None


def test_several_together_are_more_than_one():
    """What one alternative makes is tried by itself."""
    take = kernels()["take"]
    together = BY_NAME["generated-otherwise"]
    assert together.make(Kernel(failing=take, lowered=take, target=WEBGPU)) is None
