"""What MLC's metadata says becomes limits and windows of a drive."""

from __future__ import annotations

from functools import partial

import paged_llm
import pytest

from relax_tapml.errors import UsageError
from relax_tapml.frontend import mlc_drive as module
from relax_tapml.frontend.mlc_drive import for_batches, mlc_drive
from relax_tapml.frontend.mlc_model import prompt_sample
from relax_tapml.frontend.paged_drive import PagedDrive
from relax_tapml.frontend.paged_engine import SlidingWindow

SAMPLES = [prompt_sample("a", range(9), [1]), prompt_sample("b", range(4), [1])]


@pytest.fixture(scope="module")
def decoder():
    return paged_llm.model(is_engine=True).module


@pytest.fixture
def drive(decoder, monkeypatch):
    """Of a decoder whose function that creates a cache has a name of its own."""
    monkeypatch.setattr(module, "PagedDrive", partial(PagedDrive, create="create_cache"))
    return lambda **metadata: mlc_drive(decoder, metadata, SAMPLES)


def test_the_longest_prompt_is_prefilled_in_parts(drive):
    assert drive().chunk == 5
    assert drive(prefill_chunk_size=3).chunk == 3
    assert drive(prefill_chunk_size=-1).chunk == 5


def test_no_more_sequences_are_run_than_a_model_takes(drive):
    names = [one.name for one in drive(max_batch_size=1).scenarios]
    assert "batch" not in names
    assert "tree" in names
    assert drive(max_batch_size=80).batch == 3


def test_a_model_keeps_its_window(drive):
    found = drive(sliding_window_size=8, attention_sink_size=4)
    assert found.window == SlidingWindow(size=8, sink=4)
    assert found.scenarios == drive().scenarios
    (note,) = found.notes
    assert "without the model's sliding window of 8 tokens" in note
    assert drive(sliding_window_size=-1).window is None


def test_a_config_that_says_nothing_gets_batches():
    assert for_batches({"vocab_size": 1}) == {"vocab_size": 1, "max_batch_size": 3}
    assert for_batches({"model_config": {}}) == {"model_config": {"max_batch_size": 3}}
    for config in ({"max_batch_size": 1}, {"model_config": {"max_batch_size": 80}}):
        assert for_batches(config) == config


def test_other_models_are_refused(decoder):
    with pytest.raises(UsageError, match=r"rwkv has no create_tir_paged_kv_cache: .*drive="):
        mlc_drive(decoder, {"model_type": "rwkv"}, SAMPLES)
