"""Alternatives of schedules, dtypes and constants compute what the kernel is defined to compute.

Schedules for GPUs run here with their threads as loops.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
import repaired_kernels
import tvm
from repaired_kernels import LLVM, arguments, computed, kernels, lowered
from tvm import tirx
from tvm.relax import op

from relax_tapml.repair._scheduled import as_scheduled, scheduled, shares_memory
from relax_tapml.repair.alternative import Kernel
from relax_tapml.repair.alternatives.registry import ALTERNATIVES

OPENCL = tvm.target.Target("opencl")
WEBGPU = tvm.target.Target("webgpu")
CUDA = tvm.target.Target({"kind": "cuda", "arch": "sm_80"})
BY_NAME = {one.name: one for one in ALTERNATIVES}


def made_of(name, alternative, target, **fields):
    own = kernels()[name] if isinstance(name, str) else name
    return BY_NAME[alternative].make(Kernel(failing=own, lowered=own, target=target, **fields))


def source(kernel):
    module = tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")})
    return tirx.build(module, target=WEBGPU).imports[0].inspect_source()


@pytest.mark.parametrize(
    ("alternative", "target", "names"),
    [
        ("no-vectors", CUDA, ["matmul"]),
        ("smaller-blocks", OPENCL, ["sum", "softmax"]),
        ("smaller-blocks", WEBGPU, ["exp"]),
        ("no-shared-memory", CUDA, ["matmul", "sum", "softmax"]),
        ("unfused", CUDA, ["softmax", "layer norm", "weighted"]),
        ("unfused", LLVM, ["softmax"]),
        ("compensated-sums", LLVM, ["layer norm"]),
        ("compensated-sums", OPENCL, ["matmul"]),
        ("maximum-with-floor", WEBGPU, ["softmax"]),
        ("maximum-with-floor", OPENCL, ["weighted"]),
        ("word-integers", WEBGPU, ["take", "counted", "sum of int64", "to bytes"]),
        ("word-integers", OPENCL, ["weighted", "same", "to float", "argmax"]),
    ],
)
def test_other_kernels_compute_the_same(alternative, target, names):
    for name in names:
        given = arguments(kernels()[name])
        expected = computed(kernels()[name], given)
        made = made_of(name, alternative, target)
        assert made is not None, name
        found = computed(made, given)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("target", [LLVM, OPENCL])
@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("half sum", lambda x: x.sum(axis=1)),
        ("half matmul", lambda x, y: x @ y),
        ("half matmul and more", lambda x, y: np.tanh(x @ y)),
    ],
)
def test_sums_in_float32_are_rounded_once(name, exact, target):
    """To within half a unit in the last place of float16, which sums in float16 are far from."""
    given = arguments(kernels()[name])
    right = exact(*(one.astype("float64") for one in given[:-1]))
    unit = np.spacing(np.abs(right).max().astype("float16")).astype("float64")
    found = computed(made_of(name, "float32-sums", target), given).astype("float64")
    plain = computed(kernels()[name], given).astype("float64")
    assert np.abs(found - right).max() < unit
    assert np.abs(plain - right).max() > unit


def test_compensated_sums_keep_what_is_rounded_away():
    own = lowered(lambda x: op.sum(x, axis=[1]), ((2, 50_000), "float32"))
    given = [np.abs(one) for one in arguments(own)]
    right = given[0].sum(axis=1, dtype="float64")
    errors = {
        kernel: np.max(np.abs(computed(kernel, given) - right) / right)
        for kernel in (own, made_of(own, "compensated-sums", LLVM))
    }
    plain, compensated = errors.values()
    assert compensated < 1e-7 < plain


def test_no_vectors_are_left_and_no_vector_is_no_alternative():
    assert "T.vectorized" in scheduled(kernels()["matmul"], CUDA).script()
    assert "T.vectorized" not in made_of("matmul", "no-vectors", CUDA).script()
    assert made_of("exp", "no-vectors", OPENCL) is None


def test_blocks_have_few_threads():
    script = made_of("softmax", "smaller-blocks", OPENCL).script()
    sizes = re.findall(r'thread_binding\((?:T\.int64\()?(\d+)\)?, thread="threadIdx', script)
    assert sizes
    assert max(map(int, sizes)) <= 32
    assert made_of("softmax", "smaller-blocks", LLVM) is None


@pytest.mark.parametrize("name", ["matmul", "sum"])
def test_threads_share_no_memory(name):
    """Neither for tiles nor for sums across threads."""
    assert shares_memory(scheduled(kernels()[name], CUDA))
    assert not shares_memory(made_of(name, "no-shared-memory", CUDA))
    assert made_of("exp", "no-shared-memory", CUDA) is None


def test_one_loop_nest_has_no_parts():
    assert made_of("exp", "unfused", CUDA) is None


def test_parts_are_scheduled_by_the_rule_for_each():
    """A sum of a fused kernel is one across threads, as if it stood alone."""
    sums = made_of("layer norm", "unfused", OPENCL)
    assert shares_memory(sums)
    assert not shares_memory(made_of("layer norm", "one-thread-each", OPENCL))


@pytest.mark.parametrize(
    ("name", "alternative", "lacks"),
    [
        ("take", "word-integers", "i64"),
        ("same", "word-integers", "i64|i8"),
        ("weighted", "word-integers", "i8"),
        ("to float", "word-integers", "i8"),
    ],
)
def test_sources_for_webgpu_lack_what_it_lacks(name, alternative, lacks):
    own = made_of(name, alternative, WEBGPU)
    assert not re.search(lacks, source(scheduled(own, WEBGPU)))
    if lacks.startswith("i64"):
        with pytest.raises(Exception, match="i64"):
            source(scheduled(kernels()[name], WEBGPU))
    else:
        assert re.search(lacks, source(scheduled(kernels()[name], WEBGPU)))


def test_a_row_of_smallest_numbers_is_not_below_its_maximum():
    """What TVM writes for WebGPU, run here: a maximum that begins a little above the smallest."""
    own = kernels()["softmax"]

    def with_seven_digits(kernel):
        smallest = tirx.min_value("float32").value
        begin = tirx.const(float(f"{smallest:.6e}"), "float32")
        return repaired_kernels.with_constant(kernel, smallest, begin)

    given = arguments(own)
    given[0][1] = np.finfo("float32").min
    assert np.isnan(computed(with_seven_digits(own), given)[1]).all()
    made = made_of("softmax", "maximum-with-floor", WEBGPU)
    np.testing.assert_allclose(
        computed(with_seven_digits(made), given), computed(own, given), rtol=1e-5
    )


def test_whole_numbers_keep_their_sign_and_bytes_their_neighbours():
    """The high word of an int64 is its sign, and every byte of a word is stored."""
    own = kernels()["counted"]
    given = arguments(own)
    given[0][:] = -np.arange(24).reshape(4, 6)
    given[1][:] = 1 << 40
    np.testing.assert_array_equal(
        computed(made_of("counted", "word-integers", OPENCL), given), (given[0] * 4) % 7
    )
    own = lowered(lambda x: op.negative(x), ((3,), "int64"))
    given = [np.array([1, -2, 3]), np.zeros(3, "int64")]
    np.testing.assert_array_equal(
        computed(made_of(own, "word-integers", WEBGPU), given), [-1, 2, -3]
    )


def test_bytes_that_fill_no_words_have_no_such_kernel():
    own = lowered(lambda x: op.astype(x, "float32"), ((3, 3), "int8"))
    assert made_of(own, "word-integers", WEBGPU) is None
    assert made_of("exp", "word-integers", WEBGPU) is None


def test_kernels_that_are_scheduled_already_are_made_from_the_lowered_one():
    own = kernels()["half matmul"]
    made = BY_NAME["float32-sums"].make(Kernel(failing=as_scheduled(own), lowered=own, target=LLVM))
    assert not (made.attrs or {}).get("tirx.is_scheduled", False)


def test_the_algorithm_for_cpus_runs_in_threads():
    """Also where the one for GPUs takes the same values as a matrix of unknown extents."""
    host, other = repaired_kernels.scans((2, 3, 8))
    x = arguments(host)
    made = BY_NAME["host-algorithm"].make(
        Kernel(failing=other, lowered=other, target=OPENCL, host=host)
    )
    assert "threadIdx.x" in made.script()
    given = [one.reshape(6, 8) for one in x]
    np.testing.assert_allclose(
        computed(made, given), np.cumsum(given[0], axis=1), rtol=1e-5, atol=1e-6
    )


def test_an_algorithm_of_the_cpu_that_calls_c_is_none_of_a_gpu():
    host = repaired_kernels.dispatched(lambda x: op.sort(x, axis=1), "llvm", ((4, 8), "float32"))
    made = BY_NAME["host-algorithm"].make(
        Kernel(failing=host, lowered=kernels()["exp"], target=OPENCL, host=host)
    )
    assert made is None
    assert made_of("exp", "host-algorithm", OPENCL) is None
