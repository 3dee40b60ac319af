"""A model is carved in the middle of the pipeline that compiles it, which then goes on."""

from __future__ import annotations

import paged_llm
import pytest
import tvm
from broken_pipelines import breaks, scale
from mlc_configs import LLAMA
from tvm import relax

from relax_tapml import mlc
from relax_tapml._compat import IS_TVM_026
from relax_tapml.errors import LoweringError, UsageError
from relax_tapml.frontend.mlc_model import drawn
from relax_tapml.frontend.paged_drive import PagedDrive

STAND_IN = "tests_stand_in_for_mlc"
LLVM = tvm.target.Target("llvm")


@tvm.transform.module_pass(opt_level=0, name="CleanUpTIRAttrs")
class CleanUp:
    """The last of MLC's passes before schedules, by its name."""

    def transform_module(self, mod, _ctx):
        return mod


@pytest.fixture(scope="module", autouse=True)
def pipeline():
    """A pipeline with the same phases as MLC's: fused kernels, then schedules and bytecode."""

    @relax.register_pipeline(STAND_IN)
    def make(metadata):
        assert metadata["params"]
        transform = relax.transform
        phases = [
            *(relax.backend.DispatchSampling(), relax.backend.DispatchSortScan()),
            *(transform.LegalizeOps(), transform.AnnotateTIROpPattern(), transform.FoldConstant()),
            *(transform.FuseOps(), transform.FuseTIR(), transform.DeadCodeElimination()),
            CleanUp(),
            *(transform.ToNonDataflow(), transform.RemovePurityChecking()),
            transform.CallTIRRewrite(),
        ]
        return tvm.transform.Sequential(phases)

    yield
    del relax.pipeline.PIPELINE_MAP[STAND_IN]


@pytest.fixture(scope="module")
def exported():
    """The decoder as MLC exports it, all weights in one tuple, and MLC's metadata of them."""
    module, parameters = paged_llm.Decoder(paged_llm.Int4Linear).export_tvm(
        paged_llm.spec("packed")
    )
    weights = [
        {"name": name, "shape": [int(d) for d in p.shape], "dtype": p.dtype}
        for name, p in parameters
    ]
    return module, weights


def compiled(exported):
    """Compile as a build script does: the ``with`` is its only line about carving."""
    module, parameters = exported
    with LLVM:
        return relax.get_pipeline(STAND_IN, metadata={"params": parameters})(module)


def carving(out, **options):
    return mlc.carving(
        out,
        prompts=[[5, 7, 11, 13, 17], [3, 4]],
        following=[19, 23],
        drive=PagedDrive(create="create_cache", chunk=4),
        pipeline=STAND_IN,
        session="inline",
        strategy="bisect",
        is_probed=False,
        **options,
    )


def test_a_compilation_leaves_a_carved_model_and_what_it_would_have_without(exported, tmp_path):
    """Units are the pipeline's own fused kernels; origins are the modules of their weights."""
    plain = compiled(exported)
    with carving(tmp_path / "right") as carved:
        same = compiled(exported)
    tvm.ir.assert_structural_equal(same, plain)
    again = carved.model.for_target(LLVM)
    tvm.ir.assert_structural_equal(again, carved.model.module, map_free_vars=True)
    assert (carved.result.verdict, carved.result.culprits) == ("pass", [])
    kernels = {g.name_hint for g, f in plain.functions.items() if isinstance(f, tvm.tirx.PrimFunc)}
    units = {unit["name"]: unit for unit in carved.result.document["units"]}
    assert kernels <= units.keys()
    assert {name for name in units if name not in kernels} == {
        "vm.builtin.attention_kv_cache_attention_with_fused_qkv",
        "vm.builtin.paged_attention_kv_cache_create",
    }
    attention = units["vm.builtin.attention_kv_cache_attention_with_fused_qkv"]
    # Caches of TVM 0.26 have no function that exports their content.
    assert attention["verdict"] == ("skipped" if IS_TVM_026 else "pass"), attention["reason"]
    stays = [unit for unit in units.values() if not unit["on_device"] and unit is not attention]
    assert {unit["verdict"] for unit in stays} == {"skipped"}
    assert "layers.*.up_proj" in {unit["origin"] for unit in units.values()}
    unit = next(name for name in units if "dequantize" in name and units[name]["on_device"])
    with carving(
        tmp_path / "right", resume=True, repair=False, device_pipeline=breaks(unit, scale)
    ) as carved:
        compiled(exported)
    assert (carved.result.verdict, carved.result.culprits) == ("mismatch", [unit])


def test_the_pipeline_is_given_back_whatever_happens(exported, tmp_path):
    """Also if the build script raises; outside of the block nothing is carved."""
    original = relax.pipeline.PIPELINE_MAP[STAND_IN]
    with pytest.raises(ZeroDivisionError), carving(tmp_path / "out"):
        _ = 1 / (relax.pipeline.PIPELINE_MAP[STAND_IN] is original)
    assert relax.pipeline.PIPELINE_MAP[STAND_IN] is original
    compiled(exported)
    assert not (tmp_path / "out").exists()


def test_without_mlc_the_message_says_what_to_import(tmp_path):
    with (
        pytest.raises(UsageError, match="'mlc_llm'"),
        mlc.carving(tmp_path, prompts=[[1]]),
    ):
        pass


def test_a_pipeline_without_the_pass_is_an_error(exported, tmp_path):
    with (
        pytest.raises(LoweringError, match="'Renamed'"),
        carving(tmp_path, after="Renamed"),
    ):
        compiled(exported)


def test_weights_must_be_there_or_of_known_shape(exported, tmp_path):
    with (
        pytest.raises(UsageError, match=r"23 of 23 weights: embed_tokens\.weight, "),
        carving(tmp_path, params={}),
    ):
        compiled(exported)
    with pytest.raises(UsageError, match=r"weight w: .*vocab_size"):
        drawn([{"name": "w", "shape": ["vocab_size", 4], "dtype": "float16"}], {})


@pytest.mark.parametrize("quantization", ["q0f32", "q4f16_1"])
def test_a_tiny_llama_of_mlc_itself(quantization, tmp_path):
    """Through MLC's own compile flow; needs MLC-LLM, which is not on the package registry."""
    compile_ = pytest.importorskip("mlc_llm.interface.compile", reason="needs mlc_llm").compile
    from mlc_llm.interface.compiler_flags import ModelConfigOverride, OptimizationFlags
    from mlc_llm.model import MODELS
    from mlc_llm.quantization import QUANTIZATION

    sizes = {"context_window_size": 256, "prefill_chunk_size": 128, "max_batch_size": 1}
    config = {**LLAMA, **sizes}
    flags = "flashinfer=0;cublas_gemm=0;faster_transformer=0;cudagraph=0;cutlass=0"

    def build(module, args, pipeline):
        with args.target:
            pipeline(module)

    with mlc.carving(
        tmp_path / "carved",
        prompts=[[3, 5, 7, 11]],
        following=[13],
        dims={"vocab_size": 128},
        session="inline",
        strategy="bisect",
    ) as carved:
        compile_(
            config=config,
            quantization=QUANTIZATION[quantization],
            model_type=MODELS["llama"],
            target=LLVM,
            opt=OptimizationFlags.from_str(flags),
            build_func=build,
            system_lib_prefix="",
            output=tmp_path / "model.so",
            overrides=ModelConfigOverride(),
        )
    assert (carved.result.verdict, carved.result.culprits) == ("pass", [])
    assert all(item["reason"] for item in carved.result.document["skipped"])
