"""Tiny models of random weights, one for each architecture of ``transformers``; nothing is fetched.

Each is as small as its configuration allows, with every part of the architecture: two layers, four
heads, few of everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
import transformers
from torch import nn

VOCABULARY = 256
HIDDEN = 64
WIDE = 128
LAYERS = 2
HEADS = 4
BATCH = 2
TOKENS = 16
POSITIONS = 128
STEPS = 100
"""Samples of sound for each token."""

Inputs = tuple[torch.Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Built:
    """A model and how to feed it.

    Parameters
    ----------
    module
        Takes tensors and returns one.
    inputs
        Makes them from a seed, a batch size and a number of tokens.
    dims
        For each input, its symbolic dimensions by axis: ``batch``, ``tokens``, ``half`` (tokens of
        a decoder) or ``sound`` (a multiple of ``STEPS``).
    """

    module: nn.Module
    inputs: Callable[[int, int, int], Inputs]
    dims: Sequence[dict[int, str]]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One row of the zoo."""

    name: str
    family: str
    build: Callable[[], Built]
    is_symbolic: bool = True
    """Whether ``torch.export`` keeps its dimensions symbolic."""


class Wrapped(nn.Module):
    """Takes positional arguments and returns one output."""

    def __init__(self, model: nn.Module, names: Sequence[str], output: str, **fixed: Any) -> None:
        super().__init__()
        self.model = model
        self.names = names
        self.output = output
        self.fixed = fixed

    def forward(self, *args: torch.Tensor) -> Any:
        given = dict(zip(self.names, args, strict=True))
        return getattr(self.model(**given, **self.fixed), self.output)


def _model(kind: str, config: Any, *, is_eager: bool = True) -> nn.Module:
    """Return a model of drawn weights, those of norms and biases around what they were."""
    if is_eager:
        config._attn_implementation = "eager"
    torch.manual_seed(0)
    cls = getattr(transformers, kind)
    model = cls._from_config(config) if hasattr(cls, "_from_config") else cls(config)
    for part in model.modules():
        if hasattr(part, "config"):
            # The others loop over experts in Python, or call kernels of their own.
            part.config._experts_implementation = "batched_mm"
    fill(model, matrices=0.08, vectors=0.05)
    return model.eval()


