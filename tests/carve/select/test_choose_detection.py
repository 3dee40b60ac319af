"""The chosen cases detect what all captures detect, shown with kernels that are wrong."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pytest
import tvm

from relax_tapml.capture._writer import StoreWriter
from relax_tapml.capture.host_tensor import HostTensor
from relax_tapml.capture.store import CaptureStore
from relax_tapml.carve.select.choose_cases import choose_cases
from relax_tapml.compare.tolerances.rule import tolerance_for
from relax_tapml.passes.site import Site

HEADER = "@T.prim_func(s_tir=True)\n"

CUBIC = (
    "(T.float32(0.79788456) * (X[vi, vj]"
    " + T.float32(0.044715) * X[vi, vj] * X[vi, vj] * X[vi, vj]))"
)
TANH = f"T.tanh({CUBIC})"
# The same but where exp overflows: infinity over infinity.
BY_EXP = (
    f"((T.exp({CUBIC} * T.float32(2)) - T.float32(1))"
    f" / (T.exp({CUBIC} * T.float32(2)) + T.float32(1)))"
)
GELU = (
    """def main(X: T.Buffer((4, 8), "float32"), Y: T.Buffer((4, 8), "float32")):
    T.func_attr({"global_symbol": "main"})
    for i, j in T.grid(4, 8):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = T.float32(0.5) * X[vi, vj] * (T.float32(1) + """
    + TANH
    + ")\n"
)

MASKED = """def main(X: T.Buffer((4, 8), "float32"), M: T.Buffer((8,), "bool"),
                     Y: T.Buffer((4, 8), "float32")):
    T.func_attr({"global_symbol": "main"})
    for i, j in T.grid(4, 8):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = T.Select(M[vj], X[vi, vj], T.float32(-1e9))
"""

TAKE = """def main(W: T.Buffer((50, 8), "float32"), I: T.Buffer((4,), "int64"),
                   Y: T.Buffer((4, 8), "float32")):
    T.func_attr({"global_symbol": "main"})
    for i, j in T.grid(4, 8):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = W[I[vi], vj]
"""

MATMUL = """def main(X: T.Buffer((4, 8), "float32"), W: T.Buffer((8, 8), "float32"),
                     Y: T.Buffer((4, 8), "float32")):
    T.func_attr({"global_symbol": "main"})
    for i, j, k in T.grid(4, 8, 8):
        with T.sblock("Y"):
            vi, vj, vk = T.axis.remap("SSR", [i, j, k])
            with T.init():
                Y[vi, vj] = T.float32(0)
            Y[vi, vj] = Y[vi, vj] + X[vi, vk] * W[vk, vj]
"""

NORM = """def main(X: T.Buffer((4, 8), "float32"), Y: T.Buffer((4, 8), "float32")):
    T.func_attr({"global_symbol": "main"})
    S = T.sblock_alloc_buffer((4,), "float32")
    for i, k in T.grid(4, 8):
        with T.sblock("S"):
            vi, vk = T.axis.remap("SR", [i, k])
            with T.init():
                S[vi] = T.float32(0)
            S[vi] = S[vi] + X[vi, vk] * X[vi, vk]
    for i, j in T.grid(4, 8):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = X[vi, vj] / T.max(T.sqrt(S[vi]), T.float32(1e-12))
"""

KERNELS = {"gelu": GELU, "masked": MASKED, "take": TAKE, "matmul": MATMUL, "norm": NORM}
# Name to kernel, text, and what is there in a wrong kernel instead.
MUTANTS = {
    "gelu, wrong constant": ("gelu", "0.044715", "0.0475"),
    "gelu, saturates at 6": (
        "gelu",
        "= T.float32(0.5)",
        "= T.Select(X[vi, vj] > T.float32(6), "
        "T.float32(6), X[vi, vj]) / X[vi, vj] * T.float32(0.5)",
    ),
    "gelu, negative branch lost": (
        "gelu",
        "= T.float32(0.5) * X[vi, vj]",
        "= T.float32(0.5) * T.max(X[vi, vj], T.float32(-1))",
    ),
    "gelu, tanh overflows": ("gelu", TANH, BY_EXP),
    "mask, off by one": ("masked", "M[vj]", "M[T.max(vj - 1, 0)]"),
    "mask, off by one at the end": ("masked", "M[vj]", "M[T.min(vj + 1, 7)]"),
    "mask, last column not masked": ("masked", "M[vj]", "M[vj] or vj == 7"),
    "mask, ignored": ("masked", "T.Select(M[vj], X[vi, vj], T.float32(-1e9))", "X[vi, vj]"),
    "mask, inverted": ("masked", "T.Select(M[vj]", "T.Select(not M[vj]"),
    "take, last row out of reach": ("take", "I[vi]", "T.min(I[vi], T.int64(48))"),
    "take, first row out of reach": ("take", "I[vi]", "T.max(I[vi], T.int64(1))"),
    "take, off by one": ("take", "I[vi]", "T.min(I[vi] + T.int64(1), T.int64(49))"),
    "take, indices of 5 bits": ("take", "I[vi]", "I[vi] % T.int64(32)"),
    "matmul, last product lost": ("matmul", "T.grid(4, 8, 8)", "T.grid(4, 8, 7)"),
    "matmul, transposed": ("matmul", "W[vk, vj]", "W[vj, vk]"),
    "norm, epsilon of another place": (
        "norm",
        "T.max(T.sqrt(S[vi]), T.float32(1e-12))",
        "T.sqrt(S[vi])",
    ),
    "norm, large epsilon": ("norm", "1e-12", "1e-3"),
    "norm, squares overflow": (
        "norm",
        "X[vi, vk] * X[vi, vk]",
        'T.Cast("float32", T.Cast("float16", X[vi, vk] * X[vi, vk]))',
    ),
}
FEW = 3


@dataclass(frozen=True, kw_only=True)
class Call:
    unit: str
    inputs: tuple[np.ndarray, ...]
    oracle: np.ndarray


@functools.cache
def _built(script):
    function = tvm.script.from_source(HEADER + script)
    return tvm.compile(tvm.IRModule({"main": function}), target="llvm")


def _run(kernel, inputs):
    result = tvm.runtime.tensor(np.zeros((4, 8), "float32"))
    kernel["main"](*[tvm.runtime.tensor(array) for array in inputs], result)
    return result.numpy()


def _samples(rng):
    """Yield 300 ordinary calls of each unit, and a few that are rare, at random places."""
    weights = [rng.standard_normal((8, 8), dtype="float32") for _ in range(2)]
    table = rng.standard_normal((50, 8), dtype="float32")
    rare = set(rng.choice(300, 4, replace=False).tolist())
    for index in range(300):
        x = rng.standard_normal((4, 8), dtype="float32")
        if index in rare:
            kind = sorted(rare).index(index)
            yield "gelu", (x * np.float32(12),)
            yield "masked", (x, np.arange(8) < (8, 3, 1, 7)[kind])
            yield "take", (table, np.array([(0, 49, 17, 33)[kind], 4, 5, 6]))
            yield "norm", (x * np.float32((0, 1e-5, 300, 1)[kind]),)
        else:
            yield "gelu", (x * np.float32(0.3),)
            yield "masked", (x, np.arange(8) < 5)
            yield "take", (table, rng.integers(1, 30, 4))
            yield "norm", (x,)
        yield "matmul", (x, weights[index % 2])


@pytest.fixture(scope="module", params=[0, 1, 2])
def recorded(request, tmp_path_factory):
    """All calls that were recorded with the right kernels, and those that are chosen."""
    kernels = {unit: _built(script) for unit, script in KERNELS.items()}
    sites = {unit: Site(function="main", ordinal=i, unit=unit) for i, unit in enumerate(KERNELS)}
    folder = tmp_path_factory.mktemp("captures")
    CaptureStore.create(folder, {}).close()
    calls = []
    with StoreWriter(folder) as writer:
        writer.begin_sample("s")

        def ref(array):
            return "t:" + writer.add_tensor(HostTensor.of_array(array))

        for frame, (unit, inputs) in enumerate(_samples(np.random.default_rng(request.param))):
            oracle = _run(kernels[unit], inputs)
            calls.append(Call(unit=unit, inputs=inputs, oracle=oracle))
            where = {"frame": frame, "call": sites[unit].ordinal}
            refs = [ref(array) for array in inputs]
            writer.add_call(**where, function="main", site=sites[unit].id, inputs=refs)
            writer.finish_call(**where, outputs=[ref(oracle)])
        writer.end_sample([])
    with CaptureStore.open(folder) as store:
        chosen = choose_cases(store, sites.values(), FEW)
    return calls, [calls[case.record.frame] for case in chosen]


def _is_caught(mutant, calls):
    unit, old, new = MUTANTS[mutant]
    assert old in KERNELS[unit]
    kernel = _built(KERNELS[unit].replace(old, new))
    for call in calls:
        if call.unit == unit:
            actual = _run(kernel, call.inputs)
            tolerance = tolerance_for(call.oracle)
            if not (
                tolerance.distance(call.oracle, actual) <= tolerance.allowed(call.oracle)
            ).all():
                return True
    return False


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_chosen_cases_detect_what_all_captures_detect(recorded, mutant):
    """A wrong kernel that any of 1500 calls reveals is revealed by at most three per unit."""
    calls, chosen = recorded
    assert len(chosen) <= FEW * len(KERNELS)
    assert _is_caught(mutant, calls), "the mutant shows nothing, so neither does this test"
    assert _is_caught(mutant, chosen)


def test_the_first_calls_would_miss_some(recorded):
    """The rare branches are rare: as many calls, taken from the front, miss wrong kernels."""
    calls, _ = recorded
    first = [call for unit in KERNELS for call in [c for c in calls if c.unit == unit][:FEW]]
    assert sum(not _is_caught(mutant, first) for mutant in MUTANTS) >= 4
