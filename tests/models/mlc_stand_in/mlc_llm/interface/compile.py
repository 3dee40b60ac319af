import sys
from types import SimpleNamespace

import paged_llm
import tvm
from tvm import relax
from tvm.relax.frontend import nn

from mlc_llm.quantization import QUANTIZATION


class Decoder(paged_llm.Decoder):
    """As MLC's: the vocabulary is open, and tokens are embedded without an axis of the batch."""

    def __init__(self, linear):
        super().__init__(linear)
        self.embed_tokens = nn.Embedding("vocab_size", paged_llm.HIDDEN)
        self.lm_head = nn.Linear(paged_llm.HIDDEN, "vocab_size", bias=False)

    create_tir_paged_kv_cache = paged_llm.Decoder.create_cache


def spec(model_type):
    out = paged_llm.spec("packed")
    out["embed"]["ids"] = nn.spec.Tensor(["n"], "int32")
    out["create_tir_paged_kv_cache"] = out.pop("create_cache")
    if model_type == "encoder":
        del out["decode"], out["create_tir_paged_kv_cache"]
    return out


@tvm.transform.module_pass(opt_level=0, name="CleanUpTIRAttrs")
class CleanUp:
    def transform_module(self, mod, _ctx):
        return mod


@tvm.transform.module_pass(opt_level=0, name="Late")
class Late:
    """A phase that must not be reached."""

    def transform_module(self, mod, _ctx):
        raise AssertionError("MLC was not stopped")


@tvm.transform.module_pass(opt_level=0, name="Outdated")
class Outdated:
    def transform_module(self, mod, _ctx):
        return tvm.relax.name_of_another_release(mod)


@relax.register_pipeline("mlc_llm")
def pipeline(metadata):
    transform = relax.transform
    return tvm.transform.Sequential(
        [
            *([Outdated()] if metadata["model_type"] == "outdated" else []),
            *(relax.backend.DispatchSampling(), relax.backend.DispatchSortScan()),
            *(transform.LegalizeOps(), transform.AnnotateTIROpPattern(), transform.FoldConstant()),
            *(transform.FuseOps(), transform.FuseTIR(), transform.DeadCodeElimination()),
            *(CleanUp(), Late()),
        ]
    )


def compile(  # noqa: A001
    config,
    quantization,
    model_type,
    target,
    opt,
    build_func,
    system_lib_prefix,
    output,
    overrides,
    debug_dump=None,
):
    sys.stdout.write(f"Compiling with arguments: {output}\n")
    config = {**config.pop("model_config", {}), **config}
    args = SimpleNamespace(config=SimpleNamespace(vocab_size=config["vocab_size"]), target=target)
    module, params = Decoder(quantization).export_tvm(spec(model_type))
    names = {linear: name for name, linear in QUANTIZATION.items()}
    metadata = {
        "model_type": model_type,
        "quantization": names[quantization],
        "context_window_size": config.get("context_window_size", 64),
        "prefill_chunk_size": 16,
        "params": [
            {
                "name": name,
                "shape": [d if isinstance(d, int) else d.name for d in param.shape],
                "dtype": str(param.dtype),
            }
            for name, param in params
        ],
    }
    build_func(module, args, pipeline=relax.get_pipeline("mlc_llm", metadata=metadata))