def fill(model: nn.Module, *, matrices: float, vectors: float) -> None:
    """Draw all parameters: matrices around 0, vectors around what they are."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() >= 2:
                parameter.copy_(noise * matrices)
            else:
                parameter.add_(noise * vectors)


def _tokens(seed: int, batch: int, tokens: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCABULARY, (batch, tokens), generator=generator)


def _noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _mask(batch: int, tokens: int) -> torch.Tensor:
    mask = torch.ones(batch, tokens, dtype=torch.long)
    mask[0, tokens - 3 :] = 0
    return mask


# What a parameter of that name takes: made from a seed, a batch size, a number of tokens and the
# extent of an image, and its symbolic dimensions.
_INPUTS: dict[str, tuple[Callable[[int, int, int, int], torch.Tensor], dict[int, str]]] = {
    "input_ids": (lambda seed, n, tokens, _: _tokens(seed, n, tokens), {0: "batch", 1: "tokens"}),
    "attention_mask": (lambda _, n, tokens, __: _mask(n, tokens), {0: "batch", 1: "tokens"}),
    "decoder_input_ids": (
        lambda seed, n, tokens, _: _tokens(seed + 100, n, tokens // 2),
        {0: "batch", 1: "half"},
    ),
    "pixel_values": (lambda seed, n, _, pixels: _noise(seed, n, 3, pixels, pixels), {0: "batch"}),
    "input_values": (
        lambda seed, n, tokens, _: _noise(seed, n, tokens * STEPS),
        {0: "batch", 1: "sound"},
    ),
    "input_features": (lambda seed, n, _, __: _noise(seed, n, 16, 64), {0: "batch"}),
}


def _built(model: nn.Module, names: str, output: str, *, pixels: int = 32, **fixed: Any) -> Built:
    """Return a model that takes the parameters of some names, and is called with ``fixed`` too."""
    makers = [_INPUTS[name] for name in names.split()]
    return Built(
        module=Wrapped(model, names.split(), output, **fixed),
        inputs=lambda seed, n, tokens: tuple(make(seed, n, tokens, pixels) for make, _ in makers),
        dims=[dims for _, dims in makers],
    )


Builder = Callable[[], Built]


def _builder(
    prefix: str,
    *,
    kind: str = "Model",
    config: str = "Config",
    names: str,
    output: str = "last_hidden_state",
    pixels: int = 32,
    is_eager: bool = True,
    fixed: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> Builder:
    """Return what builds a model of ``transformers``, from the options of its configuration.

    The names of its class and its configuration's begin with ``prefix``; see ``_built`` for what
    it takes and returns. Attention is eager where it has any.
    """

    def build() -> Built:
        made = getattr(transformers, f"{prefix}{config}")(**options)
        model = _model(f"{prefix}{kind}", made, is_eager=is_eager)
        return _built(model, names, output, pixels=pixels, **fixed)

    return build


def _sizes(names: str, **options: Any) -> dict[str, Any]:
    """Return the sizes under the names that a configuration has for them, and its options.

    The names are those of vocabulary, width, inner width, layers, heads and positions, ``-`` for
    one that it does not have.
    """
    values = (VOCABULARY, HIDDEN, WIDE, LAYERS, HEADS, POSITIONS)
    named = zip(names.split(), values, strict=True)
    return {**{name: value for name, value in named if name != "-"}, **options}


_ENDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2}
_SPECIAL: dict[str, Any] = {"pad_token_id": 0, **_ENDS}
_TEXT = _sizes(
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
    "max_position_embeddings",
    pad_token_id=0,
)
LM: dict[str, Any] = {**_TEXT, **_SPECIAL, "num_key_value_heads": 2}
_LM_ALL_HEADS: dict[str, Any] = {**_TEXT, **_SPECIAL}
_GPT = _sizes("vocab_size n_embd - n_layer n_head n_positions", **_ENDS)
_TWO_STACKS: dict[str, Any] = {
    **_sizes("- d_model encoder_ffn_dim encoder_layers encoder_attention_heads -"),
    **_sizes("- d_model decoder_ffn_dim decoder_layers decoder_attention_heads -"),
}
_BOTH = _sizes("vocab_size - - - - max_position_embeddings", **_TWO_STACKS, **_SPECIAL)
_T5 = _sizes(
    "vocab_size d_model d_ff num_layers num_heads -",
    d_kv=16,
    pad_token_id=0,
    decoder_start_token_id=0,
)
_IMAGE = _sizes(
    "- hidden_size intermediate_size num_hidden_layers num_attention_heads -",
    image_size=32,
    patch_size=8,
)
_STAGES: dict[str, Any] = {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 48, 64]}
_SOUND = _sizes(
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads -",
    conv_dim=[16, 16, 16],
    conv_kernel=[10, 3, 3],
    conv_stride=[5, 2, 2],
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
)
_EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
}
_LOCAL_EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
_DEEPSEEK: dict[str, Any] = {
    **LM,
    "num_key_value_heads": HEADS,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
}


def _deepseek_v2() -> Built:
    """Rotate by real pairs: TVM has no complex numbers (polar, view_as_complex)."""
    import transformers.models.deepseek_v2.modeling_deepseek_v2 as modeling

    def frequencies(self: Any, _: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        angles = position_ids[..., None].float() * self.inv_freq.float()
        return torch.stack([angles.cos(), angles.sin()], -1) * self.attention_scaling

    def rotate(
        q: torch.Tensor, k: torch.Tensor, pairs: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        cos, sin = pairs[..., 0].unsqueeze(1), pairs[..., 1].unsqueeze(1)

        def rotated(x: torch.Tensor) -> torch.Tensor:
            a, b = x.float().reshape(*x.shape[:-1], -1, 2).unbind(-1)
            turned = torch.stack([a * cos - b * sin, a * sin + b * cos], -1)
            return turned.flatten(3).type_as(x)

        return rotated(q), rotated(k)

    modeling.DeepseekV2RotaryEmbedding.forward = frequencies
    modeling.apply_rotary_emb = rotate
    return _decoder("DeepseekV2", **_DEEPSEEK)()


def _whisper() -> Built:
    config = transformers.WhisperConfig(
        **{**_BOTH, "decoder_start_token_id": 3},
        num_mel_bins=16,
        max_source_positions=32,
        max_target_positions=64,
    )
    model = _model("WhisperForConditionalGeneration", config)
    return _built(model, "input_features decoder_input_ids", "logits", use_cache=False)


def _detr() -> Built:
    backbone = transformers.ResNetConfig(
        embedding_size=16, layer_type="basic", out_features=["stage4"], **_STAGES
    )
    config = transformers.DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        **_TWO_STACKS,
        num_queries=8,
        num_labels=5,
    )
    return _built(_model("DetrForObjectDetection", config), "pixel_values", "logits", pixels=64)


def _clip() -> Built:
    config = transformers.CLIPConfig(
        text_config={**_TEXT, **_SPECIAL}, vision_config=_IMAGE, projection_dim=32
    )
    return _built(_model("CLIPModel", config), "input_ids pixel_values", "logits_per_image")


def _without(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in names}


# What is common to a family; each row of it may have other options.
_decoder = partial(
    _builder,
    kind="ForCausalLM",
    names="input_ids",
    output="logits",
    fixed={"use_cache": False},
)
_lm = partial(_decoder, **LM)
_encoder = partial(_builder, names="input_ids attention_mask")
_bert = partial(_encoder, **_TEXT)
_both = partial(_decoder, kind="ForConditionalGeneration", names="input_ids decoder_input_ids")
_t5 = partial(_decoder, kind="ForConditionalGeneration", names="input_ids decoder_input_ids", **_T5)
_vision = partial(_builder, names="pixel_values")
_image = partial(_vision, **_IMAGE)
_stages = partial(_vision, pixels=64, **_STAGES)
_sound = partial(_builder, names="input_values", **_SOUND)


_DECODERS: dict[str, Builder] = {
    "llama": _lm("Llama"),
    "gpt2": _decoder("GPT2", kind="LMHeadModel", **_GPT),
    "gpt_neox": _decoder("GPTNeoX", **_LM_ALL_HEADS),
    "gpt_neo": _decoder(
        "GPTNeo",
        **_sizes("vocab_size hidden_size - num_layers num_heads max_position_embeddings"),
        attention_types=[[["global", "local"], 1]],
        window_size=8,
        **_ENDS,
    ),
    "gptj": _decoder("GPTJ", **_GPT, rotary_dim=8),
    "gpt_bigcode": _decoder("GPTBigCode", **_GPT),
    "codegen": _decoder("CodeGen", **_GPT, n_ctx=128, rotary_dim=8),
    "mistral": _lm("Mistral", sliding_window=8),
    "ministral": _lm("Ministral", sliding_window=8, head_dim=16),
    "phi": _lm("Phi"),
    "phi3": _lm("Phi3", original_max_position_embeddings=128),
    "qwen2": _lm("Qwen2"),
    "qwen3": _lm("Qwen3", head_dim=16),
    "gemma": _lm("Gemma", head_dim=16),
    "gemma2": _lm("Gemma2", head_dim=16, sliding_window=8),
    "gemma3_text": _decoder("Gemma3", config="TextConfig", **LM, head_dim=16, sliding_window=8),
    "stablelm": _lm("StableLm"),
    "olmo": _lm("Olmo"),
    "olmo2": _lm("Olmo2"),
    "olmo3": _lm("Olmo3", sliding_window=8),
    "starcoder2": _lm("Starcoder2"),
    "falcon": _decoder("Falcon", **_without(_LM_ALL_HEADS, "intermediate_size", "pad_token_id")),
    "bloom": _decoder("Bloom", **_sizes("vocab_size hidden_size - n_layer n_head -", **_SPECIAL)),
    "mpt": _decoder("Mpt", **_sizes("vocab_size d_model - n_layers n_heads max_seq_len")),
    "opt": _decoder(
        "OPT",
        **_without(_LM_ALL_HEADS, "intermediate_size"),
        word_embed_proj_dim=HIDDEN,
        ffn_dim=WIDE,
    ),
    "cohere": _lm("Cohere"),
    "cohere2": _lm("Cohere2", sliding_window=8),
    "deepseek_v2": _deepseek_v2,
    "granite": _lm("Granite"),
    "glm": _lm("Glm", head_dim=16),
    "glm4": _lm("Glm4", head_dim=16),
    "nemotron": _lm("Nemotron", head_dim=16),
    "smollm3": _lm("SmolLM3"),
    "helium": _lm("Helium", head_dim=16),
    "arcee": _lm("Arcee"),
    "ernie4_5": _lm("Ernie4_5", head_dim=16),
    "seed_oss": _lm("SeedOss", head_dim=16),
    "hunyuan": _lm("HunYuanDenseV1", head_dim=16),
    "exaone4": _lm("Exaone4", sliding_window=8, sliding_window_pattern=2),
    "persimmon": _decoder("Persimmon", **_LM_ALL_HEADS),
    "biogpt": _decoder("BioGpt", **_TEXT),
    "xglm": _decoder(
        "XGLM",
        **_sizes("vocab_size d_model ffn_dim num_layers attention_heads max_position_embeddings"),
    ),
}
_MIXTURES: dict[str, Builder] = {
    "mixtral": _lm("Mixtral", **_LOCAL_EXPERTS),
    "qwen2_moe": _lm("Qwen2Moe", shared_expert_intermediate_size=64, **_EXPERTS),
    "qwen3_moe": _lm("Qwen3Moe", head_dim=16, **_EXPERTS),
    "olmoe": _lm("Olmoe", num_experts=4, num_experts_per_tok=2),
    "granitemoe": _lm("GraniteMoe", **_LOCAL_EXPERTS),
    "gpt_oss": _lm(
        "GptOss",
        head_dim=16,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
        **_LOCAL_EXPERTS,
    ),
    "deepseek_v3": _decoder("DeepseekV3", **_DEEPSEEK, n_group=2, topk_group=1),
}
_STATE_SPACE: dict[str, Builder] = {
    "rwkv": _decoder(
        "Rwkv",
        **_sizes("vocab_size hidden_size - num_hidden_layers - context_length", **_ENDS),
        rescale_every=0,  # It would write to its weights.
    ),
    "mamba": _decoder(
        "Mamba",
        **_sizes("vocab_size hidden_size - num_hidden_layers - -", **_SPECIAL),
        state_size=8,
    ),
    "mamba2": _decoder(
        "Mamba2",
        **_sizes("vocab_size hidden_size - num_hidden_layers - -", **_SPECIAL),
        state_size=16,
        num_heads=8,
        head_dim=16,
        expand=2,
        n_groups=1,
        chunk_size=8,
    ),
}
_ENCODERS: dict[str, Builder] = {
    "bert": _bert("Bert"),
    "roberta": _bert("Roberta"),
    "xlm_roberta": _bert("XLMRoberta"),
    "distilbert": _encoder(
        "DistilBert", **_sizes("vocab_size dim hidden_dim n_layers n_heads max_position_embeddings")
    ),
    "electra": _bert("Electra", embedding_size=32),
    "albert": _bert("Albert", embedding_size=32),
    "deberta_v2": _bert(
        "DebertaV2",
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_buckets=16,
        max_relative_positions=-1,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        position_biased_input=False,
    ),
    "mpnet": _bert("MPNet"),
    "modernbert": _bert("ModernBert", local_attention=8, cls_token_id=1, sep_token_id=2, **_ENDS),
    "esm": _bert("Esm", mask_token_id=3),
    "megatron_bert": _bert("MegatronBert"),
    "roformer": _bert("RoFormer"),
    "rembert": _bert("RemBert", input_embedding_size=32, output_embedding_size=32),
    "layoutlm": _bert("LayoutLM"),
    "squeezebert": _bert("SqueezeBert", embedding_size=HIDDEN),
    "ernie": _bert("Ernie"),
    "data2vec_text": _bert("Data2VecText"),
    "t5_encoder": _encoder("T5", kind="EncoderModel", **_T5),
    "clip_text": _encoder("CLIPText", **{**_TEXT, **_SPECIAL}),
}
_ENCODER_DECODERS: dict[str, Builder] = {
    "t5": _both("T5", **_T5),
    "mt5": _both("MT5", **_T5),
    "bart": _both("Bart", **_BOTH),
    "mbart": _both("MBart", **_BOTH),
    "m2m_100": _both("M2M100", **_BOTH),
    "blenderbot": _both("Blenderbot", **_BOTH),
    "marian": _both("Marian", kind="MTModel", **_BOTH, decoder_start_token_id=0),
    "pegasus": _both("Pegasus", **_BOTH),
}
_VISION: dict[str, Builder] = {
    "vit": _image("ViT"),
    "deit": _image("DeiT"),
    "beit": _image("Beit", use_relative_position_bias=True),
    "dinov2": _vision("Dinov2", **_without(_IMAGE, "intermediate_size"), mlp_ratio=2),
    "clip_vision": _image("CLIPVision"),
    "siglip_vision": _image("SiglipVision"),
    "ijepa": _image("IJepa"),
    "swin": _vision(
        "Swin",
        image_size=32,
        patch_size=2,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
    ),
    "convnext": _stages("ConvNext", image_size=64, is_eager=False),
    "convnextv2": _stages("ConvNextV2", image_size=64, is_eager=False),
    "resnet": _stages("ResNet", embedding_size=16, layer_type="bottleneck", is_eager=False),
    "regnet": _stages("RegNet", embedding_size=16, groups_width=8, is_eager=False),
    "mobilenet_v2": _vision(
        "MobileNetV2", pixels=64, is_eager=False, image_size=64, depth_multiplier=0.35
    ),
    "mobilevit": _vision(
        "MobileViT",
        pixels=64,
        is_eager=False,
        image_size=64,
        hidden_sizes=[24, 32, 40],
        neck_hidden_sizes=[8, 8, 16, 24, 32, 40, 64],
    ),
    "segformer": _vision(
        "Segformer",
        kind="ForSemanticSegmentation",
        pixels=64,
        output="logits",
        **_STAGES,
        num_attention_heads=[1, 2, 4, 4],
        decoder_hidden_size=32,
        num_labels=5,
    ),
    "pvt_v2": _stages("PvtV2", image_size=64, num_attention_heads=[1, 2, 4, 4]),
    "poolformer": _stages("PoolFormer", num_encoder_blocks=4, is_eager=False),
    "detr": _detr,
    "clip": _clip,
}
_AUDIO: dict[str, Builder] = {
    "whisper": _whisper,
    "wav2vec2": _sound("Wav2Vec2", kind="ForCTC", output="logits"),
    "hubert": _sound("Hubert"),
    "unispeech": _sound("UniSpeech"),
    "wavlm": _sound("WavLM", num_buckets=16),
    "data2vec_audio": _sound("Data2VecAudio", num_conv_pos_embeddings=2, conv_pos_kernel_size=5),
}
_FAMILIES = {
    "decoder": _DECODERS,
    "mixture": _MIXTURES,
    "state space": _STATE_SPACE,
    "encoder": _ENCODERS,
    "encoder-decoder": _ENCODER_DECODERS,
    "vision": _VISION,
    "audio": _AUDIO,
}
# torch.export makes their loops and chunks of the extents they are traced with.
_STATIC = {"mamba", "mamba2", "rwkv"}

ARCHITECTURES: dict[str, Architecture] = {
    name: Architecture(name=name, family=family, build=build, is_symbolic=name not in _STATIC)
    for family, rows in _FAMILIES.items()
    for name, build in rows.items()
}
