# ruff: noqa: N812 - TVMScript
"""A kernel that leaves part of its output unwritten is seen, also where zero is right there."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import tirx
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from relax_tapml.bringup._verified_suite import write_verified_suite
from relax_tapml.carve.select.choose_cases import choose_cases
from relax_tapml.compare.verdict import Verdict
from relax_tapml.replays.replay import replay
from relax_tapml.suite.open_suite import open_suite

LLVM = tvm.target.Target("llvm")


@I.ir_module
class Zeros:
    """Operators whose right answer is zero in the last rows, and one that leaves half unwritten."""

    @T.prim_func(private=True, s_tir=True)
    def partial(X: T.Buffer((8, 16), "float32"), Y: T.Buffer((8, 16), "float32")):
        for i, j in T.grid(4, 16):
            with T.sblock("Y"):
                vi, vj = T.axis.remap("SS", [i, j])
                Y[vi, vj] = X[vi, vj] * T.float32(2)

    @T.prim_func(private=True, s_tir=True)
    def staged(X: T.Buffer((8, 16), "float32"), Y: T.Buffer((8, 16), "float32")):
        W = T.alloc_buffer((8, 1040), "float32")
        for i, j in T.grid(8, 1040):
            with T.sblock("W"):
                vi, vj = T.axis.remap("SS", [i, j])
                W[vi, vj] = T.max(X[vi, vj % 16], T.float32(0))
        for i, j in T.grid(8, 16):
            with T.sblock("Y"):
                vi, vj = T.axis.remap("SS", [i, j])
                Y[vi, vj] = W[vi, vj] + W[vi, vj + 1024]

    @R.function
    def main(x: R.Tensor((8, 16), "float32"), at: R.Tensor((6,), "int64")):
        cls = Zeros
        a = R.nn.relu(x)
        b = R.astype(a, "int32")
        c = R.greater(a, R.const(0.5, "float32"))
        d = R.astype(a, "int8")
        e = R.permute_dims(x)
        f = R.take(x, at, axis=0)
        g = R.broadcast_to(R.sum(x, axis=1, keepdims=True), (8, 16))
        h = R.cumsum(a, axis=0)
        i = R.call_tir(cls.partial, (x,), out_ty=R.Tensor((8, 16), "float32"))
        j = R.call_tir(cls.staged, (x,), out_ty=R.Tensor((8, 16), "float32"))
        return a, b, c, d, e, f, g, h, i, j


@pytest.fixture(scope="module")
def suite(record_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zeros")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 16)).astype("float32") * 10
    x[4:] = -np.abs(x[4:])
    recording = record_model(Zeros, folder / "captures", [(x, np.array([7, 1, 2, 0, 3, 5]))])
    write_verified_suite(
        folder / "tests",
        choose_cases(recording.store, recording.sites),
        lowered=recording.lowered,
        store=recording.store,
        source=LLVM,
        pipeline=None,
        kernels=folder / "kernels",
        is_probed=False,
    )
    recording.store.close()
    return folder / "tests"


@tvm.transform.module_pass(opt_level=0, name="DropLast")
def drop_last(module, _ctx):
    """Let every kernel leave the last row of its output as it is."""
    out = module.clone()
    for gvar, kernel in module.functions.items():
        if not isinstance(kernel, tirx.PrimFunc):
            continue
        written = kernel.params[-1].name

        def store(statement, written=written):
            if statement.buffer.name != written:
                return statement
            last = statement.buffer.shape[0] - 1
            return tirx.IfThenElse(statement.indices[0] != last, statement, None)

        out.update_func(gvar, tvm_ffi.structural_map(kernel, (tirx.BufferStore, store)))
    return out


def test_the_last_row_of_every_operator_is_missed(suite):
    """Float, whole number and bool, after the right answer was in memory; each with a count."""
    right = replay(suite, session="inline")
    assert set(right.units.values()) == {Verdict.PASS}
    wrong = replay(suite, session="inline", device_pipeline=drop_last)
    judged = {unit: detail for unit, detail in wrong.details.items() if unit != "partial"}
    reasons = {
        unit: re.search(r"(\d+) of (\d+) values of its output 0 were never written", d.reason)
        for unit, d in judged.items()
    }
    assert all(reasons.values()), {u: d.reason for u, d in judged.items() if not reasons[u]}
    assert {unit: detail.verdict for unit, detail in judged.items()} == dict.fromkeys(
        judged, Verdict.MISMATCH
    )
    assert len(judged) >= 8
    assert any("first at [7, 0]" in detail.reason for detail in judged.values())


def test_what_the_source_never_writes_is_not_judged(suite):
    """It is kept in the suite; the rest of the output is judged as ever."""
    opened = open_suite(suite)
    (case,) = opened.manifest.units["partial"].cases
    mask = opened.tensor(case.outputs[0].unwritten)
    assert (mask[:4].any(), mask[4:].all()) == (False, True)
    others = (c for unit, e in opened.manifest.units.items() if unit != "partial" for c in e.cases)
    assert not any(output.unwritten for other in others for output in other.outputs)

    (detail,) = replay(suite, session="inline", units=["partial"]).details.values()
    (comparison,) = detail.cases[0].comparisons
    assert (detail.verdict, comparison.total, comparison.unjudged) == (Verdict.PASS, 64, 64)
    assert "64 values are not judged, since the source never writes them" in (
        comparison.tolerance.origin
    )


@tvm.transform.module_pass(opt_level=0, name="HalfStage")
def half_a_stage(module, _ctx):
    """Leave the last rows of what a kernel keeps for itself; zero is right in all of them."""
    out = module.clone()
    kernel = module["staged"]

    def store(statement):
        if statement.buffer.name != "W":
            return statement
        return tirx.IfThenElse(statement.indices[0] < 4, statement, None)

    changed = tvm_ffi.structural_map(kernel, (tirx.BufferStore, store))
    out.update_func(module.get_global_var("staged"), changed)
    return out


@pytest.mark.parametrize("session", ["inline", "process"])
def test_a_stage_that_is_left_unwritten_is_missed(suite, session):
    """Between the stages of a kernel memory is fresh, hence zero, or has what an earlier call left.

    After right calls in the same process it has the right answer.
    """
    if session == "inline":
        assert replay(suite, session=session, units=["staged"]).units == {"staged": Verdict.PASS}
    report = replay(suite, session=session, units=["staged"], device_pipeline=half_a_stage)
    assert report.units == {"staged": Verdict.MISMATCH}, report.details["staged"].reason
    assert "NaN where the oracle is finite, 64 of 128 values, first at [4, 0]" in (
        report.details["staged"].reason
    )


def test_the_seed_decides_what_memory_holds(suite):
    """Another one in each replay, unless it is given, so that a failure can be repeated."""

    def reason(seed):
        report = replay(
            suite, session="inline", units=["relu"], device_pipeline=drop_last, seed=seed
        )
        return report.details["relu"].reason

    assert reason(7) == reason(7)
    assert "(seed 7)" in reason(7)
    assert reason(None) != reason(None)
