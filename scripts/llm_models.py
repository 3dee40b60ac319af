"""Decoders with the proportions of real LLMs and drawn weights, which nobody downloads.

Each is a model of the main command, with this folder on ``PYTHONPATH``. Its name has its
architecture, dtype, number of layers (of the real model by default) and of tokens (64)::

    python -m relax_tapml.build llm_models:llama_1b_float16 --target llvm --out DIR
    python -m relax_tapml.build llm_models:llama_8b_float16_layers4_tokens512 --source cuda ...
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import transformers
from torch import nn
from transformers.initialization import no_init_weights
from zoo_models import Wrapped

from relax_tapml.frontend.model import Meaning, Model
from relax_tapml.frontend.torch_export import from_torch

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_POOL = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Proportions:
    """The sizes of a Llama.

    Parameters
    ----------
    hidden, intermediate
        Widths of the residual stream and of the feed-forward network.
    heads, kv_heads
        Of attention; each head is ``hidden / heads`` wide.
    vocabulary
        Rows of the embedding, and of the output's projection.
    layers
        Of the real model.
    is_tied
        Whether embedding and output share their weight.
    """

    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    layers: int
    is_tied: bool = False


LLMS = {
    "llama_1b": Proportions(
        hidden=2048,
        intermediate=8192,
        heads=32,
        kv_heads=8,
        vocabulary=128_256,
        layers=16,
        is_tied=True,
    ),
    "llama_8b": Proportions(
        hidden=4096, intermediate=14336, heads=32, kv_heads=8, vocabulary=128_256, layers=32
    ),
    "llama_small": Proportions(
        hidden=1024, intermediate=2816, heads=16, kv_heads=16, vocabulary=32_000, layers=8
    ),
    "llama_tiny": Proportions(
        hidden=64, intermediate=176, heads=4, kv_heads=2, vocabulary=512, layers=2, is_tied=True
    ),
}
"""Llama-3.2-1B, Llama-3.1-8B, and two that take little time and next to none."""

_NAME = re.compile(
    rf"({'|'.join(LLMS)})_({'|'.join(_DTYPES)})(?:_layers(\d+))?(?:_tokens(\d+))?(?:_samples(\d+))?"
)


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """A decoder of drawn weights, as PyTorch runs it, with its samples: token ids."""

    name: str
    module: nn.Module
    samples: list[list[torch.Tensor]]


def __getattr__(name: str) -> Callable[[], Model]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return lambda: model_of(decoder(name))


def model_of(built: Decoder) -> Model:
    """Import a decoder; its output is the logits of all tokens."""
    return from_torch(
        built.module,
        built.samples[0],
        samples=built.samples,
        name=built.name.replace("_", "-"),
        meaning=Meaning.TOKENS,
    )


def decoder(name: str) -> Decoder:
    """Make the decoder of a name; see the module's documentation."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{name!r} is no model of this module; expected {_NAME.pattern}, such as "
            "llama_1b_float16_layers2_tokens64"
        )
    llm, dtype, layers, tokens, samples = match.groups()
    proportions = LLMS[llm]
    if layers is not None:
        proportions = replace(proportions, layers=int(layers))
    length = int(tokens or 64)
    module = _decoder(proportions, _DTYPES[dtype], length)
    generator = torch.Generator().manual_seed(1)
    ids = [
        [torch.randint(3, proportions.vocabulary, (1, length), generator=generator)]
        for _ in range(int(samples or 1))
    ]
    return Decoder(name=name, module=module, samples=ids)


def _decoder(llm: Proportions, dtype: torch.dtype, tokens: int) -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=llm.vocabulary,
        hidden_size=llm.hidden,
        intermediate_size=llm.intermediate,
        num_hidden_layers=llm.layers,
        num_attention_heads=llm.heads,
        num_key_value_heads=llm.kv_heads,
        max_position_embeddings=max(2 * tokens, 128),
        tie_word_embeddings=llm.is_tied,
    )
    config._attn_implementation = "eager"
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:  # Nothing is ever held in a wider dtype.
        with no_init_weights():
            model = transformers.LlamaForCausalLM(config).eval()
        model.tie_weights()
    finally:
        torch.set_default_dtype(before)
    _fill(model)
    return Wrapped(model, ["input_ids"], "logits", use_cache=False)


def _fill(model: nn.Module) -> None:
    """Set matrices to noise that keeps the size of what they multiply, and vectors around 1.

    The noise is one pool of values, read from another place for each weight: drawing billions of
    values would take minutes.
    """
    generator = torch.Generator().manual_seed(0)
    pool = torch.randn(_POOL, generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():
            start = int(torch.randint(_POOL, (1,), generator=generator))
            if parameter.dim() == 1:
                noise = pool.roll(-start)[: parameter.numel()]
                parameter.copy_(1 + 0.1 * noise)
                continue
            scale = parameter.shape[1] ** -0.5
            values = (pool * scale).to(parameter.dtype).roll(-start)
            flat = parameter.view(-1)
            for at in range(0, flat.numel(), _POOL):
                part = flat[at : at + _POOL]
                part.copy_(values[: part.numel()])
