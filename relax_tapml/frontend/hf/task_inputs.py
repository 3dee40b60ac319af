"""What a model of transformers is fed with for its task, and what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relax_tapml.arrays import Array
from relax_tapml.errors import UsageError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.frontend._arrays import to_torch
from relax_tapml.frontend._texts import text_start
from relax_tapml.frontend.hf.checkpoint import Checkpoint
from relax_tapml.frontend.hf.static_cache import STEPS, is_decoder
from relax_tapml.frontend.model import Meaning
from relax_tapml.printable import error_line

DRAWN_TOKENS = 16
_SOUND_SAMPLES = 16_000
_FRAMES, _MELS, _PIXELS = 128, 80, 224
_SEED = 0
_IMAGE = "pixel_values"
_IDS, _MASK, _ANSWER_IDS = "input_ids", "attention_mask", "decoder_input_ids"
_WAVE, _SPECTRUM = "input_values", "input_features"
# What of an output is no result of its own: caches, and what is inside of the model.
_INNER = ("past_key_values", "cache", "hidden_states", "attentions", "loss")
_MEANINGS = {
    Meaning.TOKENS: ("ForCausalLM", "LMHeadModel", "ForMaskedLM", "ForConditionalGeneration"),
    Meaning.CLASSES: ("Classification", "ForCTC"),
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """How a model is called.

    Parameters
    ----------
    takes
        Names of the arguments of ``forward`` that it is given.
    returns
        Names of the outputs that are tensors.
    tensors
        What it is given for each sample, in the order of ``takes``.
    names
        Of the samples, for people.
    """

    takes: tuple[str, ...]
    returns: tuple[str, ...]
    tensors: list[tuple[Any, ...]]
    names: list[str]


def takes_text(model: Any) -> bool:
    """Whether a model's main input is token ids."""
    return bool(getattr(model, "main_input_name", _IDS) == _IDS)


def meaning_of(kind: str) -> Meaning | None:
    """Return what the last axis of the logits of a class of transformers is."""
    for meaning, ends in _MEANINGS.items():
        if kind.endswith(ends):
            return meaning
    return None


def token_ids(checkpoint: Checkpoint, texts: Sequence[str]) -> list[Any]:
    """Return the prompts of a decoder, int64 of shape (1, tokens); two drawn ones without texts.

    Raises
    ------
    UsageError
        A text has no tokens, or more than the model has positions for with those that are decoded
        after it.
    """
    import torch

    most = _most_tokens(checkpoint.model)
    fitting = None if most is None else most - STEPS
    if fitting is not None and fitting < 1:
        raise UsageError(
            f"hf:{checkpoint.folder}: {checkpoint.kind} has positions for {most} tokens, and "
            f"{STEPS} are decoded after a prompt. Give a model with more positions"
        )
    if not texts:
        return [_drawn_ids(torch, checkpoint.model, seed, fitting) for seed in range(2)]
    rows = [_row(checkpoint, text) for text in texts]
    for text, row in zip(texts, rows, strict=True):
        if fitting is not None and len(row) > fitting:
            raise UsageError(
                f"hf:{checkpoint.folder}: the text '{text_start(text)}' has {len(row)} tokens, and "
                f"at most {fitting} fit: {checkpoint.kind} has {most} positions, and {STEPS} tokens"
                " are decoded after a text. Give a shorter one"
            )
    return [torch.tensor([row], dtype=torch.long) for row in rows]


def find_task(checkpoint: Checkpoint, texts: Sequence[str]) -> Task:
    """Return how a model is called, for texts, or for drawn inputs without any.

    Texts are padded to the longest where the model takes a mask. The arguments are the first of a
    few sets with which the model runs.

    Raises
    ------
    UsageError
        It runs with none of them.
    """
    model = checkpoint.model
    accepted = set(inspect.signature(model.forward).parameters)
    failures: list[str] = []
    for takes in dict.fromkeys(_argument_sets(model)):
        if not set(takes) <= accepted:
            continue
        tensors = _tensors(checkpoint, takes, texts)
        try:
            returns = _returned(model, takes, tensors[0])
        except Exception as error:  # Whatever the model raises when something is missing.
            raise_machine_error(error, f"running {checkpoint.kind}")
            failures.append(f"with {', '.join(takes)}: {error_line(error)}")
            continue
        names = [f"drawn inputs {number}" for number in range(len(tensors))]
        return Task(takes=takes, returns=returns, tensors=tensors, names=names)
    raise UsageError(
        f"hf:{checkpoint.folder}: {checkpoint.kind} does not run {'; '.join(failures) or 'at all'}."
        " Load it in a function of your own, which knows its inputs, and give "
        "package.module:function"
    )


