"""Models for ``bench_detection.py``: a text encoder, a decoder, a vision model, long reductions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers
from detection_reductions import reductions
from torch import nn
from tvm import relax
from zoo_models import LM, VOCABULARY, Wrapped, fill

from relax_tapml.arrays import Array
from relax_tapml.frontend.load.load_model import load_model
from relax_tapml.frontend.model import Model
from relax_tapml.frontend.torch_export import from_torch

TOKENS = 24
PIXELS = 32
TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Yes",
    "A compiler translates what people write into what machines can do, and it should not change "
    "the meaning.",
)


def minilm() -> Model:
    """Return the built-in text encoder, with real weights and texts of different length."""
    return load_model("minilm", texts=TEXTS)


def decoder() -> Model:
    """Return a Llama of two layers whose last matrix is packed into 4 bits.

    The weights are random. As in trained models, one head of each layer attends sharply, with
    logits far above 88, where the exponential of a float32 overflows; and few channels are large.
    """
    config = transformers.LlamaConfig(**LM)
    config._attn_implementation = "eager"
    llama = transformers.LlamaForCausalLM(config)
    fill(llama, matrices=0.15, vectors=0.1)
    with torch.no_grad():
        for layer in llama.model.layers:
            layer.self_attn.q_proj.weight[:16] *= 5
            layer.self_attn.k_proj.weight[:16] *= 5
            layer.post_attention_layernorm.weight[::16] *= 4
    llama.lm_head = PackedLinear(llama.lm_head.weight)
    rng = np.random.default_rng(7)
    # A text, one that repeats itself, and one that is padded in front.
    texts = [
        rng.integers(3, VOCABULARY, TOKENS),
        np.resize(rng.integers(3, VOCABULARY, 5), TOKENS),
        np.concatenate([np.zeros(7, np.int64), rng.integers(3, VOCABULARY, TOKENS - 7)]),
    ]
    samples = [
        [
            torch.from_numpy(text.astype(np.int64)[None]),
            torch.from_numpy((text > 0).astype(np.int64)[None]),
        ]
        for text in texts
    ]
    return from_torch(
        Wrapped(llama, ["input_ids", "attention_mask"], "logits", use_cache=False),
        samples[0],
        samples=samples,
        name="decoder",
        convert_map={"__rshift__.Tensor": _right_shift, "__and__.Tensor": _bitwise_and},
    )


def vision() -> Model:
    """Return a small ResNet with a head: convolutions, batch norm and pooling."""
    config = transformers.ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32],
        depths=[1, 1],
        layer_type="basic",
        num_labels=10,
    )
    torch.manual_seed(0)  # Biases begin as random numbers.
    resnet = transformers.ResNetForImageClassification(config)
    fill(resnet, matrices=0.12, vectors=0.1)
    samples = [[torch.from_numpy(_picture(seed))] for seed in range(3)]
    with torch.no_grad():
        resnet.train()
        for _ in range(20):  # Running averages that fit the pictures.
            resnet(torch.cat([sample[0] for sample in samples]))
    return from_torch(
        Wrapped(resnet, ["pixel_values"], "logits"), samples[0], samples=samples, name="vision"
    )


MODELS: dict[str, Callable[[], Model]] = {
    "minilm": minilm,
    "decoder": decoder,
    "vision": vision,
    "reductions": reductions,
}


class PackedLinear(nn.Module):
    """A linear layer whose weights are whole numbers of 4 bits, 8 in one int32.

    Each output channel has one scale.
    """

    packed: torch.Tensor
    scale: torch.Tensor
    shifts: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        scale = weight.detach().abs().amax(dim=1, keepdim=True) / 7
        whole = torch.clamp(torch.round(weight.detach() / scale) + 8, 0, 15).to(torch.int64)
        shifts = torch.arange(0, 32, 4)
        words = (whole.reshape(whole.shape[0], -1, 8) << shifts).sum(dim=-1)
        self.packed = nn.Parameter(words.to(torch.int32), requires_grad=False)
        self.scale = nn.Parameter(scale)
        self.shifts = nn.Parameter(shifts.to(torch.int32), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Unpack the weights and multiply."""
        whole = (self.packed[:, :, None] >> self.shifts) & 15
        weight = (whole.reshape(whole.shape[0], -1) - 8).to(x.dtype) * self.scale
        return torch.matmul(x, weight.transpose(0, 1))


def _right_shift(node: Any, importer: Any) -> Any:
    a, b = (importer.env[arg] for arg in node.args)
    return importer.block_builder.emit(relax.op.right_shift(a, b))


def _bitwise_and(node: Any, importer: Any) -> Any:
    a = importer.env[node.args[0]]
    mask = relax.const(node.args[1], str(a.ty.dtype))
    return importer.block_builder.emit(relax.op.bitwise_and(a, mask))


def _picture(seed: int) -> Array:
    """Return three channels of waves with a dark and a bright square, around 0."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:PIXELS, 0:PIXELS] / PIXELS
    channels = [
        np.sin(2 * math.pi * (rng.uniform(0.5, 3) * x + rng.uniform(0.5, 3) * y + rng.random()))
        for _ in range(3)
    ]
    picture = np.stack(channels)[None] + 0.05 * rng.standard_normal((1, 3, PIXELS, PIXELS))
    row, column = rng.integers(2, PIXELS // 2, 2)
    picture[..., row : row + 6, column : column + 6] = -2.1
    picture[..., column : column + 6, row : row + 6] = 2.6
    return picture.astype(np.float32)
