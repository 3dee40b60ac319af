import sys
from types import SimpleNamespace

import paged_llm
import tvm
from tvm import relax
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache
from tvm.script import tirx as T  # noqa: N812

# MLC uses names that only some releases of TVM have, when it is imported and later.
assert relax.Constant


class Decoder(paged_llm.Decoder):
    """As MLC's: the vocabulary is open, and tokens are embedded without an axis of the batch."""

    def __init__(self, linear, **options):
        super().__init__(linear, **options)
        self.embed_tokens = nn.Embedding("vocab_size", paged_llm.HIDDEN)
        self.lm_head = nn.Linear(paged_llm.HIDDEN, "vocab_size", bias=False)


class Mixture(Decoder):
    """Bound to threads of a GPU, as MLC's mixtures of experts: images, and what ``bound`` names."""

    def __init__(self, linear, bound):
        super().__init__(linear)
        self.bound = bound

    def decode(self, embeds: nn.Tensor, paged_kv_cache: PagedKVCache):
        return super().decode(copied(embeds) if "decode" in self.bound else embeds, paged_kv_cache)

    def image_embed(self, embeds: nn.Tensor):
        return copied(embeds)


def copied(x):
    @T.prim_func(private=True, s_tir=True)
    def copy(source: T.handle, target: T.handle):
        T.func_attr({"op_pattern": 8, "tirx.is_scheduled": True})
        n = T.int64()
        given = T.match_buffer(source, (1, n, paged_llm.HIDDEN), "float32")
        taken = T.match_buffer(target, (1, n, paged_llm.HIDDEN), "float32")
        for i in T.thread_binding(n, thread="blockIdx.x"):
            for j in T.thread_binding(paged_llm.HIDDEN, thread="threadIdx.x"):
                with T.sblock("copy"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    taken[0, vi, vj] = given[0, vi, vj]

    out = nn.Tensor.placeholder(x.shape, x.dtype)
    return nn.op.tensor_ir_op(copy, "bound_copy", [x], out)


def spec(model_type):
    out = paged_llm.spec("packed")
    out["embed"]["ids"] = nn.spec.Tensor(["n"], "int32")
    del out["create_cache"]
    if model_type == "encoder":
        del out["decode"]
    if model_type in BOUND:
        out["image_embed"] = {
            "embeds": nn.spec.Tensor([1, "n", paged_llm.HIDDEN], "float32"),
            "$": {"param_mode": "packed", "effect_mode": "none"},
        }
    return out


BOUND = {"mixture": ["decode"], "pictures": []}
"""Functions of the decoder that call a kernel bound to threads, by type of model."""


@tvm.transform.module_pass(opt_level=0, name="DispatchKVCacheCreation")
class DispatchKVCacheCreation:
    """Adds the creator of a cache for a target, to the module that it is given."""

    def __init__(self, target, metadata):
        self.target = target
        self.metadata = metadata

    def transform_module(self, mod, _ctx):
        if self.target.kind.name == "nvptx":
            raise ValueError("no cache for nvptx:\nanother line of the reason")
        if self.metadata["model_type"] == "encoder":
            return mod
        self.metadata["kv_cache"] = self.target.kind.name
        created = {"create_tir_paged_kv_cache": paged_llm.spec()["create_cache"]}
        decoder = Decoder(nn.Linear, target=self.target)
        decoder.create_tir_paged_kv_cache = decoder.create_cache
        cache, _ = decoder.export_tvm(created)
        for gvar, function in cache.functions.items():
            mod[gvar] = function
        return mod


@tvm.transform.module_pass(opt_level=0, name="CleanUpTIRAttrs")
class CleanUp:
    def transform_module(self, mod, _ctx):
        assert all(param.name_hint for param in mod["embed"].params)
        return mod


@tvm.transform.module_pass(opt_level=0, name="FuseAddRMSNorm")
class FuseAddRMSNorm:
    """For GPUs only; it would make other kernels."""

    def transform_module(self, mod, _ctx):
        return mod.with_attr("fused", True)


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
def pipeline(target, metadata, flashinfer=False):
    assert not flashinfer or target.kind.name == "cuda"
    transform = relax.transform
    return tvm.transform.Sequential(
        [
            DispatchKVCacheCreation(target, metadata),
            *([FuseAddRMSNorm()] if target.kind.name != "llvm" else []),
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
    name, linear = model_type.name, quantization.linear
    bound = BOUND.get(name)
    decoder = Decoder(linear) if bound is None else Mixture(linear, bound)
    module, params = decoder.export_tvm(spec(name))
    metadata = {
        "model_type": name,
        "quantization": quantization.name,
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
    made = relax.get_pipeline(
        "mlc_llm", target=target, metadata=metadata, flashinfer=target.kind.name == "cuda"
    )
    build_func(module, args, pipeline=made)
