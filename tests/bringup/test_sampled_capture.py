# ruff: noqa: N812 - TVMScript
"""Some of the calls of each unit are captured: none loses all, and the size is known before."""

from __future__ import annotations

import itertools
from collections import namedtuple

import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import UNITS, model
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from relax_tapml import bring_up, read_result
from relax_tapml.bringup import _capture_room
from relax_tapml.bringup._capture_size import FunctionCall
from relax_tapml.bringup._sampled_capture import _spread, sampled_capture
from relax_tapml.bringup.capture_plan import CapturePlan
from relax_tapml.bringup.carved_suite import captured_text
from relax_tapml.capture.recorder import Recorder
from relax_tapml.errors import MachineError, UsageError
from relax_tapml.passes.annotate_sites import AnnotateSites

LEFT_OUT = "main/006/matmul"


@given(st.integers(1, 200), st.integers(1, 200))
def test_sites_are_spread_over_the_depth(size, count):
    """First and last, and others at distances that differ by one at most."""
    group = [f"{n}" for n in range(size)]
    chosen = [int(site) for site in _spread(group, count)]
    assert len(chosen) == min(size, count)
    assert chosen[0] == 0
    if count > 1:
        assert chosen[-1] == size - 1
        gaps = {b - a for a, b in itertools.pairwise(chosen)}
        assert not gaps or max(gaps) - min(gaps) <= 1


@I.ir_module
class Deep:
    """Units that many sites call, and one that only branches do."""

    @R.function
    def main(cond: R.Tensor((), "bool"), x: R.Tensor(("n", 4), "float32")):
        R.func_attr({"global_symbol": "main"})
        a = R.add(x, x)
        b = R.add(a, x)
        c = R.add(b, x)
        d = R.add(c, x)
        e = R.add(d, x)
        if cond:
            y = R.exp(e)
        else:
            p = R.exp(e)
            q = R.exp(p)
            y = R.exp(q)
        return y

    @R.function
    def rarely(x: R.Tensor((2, 4), "float16")):
        R.func_attr({"global_symbol": "rarely"})
        return R.exp(x)


@pytest.fixture(scope="module")
def deep() -> tvm.IRModule:
    return AnnotateSites()(relax.transform.LegalizeOps()(Deep))


CALL = FunctionCall(function="main", shapes=((), (3, 4)))
ROW = 3 * 4 * 4  # Bytes of a tensor.


@pytest.mark.parametrize(
    ("text", "captured", "size"),
    [
        # x and the five sums; e and the results of exp, in both branches.
        ("all", 10, (6 + 4) * ROW),
        # The first sum and its argument; in each branch exp and its argument.
        ("1", 4, 6 * ROW),
        # Two sums with their arguments; in one branch y, in the other p, q and y.
        ("2", 6, 8 * ROW),
        ("0.4KB", 6, 8 * ROW),
        ("1KB", 10, 10 * ROW),
        ("0.001KB", 4, 6 * ROW),
    ],
)
def test_each_branch_and_function_keeps_a_call_of_each_unit(deep, text, captured, size):
    """Also where a size is too small for that; the size is that of the shapes of a call."""
    found = sampled_capture(deep, CapturePlan.parse(text), [[CALL]], {"w": 100})
    inputs = found.module.script().count("relax_tapml.capture.inputs")
    assert inputs == captured
    assert len(found.left_out) == 10 - captured
    assert (found.size.activation_bytes, found.size.weight_bytes) == (size, 100)
    assert found.size.unknown == 0


def test_every_kth_run_counts(deep):
    """Of each function, in each sample; what is never called costs nothing."""
    rare = FunctionCall(function="rarely", shapes=((2, 4),))
    calls = [*([CALL] * 5), rare, rare, rare]
    found = sampled_capture(deep, CapturePlan.parse("all/2"), [calls, calls], {})
    assert found.size.activation_bytes == 2 * (3 * 10 * ROW + 2 * 2 * 16)


def test_what_is_not_known_is_not_counted(deep):
    """An argument that has no shape leaves the values that depend on it."""
    call = FunctionCall(function="main", shapes=((), None))
    found = sampled_capture(deep, CapturePlan(), [[call]], {})
    assert (found.size.activation_bytes, found.size.unknown) == (0, 10)


def test_the_expected_size_is_what_is_seen(tiny, tmp_path):
    """Without the outputs of the model, which are recorded beside the calls."""
    store = tiny.source.capture(tmp_path / "captures", tiny.oracles)
    outputs = sum(array.nbytes for outputs in tiny.oracles for array in outputs)
    weights = sum(array.nbytes for array in tiny.model.params.values())
    assert store.manifest["expected_bytes"] == store.stats().seen_bytes - outputs + weights


def test_without_room_nothing_is_captured(tiny, tmp_path, monkeypatch):
    """The message has what is needed, what is free, the folder, and what to do."""
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(_capture_room.shutil, "disk_usage", lambda _path: usage(2000))
    with pytest.raises(MachineError) as caught:
        tiny.source.capture(tmp_path / "new" / "captures", tiny.oracles)
    assert str(caught.value) == (
        f"capturing into {tmp_path / 'new' / 'captures'} takes about 2.4 kB (288 B of weights, "
        "2.1 kB of activations), and 2.0 kB are free there. Capture fewer calls, as with "
        "--capture-calls 1KB, or name another --out"
    )
    assert not (tmp_path / "new").exists()


def test_a_gpu_that_waited_is_told(tiny, tmp_path, monkeypatch):
    """In the stage's line, and in the store for the result."""
    monkeypatch.setattr(Recorder, "waited", "GPU 0 has no memory left to stage copies in")
    store = tiny.source.capture(tmp_path / "captures", tiny.oracles)
    assert captured_text(store, 9, 2).endswith(
        "; the GPU waited for each copy: GPU 0 has no memory left to stage copies in"
    )


def test_a_run_tells_what_it_has_not_captured(tmp_path):
    """Its unit is judged by the other calls; the folder keeps to what it has captured."""
    options = {"session": "inline", "strategy": "isolated", "is_probed": False}
    result = bring_up(model(), out=tmp_path / "run", capture_calls=1, **options)
    assert {unit.name: unit.verdict for unit in result.units} == dict.fromkeys(UNITS, "pass")
    assert {skipped.site: skipped.reason for skipped in result.skipped} == {
        LEFT_OUT: "not captured: --capture-calls 1"
    }
    assert result.captures.sites == len(UNITS)
    assert result.captures.calls == 2 * len(UNITS)
    assert read_result(tmp_path / "run").captures == result.captures
    with pytest.raises(UsageError, match=r"^--capture-calls 2: calls were captured .*-calls 1\."):
        bring_up(model(), out=tmp_path / "run", resume=True, capture_calls=2, **options)
    assert read_result(tmp_path / "run").captures == result.captures
