"""Configs of tiny models for MLC-LLM itself."""

LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "vocab_size": 128,
    "max_position_embeddings": 256,
}
QWEN3 = {**LLAMA, "hidden_act": "silu", "attention_bias": False, "rope_theta": 10000}
CONFIGS = {"llama": LLAMA, "qwen3": QWEN3}