def task_of_file(checkpoint: Checkpoint, file: Path, arrays: Mapping[str, Array]) -> Task:
    """Return how a model is called with the arrays of a file.

    They are named after the arguments of ``forward``, or ``arr_0`` and so on for the first set of
    arguments of that many.

    Raises
    ------
    UsageError
        Their names are no arguments, or it does not run with them.
    """
    model = checkpoint.model
    accepted = list(inspect.signature(model.forward).parameters)
    takes = tuple(name for name in accepted if name in arrays)
    if len(takes) < len(arrays):
        sets = (one for one in _argument_sets(model) if set(one) <= set(accepted))
        takes = next((one for one in sets if len(one) == len(arrays)), ())
        keys = [f"arr_{at}" for at in range(len(takes))]
    else:
        keys = list(takes)
    if not takes or set(keys) != set(arrays):
        raise UsageError(
            f"inputs {file}: expected arrays named after arguments of {checkpoint.kind}.forward, "
            f"got {', '.join(sorted(arrays)) or 'none'}. It takes {', '.join(accepted)}"
        )
    tensors = tuple(to_torch(arrays[key]) for key in keys)
    try:
        returns = _returned(model, takes, tensors)
    except Exception as error:  # Whatever the model raises about what it is given.
        raise_machine_error(error, f"running {checkpoint.kind}")
        raise UsageError(
            f"inputs {file}: {checkpoint.kind} does not run with {', '.join(takes)}: "
            f"{error_line(error)}"
        ) from error
    return Task(takes=takes, returns=returns, tensors=[tensors], names=[file.name])


def fixed_arguments(model: Any) -> dict[str, Any]:
    """Return the arguments of each call: results by name, and no cache."""
    accepted = inspect.signature(model.forward).parameters
    fixed = {"return_dict": True, "use_cache": False}
    return {name: value for name, value in fixed.items() if name in accepted}


def _argument_sets(model: Any) -> Iterator[tuple[str, ...]]:
    main = str(getattr(model, "main_input_name", _IDS))
    first = (main, _MASK) if main == _IDS and not is_decoder(model) else (main,)
    if getattr(model.config, "is_encoder_decoder", False):
        yield (*first, _ANSWER_IDS)
    yield first
    yield (main,)
    if main != _IMAGE:
        yield (*first, _IMAGE)
    if main != _IDS:
        yield (_IDS, main)


def _tensors(
    checkpoint: Checkpoint, takes: Sequence[str], texts: Sequence[str]
) -> list[tuple[Any, ...]]:
    import torch

    model = checkpoint.model
    columns: dict[str, list[Any]] = {}
    count = len(texts) or 2
    if _IDS in takes and texts:
        columns |= _tokenized(checkpoint, texts)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    for name in takes:
        if name not in columns:
            columns[name] = [_drawn(torch, model, name, seed, dtype) for seed in range(count)]
    return [tuple(columns[name][row] for name in takes) for row in range(count)]


def _tokenized(checkpoint: Checkpoint, texts: Sequence[str]) -> dict[str, list[Any]]:
    """Return ids and mask of texts, all of one length."""
    import torch

    tokenizer = checkpoint.tokenizer
    rows = [_row(checkpoint, text) for text in texts]
    longest = max(map(len, rows))
    pad = tokenizer.pad_token_id
    fill = pad if pad is not None else tokenizer.eos_token_id or 0
    ids = [[*row, *[fill] * (longest - len(row))] for row in rows]
    masks = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    return {
        name: [torch.tensor([row], dtype=torch.long) for row in column]
        for name, column in ((_IDS, ids), (_MASK, masks))
    }


