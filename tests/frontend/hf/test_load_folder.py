"""Checkpoint folders become models of their task, with weights, dtype and tokenizer."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tvm
from tvm import relax

from relax_tapml import bringup
from relax_tapml.bringup._import_fault import find_import_fault
from relax_tapml.bringup.side_spec import SideSpec
from relax_tapml.errors import StoreError, UsageError
from relax_tapml.frontend.hf.checkpoint import read_checkpoint
from relax_tapml.frontend.load.load_model import load_model
from relax_tapml.frontend.model import Meaning
from relax_tapml.passes.notes import notes_of

pytest.importorskip("torch")
from relax_tapml.frontend._torch_ops.importer import CorrectedImporter

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"]
TEXTS = ("the quick brown fox", "a lazy dog jumps over the fox")
GPT2_JSON, INDEX = '{"model_type": "gpt2"}', "model.safetensors.index.json"
GPT2 = {"vocab_size": 16, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 32}
BERT = {
    "vocab_size": 16,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}


def saved(folder, kind, config, *, has_tokenizer=False):
    """A checkpoint of drawn weights, as ``save_pretrained`` writes it."""
    torch.manual_seed(1)
    getattr(transformers, kind)(config).save_pretrained(folder)
    if has_tokenizer:
        vocabulary = {word: number for number, word in enumerate(["<unk>", "</s>", "<p>", *WORDS])}
        tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "<unk>"))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="<p>"
        ).save_pretrained(folder)
    return f"hf:{folder}"


def config_only(folder, config, **more):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**config, **more}))
    return f"hf:{folder}"


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoder")
    return saved(folder, "GPT2LMHeadModel", transformers.GPT2Config(**GPT2), has_tokenizer=True)


def test_a_decoder_with_a_cache_computes_what_it_does_without_one(decoder):
    """For prompts of two lengths; the tokens that follow are those that it chooses itself."""
    model = load_model(decoder, texts=TEXTS)
    assert [sample.arrays[0].shape for sample in model.samples] == [(1, 4), (1, 7)]
    assert [sample.name for sample in model.samples] == list(TEXTS)
    assert (model.entry, model.meaning) == ("prefill", Meaning.TOKENS)
    assert {gvar.name_hint for gvar in model.module.functions} == {"prefill", "decode"}
    whole = transformers.AutoModelForCausalLM.from_pretrained(decoder.removeprefix("hf:")).eval()
    for sample in model.samples:
        logits = np.concatenate(model.reference(sample), axis=1)
        with torch.no_grad():
            ids = torch.tensor(np.concatenate(sample.arrays, axis=1))
            expected = whole(ids, use_cache=False).logits.numpy()
        np.testing.assert_allclose(logits, expected, atol=1e-5)
        prompt, following = (array.shape[1] for array in sample.arrays)
        chosen = expected[:, prompt - 1 : -1].argmax(-1)
        np.testing.assert_array_equal(sample.arrays[1], chosen)
        assert following == chosen.shape[1]
        assert model.accurate(sample)[0].dtype == np.float64


def test_weights_that_are_not_there_are_drawn_and_told(tmp_path):
    config = transformers.GPT2Config(**GPT2, dtype="float16").to_dict()
    spec = config_only(tmp_path / "tiny", config, architectures=["GPT2LMHeadModel"])
    one, two = (read_checkpoint(tmp_path / "tiny") for _ in range(2))
    assert one.is_drawn
    assert all(map(torch.equal, one.model.parameters(), two.model.parameters()))
    model = load_model(spec)
    assert "drawn" in model.name
    assert all("drawn" in sample.name for sample in model.samples)
    assert model.params["p_model_transformer_wte_weight"].dtype == np.float16


def test_an_encoder_has_its_head_and_a_mask(tmp_path):
    spec = saved(
        tmp_path / "bert",
        "BertForSequenceClassification",
        transformers.BertConfig(**BERT, num_labels=3),
        has_tokenizer=True,
    )
    model = load_model(spec, texts=TEXTS)
    assert model.meaning == Meaning.CLASSES
    (_, mask), (_, full) = (sample.arrays for sample in model.samples)
    assert (mask.sum(), full.sum(), mask.shape) == (4, 7, (1, 7))
    assert model.reference(model.samples[0])[0].shape == (1, 3)


def test_files_replace_what_is_drawn(tmp_path):
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=5, image_size=16
    )
    spec = saved(tmp_path / "resnet", "ResNetForImageClassification", config)
    image = np.ones((1, 3, 16, 16), "float32")
    np.savez(tmp_path / "one.npz", pixel_values=image)
    model = load_model(spec, inputs=[tmp_path / "one.npz"])
    np.testing.assert_array_equal(model.samples[0].arrays[0], image)
    with pytest.raises(UsageError, match="pixel_values, not texts"):
        load_model(spec, texts=TEXTS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such folder"),
        ({}, "has no config.json"),
        ({"config.json": "{"}, "config.json"),
        ({"config.json": "[]"}, "model_type"),
        ({"config.json": '{"model_type": "no_such_thing"}'}, "no_such_thing"),
        (
            {"config.json": '{"model_type": "gpt2", "architectures": ["Remote"]}'},
            "never run",
        ),
        ({"config.json": '{"model_type": "gpt2"}', "pytorch_model.bin": "x"}, "pickled"),
        ({"config.json": GPT2_JSON, "pytorch_model.bin": "x", "x.safetensors": "x"}, "pickled"),
        ({"config.json": GPT2_JSON, "x.safetensors": "x"}, "not named as"),
        ({"config.json": GPT2_JSON, INDEX: '{"weight_map": {"a": "../x.safetensors"}}'}, "names"),
        ({"config.json": GPT2_JSON, INDEX: '{"weight_map": {"a": "x.bin"}}', "x.bin": ""}, "names"),
        ({"config.json": GPT2_JSON, INDEX: "{}"}, "no 'weight_map'"),
        ({"config.json": '{"model_type": "gpt2"}', "model.safetensors": "x"}, "cannot load"),
    ],
    ids=[
        *("nowhere", "empty", "no json", "no object", "unknown", "own code"),
        *("pickled", "pickled beside", "other name", "outside", "pickled shard", "no map"),
        "damaged",
    ],
)
def test_folders_that_are_no_checkpoints_are_refused(tmp_path, content, words):
    folder = tmp_path / "folder"
    if content is not None:
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text)
    with pytest.raises((UsageError, StoreError), match=words) as found:
        load_model(f"hf:{folder}")
    assert str(folder) in str(found.value) or "config.json" in str(found.value)


def test_weights_that_are_missing_are_named(tmp_path):
    """transformers would draw them, and say so in a warning."""
    spec = saved(tmp_path / "base", "GPT2LMHeadModel", transformers.GPT2Config(**GPT2))
    path = tmp_path / "base" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "n_layer": 3}))
    with pytest.raises(UsageError, match=r"h\.2\."):
        load_model(spec)


def test_texts_need_a_tokenizer(tmp_path):
    config = transformers.GPT2Config(**GPT2).to_dict()
    spec = config_only(tmp_path / "tiny", config, architectures=["GPT2LMHeadModel"])
    with pytest.raises(UsageError, match="no tokenizer"):
        load_model(spec, texts=TEXTS)


def test_a_decoder_that_counts_on_a_growing_cache_has_none(tmp_path):
    """GPT-Neo's local attention counts back from the end of the cache."""
    config = transformers.GPTNeoConfig(
        vocab_size=16,
        hidden_size=8,
        num_layers=2,
        num_heads=2,
        window_size=4,
        attention_types=[[["global", "local"], 1]],
        max_position_embeddings=64,
    )
    model = load_model(saved(tmp_path / "neo", "GPTNeoForCausalLM", config))
    assert model.drive is None
    (note,) = notes_of(model.module)
    assert "without a cache" in note.text
    assert "changes its logits" in note.text


