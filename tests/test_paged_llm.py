"""A decoder with a paged KV cache, which stays on the host; all of its kernels can move."""

from __future__ import annotations

import re

import paged_llm
import pytest
import tvm_ffi
from broken_pipelines import abort, breaks, scale
from paged_runs import run
from tiny_runs import unit_of
from tvm import tirx

import relax_tapml
from mutation.mutants import mutants
from relax_tapml.capture.store import CaptureStore
from relax_tapml.suite.open_suite import open_suite

CACHE = {
    "batch_decode_paged_kv_cpu",
    "batch_prefill_paged_kv_cpu",
    "batch_prefill_ragged_kv",
    "fused_rope",
    "merge_state_inplace_cpu",
    "tir_kv_cache_transpose_append",
}


@pytest.fixture(scope="module")
def clean(clean_paged):
    return clean_paged


@pytest.fixture(scope="module")
def model(paged):
    return paged


def test_every_kernel_that_ran_moves_also_those_of_the_cache(clean):
    """What the runtime does itself, and kernels that were never called, are told with reasons."""
    assert (clean.verdict, clean.culprits) == ("pass", [])
    # 9 and 17 tokens of prompt, 5 that are decoded after each.
    found = [step["agreement"] for step in clean.document["steps"] if step["agreement"]][-1]
    assert (found["meaning"], found["total"], found["same"]) == ("tokens", 36, 36)
    moved = {unit["name"] for unit in clean.document["units"] if unit["on_device"]}
    assert moved >= CACHE
    assert {unit["name"] for unit in clean.document["units"]} - moved == {
        re.search(r"[^/]*$", item["site"])[0] for item in clean.document["skipped"]
    }
    reasons = {item["reason"] for item in clean.document["skipped"]}
    told = "no call of it that returned was recorded: the KV cache calls it "
    assert all(reason.startswith(told) for reason in reasons)
    assert f"{told}where a tree of tokens is verified" in reasons


def test_its_bundle_computes_what_the_source_does(clean, model):
    """With the cache on the host and its kernels on the device."""
    store = CaptureStore.open(clean.out / "captures")
    with relax_tapml.load(clean.out / "bundle") as bundle:
        for label, sample in zip(store.samples(), model.samples, strict=True):
            recorded = [store.tensor(value.digest) for value in store.sample_outputs(label)]
            outputs = model.run(bundle, sample)
            assert [a.tobytes() for a in outputs] == [a.tobytes() for a in recorded]


@pytest.fixture(scope="module")
def quantized():
    """Matrices of 4 bits; 64 tokens are prefilled and 32 decoded."""
    return paged_llm.model(prompts=(64,), steps=32, is_quantized=True)


@pytest.fixture(scope="module")
def clean_quantized(quantized, tmp_path_factory):
    """A run of it with right kernels."""
    return run(quantized, tmp_path_factory.mktemp("quantized") / "run", is_probed=True)


def nibbles_reversed(kernel):
    """Take the eight numbers of a word in the wrong order."""
    return next(m.function for m in mutants(kernel) if m.kind == "nibble order")


@pytest.mark.parametrize(
    ("unit", "fault"),
    [
        ("fused_dequantize1_transpose1", nibbles_reversed),
        ("batch_decode_paged_kv_cpu", scale),
    ],
)
def test_a_wrong_kernel_of_a_quantized_decoder_is_named(unit, fault, clean_quantized, quantized):
    """Unpacking or paged attention, after 64 tokens of prefill and 32 of decode."""
    assert (clean_quantized.verdict, clean_quantized.culprits) == ("pass", [])
    pipeline = breaks(unit, fault)
    result = run(
        quantized, clean_quantized.out, resume=True, is_probed=True, device_pipeline=pipeline
    )
    assert (result.verdict, result.culprits) == ("mismatch", [unit])
    if unit.startswith("fused_dequantize"):
        assert unit_of(result, unit)["origin"] == "layers.*.self_attn.o_proj"


@pytest.mark.parametrize(
    "end", [lambda n: tirx.min(n, 95), lambda n: n - tirx.Cast("int32", n < 65)]
)
def test_a_decode_kernel_that_is_right_for_most_contexts_is_named(end, clean_quantized, quantized):
    """Wrong for the longest of 33 contexts only, or for the shortest: by a replay alone."""

    def limited(kernel):
        def loop(found):
            if found.loop_var.name != "row_idx":
                return found
            return tirx.For(found.loop_var, found.min, end(found.extent), found.kind, found.body)

        return tvm_ffi.structural_map(kernel, (tirx.For, loop))

    unit = "batch_decode_paged_kv_cpu"
    pipeline = breaks(unit, limited)
    result = run(
        quantized,
        clean_quantized.out,
        resume=True,
        is_probed=True,
        strategy="isolated",
        device_pipeline=pipeline,
    )
    assert (result.verdict, result.culprits) == ("mismatch", [unit])


def test_the_longest_and_the_shortest_sequence_are_cases_of_attention(clean_quantized):
    """Of its kernels, and of the call that runs them on a cache."""
    units = open_suite(clean_quantized.out / "tests").manifest.units
    for unit in (
        "batch_decode_paged_kv_cpu",
        "vm.builtin.attention_kv_cache_attention_with_fused_qkv",
    ):
        reasons = "; ".join(case.reason for case in units[unit].cases)
        assert "longest context: 96 (others at most 95)" in reasons
    reasons = "; ".join(case.reason for case in units["batch_decode_paged_kv_cpu"].cases)
    assert "shortest context: " in reasons


@pytest.mark.parametrize("unit", sorted(CACHE))
def test_a_wrong_kernel_of_the_cache_is_named_as_itself(unit, clean, model):
    """And nothing else is."""
    result = run(model, clean.out, resume=True, device_pipeline=breaks(unit, scale))
    assert (result.verdict, result.culprits) == ("mismatch", [unit])


def test_a_kernel_of_the_cache_is_repaired_and_the_cache_moves(clean, model):
    """With the right kernel in its place the whole model runs with its cache on the device."""
    pipeline = breaks("batch_decode_paged_kv_cpu", scale)
    result = run(model, clean.out, resume=True, repair=True, device_pipeline=pipeline)
    assert result.culprits == ["batch_decode_paged_kv_cpu"]
    assert (result.repair.verdict, result.repair.culprits) == ("pass", [])
    assert result.repair.steps[-1].purpose == "cache"


def test_a_kernel_of_the_cache_that_ends_the_device_is_named(clean, model):
    """In a process of its own: the others move, and what they write comes back to the cache."""
    unit = "batch_decode_paged_kv_cpu"
    result = run(
        model, clean.out, session="process", resume=True, device_pipeline=breaks(unit, abort)
    )
    assert (result.verdict, result.culprits) == ("crash", [unit])
    moved = {u["name"] for u in result.document["units"] if u["on_device"]}
    assert moved >= CACHE - {unit}
