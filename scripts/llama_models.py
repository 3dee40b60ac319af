"""Llamas of random weights, of any dtype and depth: models for benchmarks that nobody downloads.

Each function is a model of the main command, with this folder on ``PYTHONPATH``:

``python -m relax_tapml.build llama_models:float16 --target llvm --out DIR``
"""

from __future__ import annotations

import torch
import transformers
from torch import nn
from zoo_models import LM, Wrapped

from relax_tapml.frontend.model import Meaning, Model
from relax_tapml.frontend.torch_export import from_torch

TOKENS = 32
VOCABULARY = 1000
SAMPLES = 2


def float32() -> Model:
    """Return four layers in float32."""
    return llama("llama-float32", layers=4, dtype=torch.float32)


def float16() -> Model:
    """Return the same four layers, in float16."""
    return llama("llama-float16", layers=4, dtype=torch.float16)


def layers8() -> Model:
    """Return eight layers in float32."""
    return llama("llama-layers8", layers=8, dtype=torch.float32)


def llama(name: str, *, layers: int, dtype: torch.dtype) -> Model:
    """Return a Llama for texts of 32 tokens, whose output is the logits of all tokens.

    Weights are random, the same every time, and of a size that leaves the activations of every
    layer around 1, so nothing overflows in float16 and no layer is without effect.
    """
    config = transformers.LlamaConfig(
        **LM
        | {
            "vocab_size": VOCABULARY,
            "hidden_size": 256,
            "intermediate_size": 688,
            "num_hidden_layers": layers,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "max_position_embeddings": 2 * TOKENS,
        }
    )
    config._attn_implementation = "eager"
    model = transformers.LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    _fill(model, generator)
    samples = [
        [torch.randint(3, VOCABULARY, (1, TOKENS), generator=generator)] for _ in range(SAMPLES)
    ]
    return from_torch(
        Wrapped(model.to(dtype), ["input_ids"], "logits", use_cache=False),
        samples[0],
        samples=samples,
        name=name,
        meaning=Meaning.TOKENS,
    )


def _fill(model: nn.Module, generator: torch.Generator) -> None:
    """Set matrices to noise that keeps the size of what they multiply, and vectors around 1."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "embed_tokens" in name:
                parameter.copy_(noise)
            elif parameter.dim() == 2:
                parameter.copy_(noise / parameter.shape[1] ** 0.5)
            else:
                parameter.copy_(1 + noise * 0.1)
