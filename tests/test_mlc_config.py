"""``mlc:CONFIG`` on the command line, with a stand-in for MLC-LLM, without it, and with itself."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import tvm
from broken_pipelines import breaks, scale
from mlc_configs import CONFIGS
from tvm import relax
from tvm.contrib import tvmjs

from relax_tapml.build import main, parser
from relax_tapml.errors import LoweringError, StoreError, UsageError
from relax_tapml.frontend.load.load_model import load_model
from relax_tapml.partition.lower import lowering_notes

VOCABULARY = 96
HAS_MLC = importlib.util.find_spec("mlc_llm") is not None


def forget():
    """Forget an imported mlc_llm, and return what was forgotten."""
    names = [name for name in sys.modules if name.split(".")[0] == "mlc_llm"]
    return {name: sys.modules.pop(name) for name in names}


@pytest.fixture
def no_mlc():
    """No mlc_llm has been imported, and what a test imports is forgotten after it."""
    kept, pipeline = forget(), relax.pipeline.PIPELINE_MAP.pop("mlc_llm", None)
    yield
    forget()
    sys.modules.update(kept)
    relax.pipeline.PIPELINE_MAP.pop("mlc_llm", None)
    if pipeline is not None:
        relax.pipeline.PIPELINE_MAP["mlc_llm"] = pipeline


@pytest.fixture
def stand_in(no_mlc, models, monkeypatch):
    """Import the stand-in as mlc_llm."""
    monkeypatch.syspath_prepend(str(models / "mlc_stand_in"))


@pytest.fixture
def folder(tmp_path):
    """A folder with the config of a decoder."""
    (tmp_path / "decoder").mkdir()
    config = {"model_type": "decoder", "vocab_size": VOCABULARY}
    (tmp_path / "decoder" / "config.json").write_text(json.dumps(config))
    return tmp_path / "decoder"


@pytest.fixture
def build(capsys, tmp_path):
    """Run the command line in this process, by halves, with few cases."""

    def run(*arguments):
        out = tmp_path / "out"
        given = ["--session", "inline", "--strategy", "bisect", "--no-probes"]
        given += ["--cases-per-unit", "1", "--out", str(out)]
        code = main([*map(str, arguments), *given])
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err, folder=out)

    return run


def refused(ended, code, text):
    assert ended.code == code, ended.err
    assert re.search(text, ended.err, re.MULTILINE), ended.err
    assert "Traceback" not in ended.err
    assert not ended.folder.exists()


class Absent:
    """A finder that makes mlc_llm absent where it is installed."""

    def find_spec(self, name, *_):
        if name == "mlc_llm":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def test_without_mlc_the_message_says_what_is_missing_and_where_it_is(
    no_mlc, monkeypatch, build, folder
):
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    text = r"^error: .* mlc_llm.* not installed.* source .*https://llm\.mlc\.ai/docs/"
    refused(build(f"mlc:{folder}", "--quantization", "q4f16_1"), 2, text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import tvm; tvm.name_of_another_release", "AttributeError: .*name_of_another_release"),
        ("import mlc_llm_needs_this", "ModuleNotFoundError: No module named 'mlc_llm_needs_this'"),
        ("", "ModuleNotFoundError: No module named 'mlc_llm.interface'"),
    ],
)
def test_an_mlc_that_cannot_be_imported_says_why(
    no_mlc, tmp_path, monkeypatch, build, folder, text, reason
):
    """As with another TVM, without a package of its own, or of another version."""
    (tmp_path / "site" / "mlc_llm").mkdir(parents=True)
    (tmp_path / "site" / "mlc_llm" / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    version = re.escape(tvm.__version__)
    text = f"^error: mlc_llm .*cannot be imported with TVM {version}: {reason}"
    refused(build(f"mlc:{folder}", "--quantization", "q4f16_1"), 2, text)


def test_an_mlc_for_another_tvm_fails_with_its_own_error(stand_in, build, folder):
    (folder / "config.json").write_text('{"model_type": "outdated", "vocab_size": 96}')
    text = (
        rf"^error: mlc_llm .*config\.json with TVM {re.escape(tvm.__version__)}: "
        r"AttributeError: .*name_of_another_release"
    )
    refused(build(f"mlc:{folder}", "--quantization", "q0f32"), 3, text)


@pytest.mark.parametrize(
    ("config", "quantization", "text"),
    [
        (None, "q0f32", r"mlc:\S+: .*mlc-chat-config\.json .*config\.json"),
        ("[1]", "q0f32", r"config\.json is not a config"),
        ('{"model_type": "decoder"}', None, "got none.* --quantization: q0f32, q4"),
        ('{"model_type": "decoder"}', "q5", "got q5.* --quantization: q0f32, q4f16"),
        ('{"model_type": "medusa"}', "q4f16_1", "no medusa in q4f16_1.* --quantization: q0f32$"),
        ('{"model_type": "lama"}', "q0f32", r"Unknown model type: lama\. .*\['decoder', 'encoder'"),
        (
            '{"model_type": "mixture", "vocab_size": 96}',
            "q0f32",
            r"decode of mixture calls bound_copy, which .* threads .*--source cuda",
        ),
        (
            '{"model_type": "encoder", "vocab_size": 96}',
            "q0f32",
            r"encoder has no create_tir_paged_kv_cache, decode: .*carving",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_the_names_that_mlc_has(
    stand_in, build, folder, config, quantization, text
):
    (folder / "config.json").unlink()
    if config is not None:
        (folder / "config.json").write_text(config)
    asked = [] if quantization is None else ["--quantization", quantization]
    refused(build(f"mlc:{folder}", *asked), 2, text)


def test_a_quantization_is_for_mlc_only(build):
    text = r"--quantization q0f32 .* mlc:CONFIG.* minilm"
    refused(build("minilm", "--quantization", "q0f32"), 2, text)
    with pytest.raises(UsageError, match="mlc:CONFIG"):
        load_model("tiny_model:model", quantization="q0f32")


def test_a_config_is_brought_up_like_any_model(stand_in, build, folder, monkeypatch):
    """All of its kernels move, a wrong one is named, and the name has what was drawn."""
    asked = (f"mlc:{folder}", "--quantization", "q4f16_1")
    right = build(*asked, "--json")
    assert right.code == 0, right.err
    document = json.loads(right.out)
    assert document["culprits"] == []
    name = "decoder q4f16_1 with random weights and tokens (seed 0)"
    assert document["model"]["name"] == name
    assert right.err.splitlines()[0].startswith(f"model    {name}: ")
    moved = {unit["name"] for unit in document["units"] if unit["on_device"]}
    # The longest prompt is prefilled in two parts.
    assert moved >= {"batch_prefill_paged_kv_cpu", "batch_prefill_ragged_kv", "fused_rope"}
    unit = next(name for name in sorted(moved) if "dequantize" in name)
    pipelines = ModuleType("mlc_test_pipelines")
    pipelines.wrong = breaks(unit, scale)
    monkeypatch.setitem(sys.modules, pipelines.__name__, pipelines)
    broken = ("--device-pipeline", "mlc_test_pipelines:wrong", "--no-repair")
    wrong = build(*asked, "--resume", *broken)
    assert wrong.code == 1, wrong.err
    assert json.loads((wrong.folder / "result.json").read_text())["culprits"] == [unit]


def kernels(module):
    return {g.name_hint for g, f in module.functions.items() if isinstance(f, tvm.tirx.PrimFunc)}


def test_a_model_is_made_for_another_target_by_the_same_passes(stand_in, folder):
    """Other kernels of the cache, and the same functions with the same parameters."""
    model = load_model(f"mlc:{folder}", quantization="q4f16_1")
    gpu, cpu = (model.for_target(tvm.target.Target(kind)) for kind in ("opencl", "llvm"))
    # The regions of a paged kernel read a buffer before it is allocated: a free variable.
    tvm.ir.assert_structural_equal(cpu, model.module, map_free_vars=True)
    assert "batch_decode_paged_kv" in kernels(gpu) - kernels(model.module)
    assert "batch_decode_paged_kv_cpu" in kernels(model.module) - kernels(gpu)
    left_out = ["FuseAddRMSNorm" in note.text for note in lowering_notes(gpu)]
    assert (left_out, "FuseAddRMSNorm" in str(lowering_notes(cpu))) == ([True], False)
    assert "fused" not in gpu.attrs
    for name in ("embed", "prefill", "decode"):
        tvm.ir.assert_structural_equal(gpu[name], model.module[name], map_free_vars=True)
    with pytest.raises(LoweringError, match=r"target .*nvptx.*: ValueError: .*\nanother line"):
        model.for_target(tvm.target.Target({"kind": "nvptx", "mcpu": "sm_80"}))


def test_a_source_may_be_a_gpu(stand_in, folder):
    """MLC compiles for it; for another target, libraries of the source are off."""
    model = load_model(f"mlc:{folder}", quantization="q0f32", source="cuda")
    assert "batch_decode_paged_kv" in kernels(model.module)
    assert "fused" in model.module.attrs
    assert "fused" in model.for_target(tvm.target.Target("opencl")).attrs
    assert "batch_decode_paged_kv_cpu" in kernels(model.for_target(tvm.target.Target("llvm")))


def test_functions_that_a_cpu_cannot_run_are_left_out_where_nothing_calls_them(stand_in, folder):
    """The name says so; a GPU keeps them."""
    (folder / "config.json").write_text('{"model_type": "pictures", "vocab_size": 96}')
    cpu, gpu = (
        load_model(f"mlc:{folder}", quantization="q0f32", source=source)
        for source in ("llvm", "opencl")
    )
    assert cpu.name == "pictures q0f32 without image_embed with random weights and tokens (seed 0)"
    assert "without" not in gpu.name
    for module, bound in ((cpu.module, set()), (gpu.module, {"bound_copy"})):
        assert kernels(module) & {"bound_copy"} == bound
    assert "bound_copy" not in kernels(cpu.for_target(tvm.target.Target("opencl")))


@pytest.mark.parametrize("name", ["tensor-cache.json", "ndarray-cache.json"])
def test_weights_and_tokens_are_taken_where_there_are_any(stand_in, folder, tmp_path, name):
    """With the quantization of the config, and as many tokens decoded as always."""
    drawn = load_model(f"mlc:{folder}", quantization="q0f32")
    weights = {name: array + np.float32(1) for name, array in drawn.params.items()}
    tvmjs.dump_tensor_cache(weights, str(folder), encode_format="raw", show_progress=False)
    (folder / "tensor-cache.json").rename(folder / name)
    config = {"quantization": "q0f32", "model_type": "decoder", "model_config": {"vocab_size": 96}}
    (folder / "mlc-chat-config.json").write_text(json.dumps(config))
    tokens = np.arange(7)
    np.savez(tmp_path / "named.npz", tokens=tokens)
    np.savez(tmp_path / "one.npz", tokens[None, :1])
    model = load_model(f"mlc:{folder}", inputs=[tmp_path / "named.npz", tmp_path / "one.npz"])
    assert model.name == "decoder q0f32"
    assert all(np.array_equal(model.params[name], array) for name, array in weights.items())
    assert [[a.tolist() for a in sample.arrays] for sample in model.samples] == [
        [[[0, 1, 2, 3]], [[4, 5, 6]]],
        [[[0]], [[]]],
    ]
    assert model.drive.chunk == 2
    text = r"decoder q4f16_1: .*\d+ of \d+ weights: .*_weight"
    with pytest.raises(UsageError, match=text):
        load_model(f"mlc:{folder}", quantization="q4f16_1")
    (folder / "params_shard_0.bin").unlink()
    with pytest.raises(StoreError, match="cannot be read: FileNotFoundError"):
        load_model(f"mlc:{folder}")


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (np.array([1.0]), r"\[n\] or \[1, n\], got float64"),
        (np.array([[1], [2]]), r"got int64 of shape \[2, 1\]"),
        (np.array([], "int32"), r"got int32 of shape \[0\]"),
        (np.array([1, VOCABULARY]), "0 to 95, got 1 to 96"),
        (np.array([1] * 65), "at most 64 tokens, got 65"),
    ],
)
def test_what_are_no_tokens_of_the_model_is_refused(stand_in, folder, tmp_path, tokens, text):
    np.savez(tmp_path / "x.npz", tokens)
    with pytest.raises(UsageError, match=f"x.npz: .*{text}"):
        load_model(f"mlc:{folder}", quantization="q0f32", inputs=[tmp_path / "x.npz"])


def test_texts_are_for_the_tokenizer_in_the_folder(stand_in, folder):
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    with pytest.raises(UsageError, match=r"--text needs a tokenizer .* in .*decoder"):
        load_model(f"mlc:{folder}", quantization="q0f32", texts=["a b"])
    tokenizer = Tokenizer(models.WordLevel({"a": 5, "b": 6, "?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    model = load_model(f"mlc:{folder}", quantization="q0f32", texts=["a b c a b"])
    assert model.name == "decoder q0f32 with random weights (seed 0)"
    (sample,) = model.samples
    assert (sample.name, [a.tolist() for a in sample.arrays]) == (
        "a b c a b",
        [[[5, 6]], [[0, 5, 6]]],
    )


@pytest.mark.parametrize("config", ["decoder", "decoder/config.json"])
def test_the_output_folder_is_not_the_models_own(tmp_path, folder, monkeypatch, config):
    """MLC writes weights to dist/NAME; a run does not."""
    folders = []

    def bring_up(_model, *, out, **_options):
        folders.append(out)
        raise UsageError("enough")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("relax_tapml.bringup.main_job.bring_up", bring_up)
    assert main([f"mlc:{config}"]) == 2
    assert folders == [Path("dist/mlc.decoder")]


def test_help_says_how(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "mlc:CONFIG" in text
    assert "--quantization NAME" in text


@pytest.mark.skipif(not HAS_MLC, reason="needs mlc_llm, which is on no package registry")
@pytest.mark.parametrize("quantization", ["q0f32", "q4f16_1"])
@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_a_config_of_mlc_itself(build, folder, model_type, quantization):
    config = {"model_type": model_type, **CONFIGS[model_type]}
    (folder / "config.json").write_text(json.dumps(config))
    ended = build(f"mlc:{folder}", "--quantization", quantization, "--json")
    assert ended.code == 0, ended.err
    document = json.loads(ended.out)
    assert (document["verdict"], document["culprits"]) == ("pass", [])
    assert all(item["reason"] for item in document["skipped"])