def test_a_decoder_takes_prompts_not_files(decoder, tmp_path):
    np.savez(tmp_path / "one.npz", ids=np.ones((1, 3), "int64"))
    with pytest.raises(UsageError, match="--text"):
        load_model(decoder, inputs=[tmp_path])


@pytest.mark.parametrize("texts", [("the",), ("the", TEXTS[1])], ids=["alone", "beside a longer"])
def test_a_prompt_of_one_token_keeps_its_cache(decoder, texts):
    model = load_model(decoder, texts=texts)
    assert model.drive is not None
    sample = model.samples[0]
    assert sample.arrays[0].shape == (1, 1)
    assert [logits.shape[1] for logits in model.reference(sample)] == [1, 4]


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no tokens"), ("fox " * 29, "has 29 tokens, and at most 28 fit")],
)
def test_texts_that_do_not_fit_are_refused(decoder, text, words):
    with pytest.raises(UsageError, match=words):
        load_model(decoder, texts=[TEXTS[0], text])


def test_drawn_prompts_leave_positions_for_what_follows(tmp_path):
    config = transformers.GPT2Config(**{**GPT2, "n_positions": 12})
    model = load_model(saved(tmp_path / "short", "GPT2LMHeadModel", config))
    assert [array.shape for array in model.samples[0].arrays] == [(1, 8), (1, 4)]