def _row(checkpoint: Checkpoint, text: str) -> list[int]:
    """Return the token ids of a text, of which there must be some."""
    row = list(checkpoint.tokenizer(text)["input_ids"])
    if not row:
        raise UsageError(
            f"hf:{checkpoint.folder}: the text '{text_start(text)}' has no tokens. Give another"
        )
    return row


def _drawn(torch: Any, model: Any, name: str, seed: int, dtype: Any) -> Any:
    config = model.config
    generator = torch.Generator().manual_seed(_SEED + seed)

    def noise(*shape: int) -> Any:
        return torch.randn(shape, generator=generator).to(dtype)

    if name == _IDS:
        return _drawn_ids(torch, model, seed)
    if name == _ANSWER_IDS:
        return _drawn_ids(torch, model, seed + 100)[:, : DRAWN_TOKENS // 2]
    if name == _MASK:
        mask = torch.ones_like(_drawn_ids(torch, model, seed))
        mask[:, max(1, mask.shape[1] - 3 * seed) :] = 0
        return mask
    if name == _IMAGE:
        height, width = _image_size(config)
        channels = _found(config, "num_channels", "in_channels") or 3
        return noise(1, channels, height, width)
    if name == _SPECTRUM:
        positions = getattr(config, "max_source_positions", None)
        mels = _found(config, "num_mel_bins", "feature_size", "input_feat_per_channel") or _MELS
        frames = 2 * positions if positions else getattr(config, "max_length", None) or _FRAMES
        return noise(1, mels, frames) if positions else noise(1, frames, mels)
    if name == _WAVE:
        frames, mels = getattr(config, "max_length", 0), getattr(config, "num_mel_bins", 0)
        return noise(1, frames, mels) if frames and mels else noise(1, _SOUND_SAMPLES)
    raise UsageError(f"no inputs can be drawn for the argument {name}: give --inputs")


def _drawn_ids(torch: Any, model: Any, seed: int, most: int | None = None) -> Any:
    generator = torch.Generator().manual_seed(_SEED + seed)
    config = model.config.get_text_config()
    size = getattr(config, "vocab_size", 0) or 100
    shape = (1, min(DRAWN_TOKENS, most or _most_tokens(model) or DRAWN_TOKENS))
    return torch.randint(min(3, size - 1), size, shape, generator=generator)


def _most_tokens(model: Any) -> int | None:
    """Return the most tokens that a model has positions for; None if its config does not say."""
    import torch

    most = _found(model.config.get_text_config(), "max_position_embeddings", "n_positions")
    if not isinstance(most, int) or most <= 0:
        return None
    for name, part in model.named_modules():
        # Those of RoBERTa: positions are counted from the place after that of padding.
        if (
            name.endswith("position_embeddings")
            and isinstance(part, torch.nn.Embedding)
            and part.padding_idx is not None
        ):
            return max(1, most - int(part.padding_idx) - 1)
    return most


def _image_size(config: Any) -> tuple[int, int]:
    size = _found(config, "image_size", "input_size") or _PIXELS
    if isinstance(size, dict):
        size = size.get("height") or _PIXELS, size.get("width") or _PIXELS
    height, width = size[-2:] if isinstance(size, (list, tuple)) else (size, size)
    return int(height), int(width)


def _found(config: Any, *names: str) -> Any:
    """Return the first attribute that a config has, or the config of its part for images."""
    for one in (config, getattr(config, "vision_config", None)):
        for name in names:
            value = getattr(one, name, None)
            if value:
                return value
    return None


def _returned(model: Any, takes: Sequence[str], tensors: Sequence[Any]) -> tuple[str, ...]:
    import torch

    with torch.no_grad():
        outputs = model(**dict(zip(takes, tensors, strict=True)), **fixed_arguments(model))
    names = tuple(
        name
        for name, value in outputs.items()
        if isinstance(value, torch.Tensor) and not name.endswith(_INNER)
    )
    if not names:
        raise UsageError("none of its outputs is a tensor")
    return names
