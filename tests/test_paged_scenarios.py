"""Wrong kernels of a KV cache that only a batch shows, each named alone."""

from __future__ import annotations

import dataclasses

import paged_llm
import pytest
import tvm_ffi
from broken_pipelines import breaks, scale
from paged_runs import run
from tvm import tirx

from relax_tapml.frontend.drives import with_drive

DECODE = "batch_decode_paged_kv_cpu"


@pytest.fixture(scope="module")
def model():
    """Three sequences at once, of up to 43 tokens, one of them forked."""
    states = [name for name in paged_llm.spec(is_engine=True) if "hidden_states" in name]
    few = [*states, "batch_verify", "get_logits"]
    engine = paged_llm.model(prompts=(40,), steps=3, is_engine=True, left_out=few)
    made = with_drive(engine, ["batch"])
    return dataclasses.replace(made, drive=dataclasses.replace(made.drive, chunk=None))


@pytest.fixture(scope="module")
def clean(model, tmp_path_factory):
    return run(model, tmp_path_factory.mktemp("batch") / "run")


def test_what_a_batch_does_not_call_is_told_with_the_reason(clean):
    assert (clean.verdict, clean.culprits) == ("pass", [])
    reasons = {item["site"].split("/")[-1]: item["reason"] for item in clean.document["skipped"]}
    told = "no call of it that returned was recorded: "
    assert reasons["softmax"] == f"{told}the run did not call softmax_with_temperature"
    window = "the KV cache calls it where one token of each sequence with a sliding window does"
    assert reasons[f"{DECODE}_sliding_window"] == told + window
    attention = "vm.builtin.attention_kv_cache_attention_with_fused_qkv"
    (unit,) = [one for one in clean.document["units"] if one["name"] == attention]
    assert unit["reason"] == "its KV cache cannot be recorded: it holds more than one sequence"
    # What is set right in kernels for token trees concerns nobody here.
    assert clean.document["lowering_notes"] == []


def contexts(end):
    """Attend to another number of tokens than a sequence has."""

    def changed(loop):
        if loop.loop_var.name != "row_idx":
            return loop
        return tirx.For(loop.loop_var, loop.min, end(loop.extent), loop.kind, loop.body)

    return lambda kernel: tvm_ffi.structural_map(kernel, (tirx.For, changed))


def second_sequence(kernel):
    """Be 1 % off for the second sequence of a batch."""

    def changed(store):
        if store.buffer.name != "output":
            return store
        wrong = store.value * tirx.const(1.01, store.value.ty)
        value = tirx.Select(store.indices[0] == 1, wrong, store.value)
        return tirx.BufferStore(store.buffer, value, store.indices)

    return tvm_ffi.structural_map(kernel, (tirx.BufferStore, changed))


@pytest.mark.parametrize(
    ("unit", "fault"),
    [
        pytest.param(DECODE, second_sequence, id="only the second sequence"),
        pytest.param(DECODE, contexts(lambda n: tirx.min(n, 33)), id="only beyond 33 tokens"),
        pytest.param("copy_single_page_cpu", scale, id="a forked page"),
        pytest.param("merge_state_inplace_cpu", scale, id="a merge of split attention"),
    ],
)
def test_a_wrong_kernel_is_named_alone(unit, fault, clean, model):
    pipeline = breaks(unit, fault)
    result = run(model, clean.out, resume=True, strategy="isolated", device_pipeline=pipeline)
    assert (result.verdict, result.culprits) == ("mismatch", [unit])


def test_a_kernel_that_reads_past_the_page_table_is_named(clean, model):
    """Whether it crashes, or attends to what is there, depends on memory."""
    pipeline = breaks(DECODE, contexts(lambda n: n + 16))
    how = {"session": "process", "strategy": "isolated"}
    result = run(model, clean.out, resume=True, device_pipeline=pipeline, **how)
    assert result.verdict in ("mismatch", "crash")
    assert result.culprits == [DECODE]
