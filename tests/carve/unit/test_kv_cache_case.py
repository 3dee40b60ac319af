"""A call that reads a KV cache is carved with what was in the cache, and judged by what is then."""

from __future__ import annotations

import dataclasses
from functools import partial

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

from relax_tapml import bringup, replay
from relax_tapml._compat import IS_TVM_026
from relax_tapml.carve.select.choose_cases import choose_cases
from relax_tapml.carve.write_suite import write_suite
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import LoweringError
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.passes.cache_creation import CREATE
from relax_tapml.suite.open_suite import open_suite

pytestmark = pytest.mark.skipif(IS_TVM_026, reason="caches of TVM 0.26 have no checkpoints")

ATTENTION = "vm.builtin.attention_kv_cache_attention_with_fused_qkv"
APPEND = "tir_kv_cache_transpose_append"
STATE = "vm.builtin.kv_state"
LLVM = bringup.SideSpec.of("llvm")
PAGE = 16  # Tokens in a page.


def run(model, out, **options):
    return paged_runs.run(model, out, strategy="isolated", **options)


@pytest.fixture(scope="module")
def clean(clean_paged):
    return clean_paged


def tokens(pages, count):
    """The first tokens of pages, as (keys and values, heads, tokens, head size)."""
    _, number, two, heads, size, head = pages.shape
    flat = pages[0].transpose(1, 2, 0, 3, 4).reshape(two, heads, number * size, head)
    return flat[:, :, :count], flat[:, :, count:]


def cases(result):
    """Tokens before, pages before and after, qkv, of each case."""
    suite = open_suite(result.out / "tests")
    for case in suite.manifest.units[ATTENTION].cases:
        pages, qkv = (suite.tensor(item.tensor) for item in case.inputs)
        _, after = (suite.tensor(item.tensor) for item in case.outputs)
        body = suite.module(ATTENTION)[case.function].body
        begun = [
            [int(value) for value in binding.value.args[2].values]
            for block in body.blocks
            for binding in block.bindings
            if getattr(binding.value.op, "global_symbol", "") == f"{STATE}_begin_forward"
        ]
        before = begun[0][0] if len(begun) == 2 else 0
        assert begun[-1] == [qkv.shape[0]]
        yield before, pages, after, qkv


def test_cases_hold_the_state_before_and_after(clean):
    """Of an empty cache and of a filled one: nothing that was there changes, the new is added."""
    found = list(cases(clean))
    assert 0 in {before for before, *_ in found}
    assert max(before for before, *_ in found) > PAGE  # More than one page.
    for before, pages, after, qkv in found:
        assert pages.shape[1] == -(-before // PAGE)
        total = before + qkv.shape[0]
        kept, behind = tokens(pages, before)
        assert not behind.any()  # What was not written is not recorded.
        held, behind = tokens(after, total)
        assert not behind.any()
        assert held[:, :, :before].tobytes() == kept.tobytes()
        values = qkv[:, paged_llm.HEADS + paged_llm.KV_HEADS :].transpose(1, 0, 2)
        assert held[1, :, before:].tobytes() == np.ascontiguousarray(values).tobytes()


@pytest.mark.parametrize("session", ["inline", "process"])
def test_it_replays_bit_for_bit(session, clean):
    """On a cache with no more room than the call needs; a device process has nothing but TVM."""
    report = replay(clean.out / "tests", session=session, units=[ATTENTION])
    assert report.units == {ATTENTION: Verdict.PASS}
    comparisons = [c for case in report.details[ATTENTION].cases for c in case.comparisons]
    assert len(comparisons) == 2 * len(report.details[ATTENTION].cases)
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


def prefills(lengths, *, slides=False):
    """Return a drive that prefills some sequences at once."""

    def drive(functions, sample):
        (cache,) = functions["create_cache"]((2,), (64,), (64,), (PAGE,), (int(slides),))
        for sequence in range(len(lengths)):
            builtin("add_sequence")(cache, sequence)
        sequences = tvm_ffi.Shape(range(len(lengths)))
        builtin("begin_forward")(cache, sequences, tvm_ffi.Shape(lengths))
        logits = functions["prefill"](functions["embed"](sample.arrays[0])[0], cache)[0]
        builtin("end_forward")(cache)
        return [logits]

    return dataclasses.replace(paged_llm.model(prompts=(sum(lengths),)), drive=drive)


def builtin(name):
    return tvm.get_global_func(f"{STATE}_{name}")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (partial(prefills, (4, 5)), "it holds more than one sequence"),
        (
            partial(prefills, (9,), slides=True),
            "PagedAttentionKVCache checkpointing does not support sliding-window cache layouts.",
        ),
    ],
)
def test_what_cannot_be_recorded_is_reported(make, reason, clean, tmp_path):
    """TVM's checkpoints hold one sequence of full attention; the kernels are carved anyway."""
    model, kernels = make(), clean.out / "kernels"  # Of the same module.
    lowered = bringup.lower_model(model)
    trusted = bringup.trust_source(bringup.build_source(model, lowered, LLVM, kernels))
    store = bringup.capture(trusted, tmp_path / "captures")
    sites = [site for site, _ in annotated_calls(lowered.module)]
    cases = choose_cases(store, [site for site in sites if site.unit in (APPEND, ATTENTION)], 1)
    suite = write_suite(
        tmp_path / "tests",
        cases,
        lowered=lowered.module,
        store=store,
        source=LLVM.target,
        is_probed=False,
    )
    assert suite.manifest.units[APPEND].cases
    assert ATTENTION not in suite.manifest.units
    assert suite.manifest.skipped[ATTENTION] == f"its KV cache cannot be recorded: {reason}"
