"""A decoder with a paged KV cache, as MLC builds them: prefill of any length, then decode."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax, te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache, RopeMode, TIRPagedKVCache

from relax_tapml.frontend.model import Meaning, Model, Sample
from relax_tapml.frontend.nn_module import from_nn_module
from relax_tapml.frontend.paged_drive import PagedDrive

VOCABULARY = 96
HIDDEN = 64  # A CUDA kernel of decoding binds 1024 / HEAD_DIM threads to an axis that has 64.
HEADS = 4
KV_HEADS = 2
HEAD_DIM = HIDDEN // HEADS
LAYERS = 2


GROUP = 8  # Values that share a scale; as many as there are in a uint32.


class Int4Linear(nn.Module):
    """A matrix of 4-bit numbers, eight in a uint32, with a scale for each group of them."""

    def __init__(self, inputs: int, outputs: int, bias: bool = False) -> None:
        self.q_weight = nn.Parameter((outputs, inputs // GROUP), "uint32")
        self.q_scale = nn.Parameter((outputs, inputs // GROUP), "float32")
        self.shape = (outputs, inputs)

    def to(self, dtype: str | None = None) -> None:
        """Change the dtype of the scales; the numbers stay packed."""
        self.q_scale.to(dtype)

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        """Unpack the matrix and multiply."""

        def dequantize(packed: te.Tensor, scale: te.Tensor) -> te.Tensor:
            def value(row: tirx.Expr, column: tirx.Expr) -> tirx.Expr:
                shift = tirx.Cast("uint32", column % GROUP * 4)
                number = (packed[row, column // GROUP] >> shift) & tirx.const(15, "uint32")
                return (tirx.Cast(scale.dtype, number) - 7) * scale[row, column // GROUP]

            return te.compute(self.shape, value, name="dequantize")

        weight = op.tensor_expr_op(dequantize, "dequantize", [self.q_weight, self.q_scale])
        return op.matmul(x, op.permute_dims(weight))


class Attention(nn.Module):
    """Grouped-query attention by way of the cache."""

    def __init__(self, linear: type[nn.Module]) -> None:
        self.qkv_proj = linear(HIDDEN, (HEADS + 2 * KV_HEADS) * HEAD_DIM, bias=False)
        self.o_proj = linear(HEADS * HEAD_DIM, HIDDEN, bias=False)

    def forward(self, x: nn.Tensor, cache: PagedKVCache, layer: int) -> nn.Tensor:
        batch, tokens, _ = x.shape
        qkv = op.reshape(self.qkv_proj(x), (batch, tokens, HEADS + 2 * KV_HEADS, HEAD_DIM))
        out = cache.attention_with_fused_qkv(layer, qkv, HEADS, sm_scale=HEAD_DIM**-0.5)
        return self.o_proj(op.reshape(out, (batch, tokens, HEADS * HEAD_DIM)))


class Layer(nn.Module):
    """Attention and a feed-forward part."""

    def __init__(self, linear: type[nn.Module]) -> None:
        self.input_layernorm = nn.RMSNorm(HIDDEN, -1, 1e-5, bias=False)
        self.self_attn = Attention(linear)
        self.post_attention_layernorm = nn.RMSNorm(HIDDEN, -1, 1e-5, bias=False)
        self.up_proj = linear(HIDDEN, 2 * HIDDEN, bias=False)
        self.down_proj = linear(2 * HIDDEN, HIDDEN, bias=False)

    def forward(self, x: nn.Tensor, cache: PagedKVCache, layer: int) -> nn.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cache, layer)
        return x + self.down_proj(op.silu(self.up_proj(self.post_attention_layernorm(x))))


class Decoder(nn.Module):
    """The functions that MLC gives a model; its cache has the kernels for ``target``."""

    def __init__(
        self,
        linear: type[nn.Module],
        *,
        dtype: str = "float32",
        target: tvm.target.Target | None = None,
        kinds: Sequence[str] = ("mha",) * LAYERS,
        layer_window: int | None = None,
        rope: RopeMode = RopeMode.NORMAL,
    ) -> None:
        self.target = target or tvm.target.Target("llvm")
        self.kinds = list(kinds)
        self.rope = rope
        # TVM 0.26 has no such argument.
        self.layer_window = (
            {} if layer_window is None else {"layer_sliding_window_size": layer_window}
        )
        self.dtype = "float32"
        self.embed_tokens = nn.Embedding(VOCABULARY, HIDDEN)
        self.layers = nn.ModuleList([Layer(linear) for _ in range(LAYERS)])
        self.norm = nn.RMSNorm(HIDDEN, -1, 1e-5, bias=False)
        self.lm_head = nn.Linear(HIDDEN, VOCABULARY, bias=False)
        self.to(dtype)

    def embed(self, ids: nn.Tensor):
        return self.embed_tokens(ids)

    def _hidden(self, x, cache):
        for index, layer in enumerate(self.layers):
            x = layer(x, cache, index)
        return self.norm(x)

    def get_logits(self, hidden_states: nn.Tensor):
        logits = self.lm_head(hidden_states)
        return logits if logits.dtype == "float32" else logits.astype("float32")

    def _forward(self, x, cache):
        return self.get_logits(self._hidden(x, cache)), cache

    def prefill(self, embeds: nn.Tensor, paged_kv_cache: PagedKVCache):
        return self._forward(embeds, paged_kv_cache)

    def decode(self, embeds: nn.Tensor, paged_kv_cache: PagedKVCache):
        return self._forward(embeds, paged_kv_cache)

    def batch_prefill(
        self, embeds: nn.Tensor, logit_positions: nn.Tensor, paged_kv_cache: PagedKVCache
    ):
        hidden = op.take(self._hidden(embeds, paged_kv_cache), logit_positions, axis=1)
        return self.get_logits(hidden), paged_kv_cache

    batch_decode = batch_verify = prefill

    def prefill_to_last_hidden_states(self, embeds: nn.Tensor, paged_kv_cache: PagedKVCache):
        return self._hidden(embeds, paged_kv_cache), paged_kv_cache

    decode_to_last_hidden_states = prefill_to_last_hidden_states
    batch_prefill_to_last_hidden_states = prefill_to_last_hidden_states
    batch_decode_to_last_hidden_states = prefill_to_last_hidden_states
    batch_verify_to_last_hidden_states = prefill_to_last_hidden_states

    def batch_select_last_hidden_states(self, hidden_states: nn.Tensor, logit_positions: nn.Tensor):
        return op.take(hidden_states, logit_positions, axis=0)

    def softmax_with_temperature(self, logits: nn.Tensor, temperature: nn.Tensor):
        return op.softmax(logits / op.reshape(temperature, (temperature.shape[0], 1, 1)), -1)

    def create_cache(
        self,
        max_batch_size: tirx.Var,
        max_total_seq_len: tirx.Var,
        prefill_chunk_size: tirx.Var,
        page_size: tirx.Var,
        support_sliding_window: tirx.Var,
    ) -> PagedKVCache:
        return TIRPagedKVCache(
            attn_kind=self.kinds,
            max_batch_size=max_batch_size,
            max_total_seq_len=max_total_seq_len,
            prefill_chunk_size=prefill_chunk_size,
            page_size=page_size,
            support_sliding_window=support_sliding_window,
            layer_partition=relax.ShapeExpr([0, LAYERS]),
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            qk_head_dim=HEAD_DIM,
            v_head_dim=HEAD_DIM,
            mla_original_qk_head_dim=0,
            mla_original_v_head_dim=0,
            rope_mode=self.rope,
            rope_scale=1,
            rope_theta=10000,
            rope_scaling={},
            rope_ext_factors=relax.prim_value(0),
            rotary_dim=HEAD_DIM,
            enable_disaggregation=False,
            dtype=self.dtype,
            target=self.target,
            **self.layer_window,
        )


def spec(
    params: str = "plain", dtype: str = "float32", *, is_engine: bool = False
) -> dict[str, Any]:
    """Return what the functions take; weights as ``params`` says, ``plain`` or ``packed``.

    With ``is_engine``, those of all functions that MLC's engine calls.
    """
    cache = nn.spec.Object(object_type=PagedKVCache)
    mode = {"param_mode": params, "effect_mode": "none"}
    none = {"param_mode": "none", "effect_mode": "none"}
    row, token, rows = ([1, "n", HIDDEN], [1, 1, HIDDEN], ["b", 1, HIDDEN])
    positions = nn.spec.Tensor(["b"], "int32")

    def forward(shape: list[Any], **more: Any) -> dict[str, Any]:
        embeds = nn.spec.Tensor(shape, dtype)
        return {"embeds": embeds, **more, "paged_kv_cache": cache, "$": mode}

    sizes = ("max_batch_size", "max_total_seq_len", "prefill_chunk_size", "page_size")
    found = {
        "embed": {"ids": nn.spec.Tensor([1, "n"], "int32"), "$": mode},
        "prefill": forward(row),
        "decode": forward(token),
        "create_cache": {**dict.fromkeys((*sizes, "support_sliding_window"), int), "$": none},
    }
    if not is_engine:
        return found
    hidden = nn.spec.Tensor(["n", HIDDEN], dtype)
    softmax = {
        "logits": nn.spec.Tensor(["b", 1, VOCABULARY], "float32"),
        "temperature": nn.spec.Tensor(["b"], "float32"),
    }
    last = "to_last_hidden_states"
    return {
        **found,
        "batch_prefill": forward(row, logit_positions=positions),
        "batch_decode": forward(rows),
        "batch_verify": forward(row),
        f"prefill_{last}": forward(row),
        f"decode_{last}": forward(token),
        f"batch_prefill_{last}": forward(row),
        f"batch_decode_{last}": forward(rows),
        f"batch_verify_{last}": forward(row),
        "batch_select_last_hidden_states": {
            "hidden_states": hidden,
            "logit_positions": positions,
            "$": none,
        },
        "get_logits": {"hidden_states": hidden, "$": mode},
        "softmax_with_temperature": {**softmax, "$": none},
    }


def exported(*, kinds: Sequence[str]) -> tvm.IRModule:
    """Return the module of a decoder with these kinds of attention in its layers."""
    return Decoder(nn.Linear, kinds=kinds).export_tvm(spec())[0]


def model(
    *,
    prompts: tuple[int, ...] = (9, 17),
    steps: int = 5,
    is_quantized: bool = False,
    dtype: str = "float32",
    is_engine: bool = False,
    left_out: Iterable[str] = (),
    **cache: Any,
) -> Model:
    """Return the decoder with drawn weights; each prompt is prefilled in parts.

    With ``is_quantized`` all matrices but the embedding and the last are of 4 bits. Weights,
    activations and the cache are ``dtype``, logits float32. With ``is_engine`` it has all functions
    that MLC's engine calls but those ``left_out``, and runs all scenarios that they allow.
    ``cache`` is how ``Decoder`` makes its caches.
    """

    def made_for(target: tvm.target.Target) -> Model:
        decoder = Decoder(linear, dtype=dtype, target=target, **cache)
        given = spec(dtype=dtype, is_engine=is_engine)
        for name in left_out:
            del given[name]
        return from_nn_module(decoder, given, params=params, name="paged llm", entry="prefill")

    linear = Int4Linear if is_quantized else nn.Linear
    llvm = tvm.target.Target("llvm")
    rng = np.random.default_rng(0)
    params = {}
    for name, parameter in Decoder(linear, dtype=dtype).named_parameters():
        shape = tuple(int(extent) for extent in parameter.shape)
        if parameter.dtype == "uint32":
            params[name] = rng.integers(0, 1 << 32, shape, "uint32")
            continue
        noise = 0.2 * rng.standard_normal(shape)
        if "norm" in name:
            noise += 1
        elif "q_scale" in name:
            noise = 0.05 + 0.1 * abs(noise)
        params[name] = noise.astype(parameter.dtype)
    samples = tuple(
        Sample(
            name=f"{count} tokens",
            arrays=tuple(rng.integers(0, VOCABULARY, (1, n), "int32") for n in (count, steps)),
        )
        for count in prompts
    )
    made = made_for(llvm)
    drive = PagedDrive(create="create_cache", chunk=min(prompts) - 1)
    return dataclasses.replace(
        made,
        samples=samples,
        drive=drive.with_all(made.module) if is_engine else drive,
        meaning=Meaning.TOKENS,
        for_target=lambda target: made_for(target).module,
    )