def test_nothing_is_asked_of_the_hub(tmp_path, monkeypatch):
    """A config can name a backbone there."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    seen = []
    read = transformers.AutoConfig.from_pretrained

    def watched(*args, **kwargs):
        seen.append(constants.is_offline_mode())
        return read(*args, **kwargs)

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", watched)
    spec = config_only(
        tmp_path / "dpt",
        {"model_type": "dpt", "backbone": "someone/x", "architectures": ["DPTForDepthEstimation"]},
    )
    with pytest.raises(UsageError, match="cannot load"):
        load_model(spec)
    assert seen
    assert all(seen)
    assert constants.HF_HUB_OFFLINE is False


def test_weights_that_are_not_used_are_told(tmp_path):
    spec = saved(
        tmp_path / "more", "BertForSequenceClassification", transformers.BertConfig(**BERT)
    )
    path = tmp_path / "more" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    (note,) = notes_of(load_model(spec).module)
    assert note.text.startswith("2 weights of the checkpoint are not used by BertModel: classifier")


def test_files_need_nothing_drawn(tmp_path):
    """The arguments are those that the files name, whatever their shapes."""
    spec = saved(tmp_path / "bert", "BertModel", transformers.BertConfig(**BERT))
    embedded = np.ones((1, 5, 8), "float32")
    np.savez(tmp_path / "one.npz", inputs_embeds=embedded)
    model = load_model(spec, inputs=[tmp_path / "one.npz"])
    assert model.samples[0].arrays[0].shape == (1, 5, 8)
    np.savez(tmp_path / "two.npz", nothing=embedded)
    with pytest.raises(UsageError, match=r"two.npz.*inputs_embeds"):
        load_model(spec, inputs=[tmp_path / "two.npz"])


@pytest.mark.parametrize(
    ("kind", "config", "count"),
    [("BertModel", "BertConfig", 10), ("RobertaModel", "RobertaConfig", 8)],
)
def test_drawn_texts_and_masks_fit_the_positions(tmp_path, kind, config, count):
    """RoBERTa's positions begin behind that of padding."""
    more = {**BERT, "max_position_embeddings": 10}
    model = load_model(saved(tmp_path / "short", kind, getattr(transformers, config)(**more)))
    assert [array.shape for array in model.samples[1].arrays] == [(1, count)] * 2


def test_weights_in_parts_may_be_links_as_in_the_cache_of_the_hub(tmp_path):
    torch.manual_seed(1)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2))
    model.save_pretrained(tmp_path / "blobs", max_shard_size="4KB")
    (tmp_path / "linked").mkdir()
    for path in (tmp_path / "blobs").iterdir():
        (tmp_path / "linked" / path.name).symlink_to(path)
    assert (tmp_path / "linked" / INDEX).exists()
    read = read_checkpoint(tmp_path / "linked")
    assert (read.is_drawn, read.notes) == (False, ())
    assert all(map(torch.equal, read.model.parameters(), model.parameters()))


def test_a_node_that_is_imported_wrongly_is_named(decoder, tmp_path, monkeypatch):
    """Also in decode alone, at the arguments of its first call."""
    right = CorrectedImporter.create_convert_map

    def wrong(importer):
        converters = right(importer)
        tanh = converters["tanh.default"]

        def faulty(node):
            found = tanh(node)
            is_decode = node.meta["val"].shape[1] == 1
            return importer.block_builder.emit(relax.op.negative(found)) if is_decode else found

        return {**converters, "tanh.default": faulty}

    monkeypatch.setattr(CorrectedImporter, "create_convert_map", wrong)
    model = load_model(decoder, texts=TEXTS[:1])
    side = SideSpec(target=tvm.target.Target({"kind": "llvm", "opt-level": 1}))
    built = bringup.build_source(model, bringup.lower_model(model), side, tmp_path)
    finding = find_import_fault(bringup.trust_source(built), tmp_path / "import", tmp_path).finding
    (only,) = finding.nodes
    assert (only.operator, len(only.alike)) == ("aten.tanh.default", 1)
    assert "mlp.act" in only.module
    assert "float32[1, 1, " in only.call
    nodes = [len(graph.module.functions) for graph in model.graphs(model.samples[0])]
    assert finding.judged > max(nodes)
