"""Configs of tiny models for MLC-LLM: one for each of its names of architectures."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

Config = Mapping[str, Any]

_HIDDEN = 128
_INNER = 256
_HEADS = 4
_HEAD_DIM = 32  # With fewer, decoding needs more threads than CUDA has along an axis.
_LAYERS = 2
_VOCABULARY = 128
_POSITIONS = 256

_SIZES: Config = {
    "max_position_embeddings": _POSITIONS,
    "prefill_chunk_size": 64,
    "vocab_size": _VOCABULARY,
}
_TRANSFORMER: Config = {
    **_SIZES,
    "hidden_size": _HIDDEN,
    "intermediate_size": _INNER,
    "num_attention_heads": _HEADS,
    "num_hidden_layers": _LAYERS,
}
_LLAMA: Config = {
    **_TRANSFORMER,
    "num_key_value_heads": 2,
    "head_dim": _HEAD_DIM,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000,
    "hidden_act": "silu",
    "attention_bias": False,
}
_TOKENS: Config = {"use_cache": True, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_NORM: Config = {"layer_norm_eps": 1e-5}
_EXPERTS: Config = {"num_experts_per_tok": 2, "norm_topk_prob": True}
_GEMMA: Config = {**_LLAMA, "hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"}
_GEMMA3: Config = {
    **_GEMMA,
    "num_hidden_layers": 6,  # Of which the last has full attention.
    "sliding_window": 64,
    "query_pre_attn_scalar": _HEAD_DIM,
}
_GPT2: Config = {
    **_SIZES,
    "n_embd": _HIDDEN,
    "n_layer": _LAYERS,
    "n_head": _HEADS,
    "n_inner": _INNER,
    "n_positions": _POSITIONS,
    "layer_norm_epsilon": 1e-5,
    "activation_function": "gelu_new",
}
_BERT: Config = {**_TRANSFORMER, **_NORM, "hidden_act": "gelu", "type_vocab_size": 2}
_DEEPSEEK: Config = {
    **_LLAMA,
    **_EXPERTS,
    **_TOKENS,
    "moe_intermediate_size": 64,
    "n_shared_experts": 1,
    "n_routed_experts": 4,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
}
_LLAMA3_ROPE: Config = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN: Config = {
    "rope_type": "yarn",
    "factor": 4.0,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 64,
}
_MLA: Config = {
    **_DEEPSEEK,
    "num_key_value_heads": _HEADS,
    "routed_scaling_factor": 1.0,
    "scoring_func": "softmax",
    "topk_method": "greedy",
    "n_group": 1,
    "topk_group": 1,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "q_lora_rank": None,
    "rope_scaling": _YARN,
}
_LLAMA4: Config = {
    **_LLAMA,
    "use_qk_norm": True,
    "interleave_moe_layer_step": 2,
    "num_experts_per_tok": 1,
    "num_local_experts": 4,
}
_QWEN2_MOE: Config = {
    **_LLAMA,
    **_EXPERTS,
    "num_experts": 4,
    "moe_intermediate_size": 64,
    "decoder_sparse_step": 1,
}
_QWEN3_5: Config = {
    **_LLAMA,
    "num_hidden_layers": 4,
    "full_attention_interval": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
}
_RWKV: Config = {
    **_SIZES,
    "hidden_size": _HIDDEN,
    "intermediate_size": _INNER,
    "num_hidden_layers": _LAYERS,
    "head_size": _HEAD_DIM,
}
_VISION: Config = {
    "hidden_size": 32,
    "image_size": 28,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "patch_size": 14,
    "projection_dim": 32,
    "vocab_size": _VOCABULARY,
}

CONFIGS: Mapping[str, Config] = MappingProxyType(
    {
        "llama": _LLAMA,
        "llama4": {**_SIZES, "text_config": {**_LLAMA4, "rope_scaling": _LLAMA3_ROPE}},
        "mistral": {**_LLAMA, "sliding_window": 32},
        "ministral3": {**_LLAMA, "rope_parameters": {**_YARN, "rope_theta": 10000.0}},
        "gemma": _GEMMA,
        "gemma2": {**_GEMMA, "query_pre_attn_scalar": _HEAD_DIM, "sliding_window": 64},
        "gemma3": {"text_config": _GEMMA3, "vocab_size": _VOCABULARY},
        "gemma3_text": _GEMMA3,
        "gpt2": _GPT2,
        "mixtral": {**_LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2},
        "gpt_neox": {**_TRANSFORMER, **_NORM, "use_parallel_residual": True, "rotary_pct": 0.25},
        "gpt_bigcode": _GPT2,
        "phi-msft": {**_GPT2, "rotary_dim": 8},
        "phi": {**_TRANSFORMER, **_NORM},
        "phi3": _LLAMA,
        "phi3_v": {
            **_LLAMA,
            "num_key_value_heads": _HEADS,
            # MLC knows one vision tower, that of CLIP in its real size.
            "img_processor": {"image_dim_out": 1024},
        },
        "qwen": {
            **_TRANSFORMER,
            "layer_norm_epsilon": 1e-6,
            "scale_attn_weights": True,
            "kv_channels": _HEAD_DIM,
            "rotary_emb_base": 10000,
        },
        "qwen2": _LLAMA,
        "qwen2_moe": {**_QWEN2_MOE, "shared_expert_intermediate_size": 64},
        "qwen3": _LLAMA,
        "qwen3-embedding": _LLAMA,
        "qwen3_5": {"text_config": _QWEN3_5, **_SIZES},
        "qwen3_5_text": _QWEN3_5,
        "qwen3_moe": _QWEN2_MOE,
        "deepseek_v2": _MLA,
        "deepseek_v3": {**_MLA, "scoring_func": "sigmoid", "topk_method": "noaux_tc"},
        "stablelm": {**_LLAMA, **_NORM, "partial_rotary_factor": 0.25},
        "baichuan": {
            **_LLAMA,
            **_TOKENS,
            "initializer_range": 0.02,
            "tie_word_embeddings": False,
        },
        "internlm": {**_LLAMA, **_TOKENS, "bias": True},
        "internlm2": {**_LLAMA, **_TOKENS, "bias": False},
        "rwkv5": {**_RWKV, "model_version": "5_2"},
        "orion": _LLAMA,
        "llava": {
            "image_token_index": 100,
            "text_config": _LLAMA,
            "vision_config": _VISION,
            "vocab_size": _VOCABULARY,
        },
        "rwkv6": {**_RWKV, "model_version": "6_0"},
        "chatglm": {
            **_SIZES,
            "hidden_size": _HIDDEN,
            "num_layers": _LAYERS,
            "kv_channels": _HEAD_DIM,
            "num_attention_heads": _HEADS,
            "ffn_hidden_size": _INNER,
            "layernorm_epsilon": 1e-5,
            "post_layer_norm": True,
            "rmsnorm": True,
            "add_bias_linear": False,
            "add_qkv_bias": True,
            "apply_query_key_layer_scaling": True,
            "multi_query_attention": True,
            "multi_query_group_num": 2,
        },
        "eagle": {**_LLAMA, "bias": True},
        "bert": _BERT,
        "medusa": {
            **_SIZES,
            "hidden_size": _HIDDEN,
            "medusa_num_heads": 2,
            "medusa_num_layers": 1,
        },
        "starcoder2": {
            **_LLAMA,
            **_TOKENS,
            "hidden_act": "gelu_pytorch_tanh",
            "norm_epsilon": 1e-5,
            "use_bias": True,
        },
        "cohere": {**_LLAMA, **_NORM},
        "minicpm": {
            **_LLAMA,
            **_TOKENS,
            "scale_emb": 12,
            "scale_depth": 1.4,
            "dim_model_base": 32,
        },
        "deepseek": {**_DEEPSEEK, "num_key_value_heads": _HEADS},
        "gptj": {**_GPT2, "rotary_dim": 8},
        "olmo": _LLAMA,
        "olmo2": _LLAMA,
        "nemotron": {**_TRANSFORMER, "num_key_value_heads": 2, "norm_eps": 1e-5},
        "bert-bge": _BERT,
    }
)
"""By MLC's name of the architecture; ``model_type`` of a ``config.json`` is that name."""
