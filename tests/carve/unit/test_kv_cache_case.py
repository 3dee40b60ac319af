"""A call that reads a KV cache is carved with what was in the cache, and judged by what is then."""

from __future__ import annotations

import numpy as np
import paged_llm
import paged_runs
import pytest
import tvm
import tvm_ffi
from broken_pipelines import breaks, scale
from tiny_runs import unit_of
from tvm import relax
from tvm.relax.frontend.nn.llm.kv_cache import RopeMode

from relax_tapml import replay
from relax_tapml._compat import IS_TVM_026
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import LoweringError
from relax_tapml.passes.cache_creation import CREATE
from relax_tapml.suite.open_suite import open_suite

pytestmark = pytest.mark.skipif(IS_TVM_026, reason="caches of TVM 0.26 tell no lengths")

ATTENTION = "vm.builtin.attention_kv_cache_attention_with_fused_qkv"
APPEND = "tir_kv_cache_transpose_append"
PAGE = 16  # Tokens in a page.


def run(model, out, **options):
    return paged_runs.run(model, out, strategy="isolated", **options)


@pytest.fixture(scope="module")
def clean(clean_paged):
    return clean_paged


def cases(result):
    """Keys and values before and after, and qkv, of each case."""
    suite = open_suite(result.out / "tests")
    for case in suite.manifest.units[ATTENTION].cases:
        *before, qkv = (suite.tensor(item.tensor) for item in case.inputs)
        _, *after = (suite.tensor(item.tensor) for item in case.outputs)
        yield before, after, qkv


def test_cases_hold_the_state_before_and_after(clean):
    """Of an empty cache and of a filled one: nothing that was there changes, the new is added."""
    found = list(cases(clean))
    assert [] in [before for before, *_ in found]
    assert max(before[0].shape[1] for before, *_ in found if before) > PAGE  # More than one page.
    for before, (keys, values), qkv in found:
        held = before[0].shape[1] if before else 0
        assert keys.shape == (1, held + len(qkv), paged_llm.KV_HEADS, paged_llm.HEAD_DIM)
        for old, new in zip(before, (keys, values), strict=False):
            assert new[:, :held].tobytes() == old.tobytes()
        added = qkv[:, paged_llm.HEADS + paged_llm.KV_HEADS :]
        assert values[0, held:].tobytes() == np.ascontiguousarray(added).tobytes()


@pytest.mark.parametrize("session", ["inline", "process"])
def test_it_replays_bit_for_bit(session, clean):
    """On a cache with no more room than the call needs; a device process has nothing but TVM."""
    report = replay(clean.out / "tests", session=session, units=[ATTENTION])
    assert report.units == {ATTENTION: Verdict.PASS}
    comparisons = [c for case in report.details[ATTENTION].cases for c in case.comparisons]
    assert len(comparisons) == 3 * len(report.details[ATTENTION].cases)
    assert all(c.max_abs == 0 and c.total for c in comparisons)


def rotates_nothing():
    """Build caches whose kernel does not rotate."""

    @tvm.transform.module_pass(opt_level=0, name="RotatesNothing")
    def change(module, _ctx):
        out = module.clone()

        def changed(call):
            if not call.args or getattr(call.args[0], "global_symbol", "") != CREATE:
                return call
            args = list(call.args)
            assert int(args[9].value) == RopeMode.NORMAL
            args[9] = relax.prim_value(RopeMode.NONE)
            new = relax.Call(call.op, args, call.attrs, call.ty_args, call.span)
            relax.expr._update_type(new, call.ty)
            return new

        gvar = module.get_global_var("create_cache")
        function = tvm_ffi.structural_map(module[gvar], (relax.Call, changed))
        assert not tvm_ffi.structural_equal(function, module[gvar])
        out.update_func(gvar, function)
        return out

    return change


def test_a_pipeline_that_makes_another_cache_is_refused(clean, paged):
    """No device can be given the object that its function returns."""
    with pytest.raises(
        LoweringError, match=r"RotatesNothing.*create_cache takes or returns an obj"
    ):
        run(paged, clean.out, resume=True, device_pipeline=rotates_nothing())


@pytest.mark.parametrize("wrong", [APPEND, "batch_decode_paged_kv_cpu"])
def test_it_is_not_accused_of_what_its_kernels_do(wrong, clean, paged):
    """It differs, too, in its output or in what it leaves in the cache."""
    result = run(paged, clean.out, resume=True, device_pipeline=breaks(wrong, scale))
    assert result.culprits == [wrong]
    found = unit_of(result, ATTENTION)
    assert found["verdict"] == "skipped"
    assert found["reason"] == f"mismatch; not judged, since it runs {wrong} (mismatch)"
