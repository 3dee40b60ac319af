"""A decoder with a key-value cache of fixed size, which is an argument and a result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import IRModule

from relax_tapml.arrays import Array, dtype_named
from relax_tapml.errors import LoweringError, UsageError
from relax_tapml.files.machine import raise_machine_error
from relax_tapml.frontend.model import FrameworkGraph, Functions, Meaning, Model, Sample
from relax_tapml.frontend.torch_export import from_torch
from relax_tapml.printable import error_line

STEPS = 4
"""Tokens that are decoded after a prompt."""

# How much logits with and without a cache may differ, in units of the largest.
_MOST_ULPS = 256
_PREFILL, _DECODE = "prefill", "decode"
_CACHE_ARGUMENTS = ("cache", "past_key_values")
_Run = Callable[[Sample], list[Array]]


def is_decoder(model: Any) -> bool:
    """Whether a model of transformers continues a text."""
    kind = type(model).__name__
    is_two_stacks = getattr(model.config, "is_encoder_decoder", False)
    return kind.endswith(("ForCausalLM", "LMHeadModel")) and not is_two_stacks


def why_no_static_cache(model: Any, prompt: Any) -> str:
    """Return why a decoder cannot have a cache of fixed size; empty if it can.

    Each layer must cache keys and values alone. Some models count on a cache that grows: a prompt,
    int64 of shape (1, n), and the token that the model chooses after it are computed with and
    without one.
    """
    import torch

    layers = _layers(model)
    if isinstance(layers, str):
        return layers
    count = prompt.shape[1]
    step, cache = _step_module(model), _empty_cache(model, count + STEPS)
    try:
        with torch.no_grad():
            first, *cache = step(prompt, torch.tensor(0), *cache)
            chosen = first[:, -1:].argmax(-1)
            last, *_ = step(chosen, torch.tensor(count), *cache)
            whole = torch.cat([prompt, chosen], dim=1)
            expected = model(input_ids=whole, use_cache=False).logits
    except Exception as error:  # Whatever a model raises that does not take such a cache.
        raise_machine_error(error, f"running {type(model).__name__}")
        return f"with a cache of fixed size it fails: {error_line(error)}"
    apart = float((torch.cat([first, last], dim=1) - expected).abs().max())
    most = _MOST_ULPS * torch.finfo(expected.dtype).eps * float(expected.abs().max())
    return "" if apart <= most else f"a cache of fixed size changes its logits by {apart:.2g}"


def decoder_model(model: Any, prompts: Sequence[Any], *, names: Sequence[str], name: str) -> Model:
    """Import a decoder as the functions ``prefill`` and ``decode``.

    ``prefill`` takes prompts of any length; where the model cannot be exported so, prompts are cut
    to the shortest, and the names of the samples say so.

    Both are ``(ids, start, *cache) -> (logits, *cache)`` with int64 ids of shape (1, n), the place
    of the first of them, int64 of shape (), and keys and values of each layer, of shape (1, heads,
    room, width). A sample is a prompt and the tokens that follow, which the model itself chose in
    PyTorch, so calls never depend on what is computed.

    Parameters
    ----------
    model
        Of transformers, for which ``why_no_static_cache`` returns nothing.
    prompts
        int64 tensors of shape (1, n).
    names
        Of the samples.
    name
        Of the model.

    Raises
    ------
    UsageError
        It cannot be exported.
    LoweringError
        TVM cannot import an operator.
    """
    import torch

    room = max(ids.shape[1] for ids in prompts) + STEPS
    step, cache = _step_module(model), _empty_cache(model, room)

    def imported(ids: Any, tokens: Any = None) -> Model:
        shapes = None if tokens is None else ({1: tokens}, None, tuple(None for _ in cache))
        example = (ids, torch.tensor(0), *cache)
        return from_torch(step, example, name=name, samples=(), dynamic_shapes=shapes)

    lengths = [ids.shape[1] for ids in prompts]
    longest = max(prompts, key=lambda ids: int(ids.shape[1]))
    if len(set(lengths)) == 1:
        prefill = imported(longest)
    else:
        try:
            prefill = imported(longest, torch.export.Dim("tokens", min=2, max=room))
        except (UsageError, LoweringError):  # Not all models can be exported for any length.
            shortest = min(lengths)
            prompts = [ids[:, :shortest] for ids in prompts]
            names = [
                named if length == shortest else f"{named} (its first {shortest} tokens)"
                for named, length in zip(names, lengths, strict=True)
            ]
            prefill = imported(prompts[0])
    decode = imported(longest[:, :1])
    samples = tuple(
        Sample(name=named, arrays=(ids.numpy(), _following(step, ids, cache)))
        for named, ids in zip(names, prompts, strict=True)
    )
    drive = StaticCacheDrive(cache=tuple(_shape_and_dtype(one) for one in cache))
    functions = {_PREFILL: prefill, _DECODE: decode}
    return Model(
        name=name,
        module=_joined(functions),
        params=prefill.params,
        samples=samples,
        entry=_PREFILL,
        drive=drive,
        reference=_driven(drive, {name: one.reference for name, one in functions.items()}),
        accurate=_driven(drive, {name: one.accurate for name, one in functions.items()}),
        graphs=lambda sample: _graphs(drive, functions, sample),
        meaning=Meaning.TOKENS,
    )


@dataclass(frozen=True, kw_only=True)
class StaticCacheDrive:
    """Prefills a prompt, then decodes the tokens that follow one by one.

    A sample's arrays are the prompt, int64 of shape (1, n), and what follows, (1, m). The outputs
    are the logits of the prompt and of the tokens that follow.

    Parameters
    ----------
    cache
        Shape and dtype of each tensor of an empty cache.
    """

    cache: tuple[tuple[tuple[int, ...], str], ...]

    def __call__(self, functions: Functions, sample: Sample) -> list[Array]:
        """Run a sample; see ``Model.drive``."""
        prompt, following = sample.arrays
        cache = [np.zeros(shape, dtype_named(dtype)) for shape, dtype in self.cache]
        first, *cache = functions[_PREFILL](prompt, np.array(0, "int64"), *cache)
        found = []
        for at in range(following.shape[1]):
            start = np.array(prompt.shape[1] + at, "int64")
            logits, *cache = functions[_DECODE](following[:, at : at + 1], start, *cache)
            found.append(logits)
        return [first, np.concatenate(found, axis=1)] if found else [first]


@dataclass(frozen=True, kw_only=True)
class _OfFramework:
    """Functions of a model as PyTorch runs them."""

    runs: Mapping[str, _Run]

    def __getitem__(self, name: str) -> Callable[..., list[Any]]:
        return lambda *arrays: self.runs[name](Sample(name=name, arrays=arrays))

    def runtime(self, name: str) -> Callable[..., Any]:
        raise KeyError(name)


def _driven(drive: StaticCacheDrive, runs: Mapping[str, _Run | None]) -> _Run:
    """Return what drives functions of the framework instead of built ones."""
    functions = _OfFramework(runs={name: run for name, run in runs.items() if run is not None})
    return lambda sample: drive(functions, sample)


def _graphs(
    drive: StaticCacheDrive, models: Mapping[str, Model], sample: Sample
) -> Iterator[FrameworkGraph]:
    """Yield the graphs of each function at the first call that the drive makes of it."""
    first: dict[str, Sample] = {}

    def run(name: str) -> _Run:
        reference = models[name].reference
        assert reference is not None

        def watched(call: Sample) -> list[Array]:
            first.setdefault(name, call)
            return reference(call)

        return watched

    _driven(drive, {name: run(name) for name in models})(sample)
    for name, call in first.items():
        graphs = models[name].graphs
        if graphs is not None:
            yield from graphs(call)


def _joined(models: Mapping[str, Model]) -> IRModule:
    """Return one module with the entry function of each model, under the names that are given."""
    functions: dict[Any, Any] = {}
    for name, model in models.items():
        for gvar, function in model.module.functions.items():
            named = name if gvar.name_hint == model.entry else f"{name}_{gvar.name_hint}"
            functions[named] = function.with_attr("global_symbol", named)
    return IRModule(functions)


def _cache_argument(model: Any) -> str | None:
    accepted = inspect.signature(model.forward).parameters
    return next((name for name in _CACHE_ARGUMENTS if name in accepted), None)


def _layers(model: Any) -> list[tuple[Any, Any]] | str:
    """Return keys and values of each layer for two tokens, or why there are none."""
    import torch
    from transformers import cache_utils

    plain = (cache_utils.DynamicLayer, cache_utils.DynamicSlidingWindowLayer)
    argument = _cache_argument(model)
    if argument is None:
        return "it takes no cache"
    try:
        with torch.no_grad():
            found = model(input_ids=torch.zeros(1, 2, dtype=torch.long), use_cache=True)
        cache = found.get(argument) or found.get(_CACHE_ARGUMENTS[1])
        layers = list(cache.layers)
    except Exception as error:  # A cache of its own kind, or none.
        raise_machine_error(error, f"running {type(model).__name__}")
        return f"its cache cannot be read: {error_line(error)}"
    others = sorted({type(layer).__name__ for layer in layers if type(layer) not in plain})
    if others or not layers:
        return f"it keeps another state than keys and values: {', '.join(others) or 'no layers'}"
    return [(layer.keys, layer.values) for layer in layers]


def _empty_cache(model: Any, room: int) -> list[Any]:
    layers = _layers(model)
    assert not isinstance(layers, str)
    return [one.new_zeros((1, one.shape[1], room, one.shape[3])) for pair in layers for one in pair]


def _step_module(model: Any) -> Any:
    import torch
    from transformers import cache_utils

    argument = _cache_argument(model)
    assert argument is not None

    class FixedLayer(cache_utils.StaticLayer):  # type: ignore[misc]
        """A layer of a cache that makes new tensors instead of writing to its own."""

        def __init__(self, keys: Any, values: Any, start: Any) -> None:
            super().__init__(max_cache_len=keys.shape[2])
            self.keys, self.values, self.cumulative_length = keys, values, start
            self.device, self.is_initialized = keys.device, True

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> Any:
            count = key_states.shape[-2]
            # Which of the new tokens a place gets, as index_copy would. Only tensors are compared
            # here: TVM imports no index_copy along an inner axis, and no symbolic number.
            last = torch.arange(count, device=self.device).max()
            token = torch.arange(self.max_cache_len, device=self.device) - self.cumulative_length
            is_new = ((token >= 0) & (token <= last))[:, None]
            token = torch.minimum(token.clamp(min=0), last)
            self.keys = torch.where(is_new, key_states.index_select(2, token), self.keys)
            self.values = torch.where(is_new, value_states.index_select(2, token), self.values)
            self.cumulative_length = self.cumulative_length + count
            return self.keys, self.values

    class DecoderStep(torch.nn.Module):  # type: ignore[misc]
        """Appends tokens to a cache, returns their logits and the new cache."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, start: Any, *cache: Any) -> tuple[Any, ...]:
            pairs = zip(cache[::2], cache[1::2], strict=True)
            layers = [FixedLayer(keys, values, start) for keys, values in pairs]
            held = cache_utils.Cache(layers=layers)
            found = self.model(input_ids=ids, use_cache=True, **{str(argument): held})
            return (found.logits, *(one for layer in layers for one in (layer.keys, layer.values)))

    return DecoderStep()


def _following(step: Any, ids: Any, cache: Sequence[Any]) -> Array:
    """Return the tokens that the model itself chooses after a prompt, int64 of shape (1, STEPS)."""
    import torch

    chosen: list[Any] = []
    with torch.no_grad():
        logits, *held = step(ids, torch.tensor(0), *cache)
        for at in range(STEPS):
            chosen.append(logits[:, -1:].argmax(-1))
            if at < STEPS - 1:
                logits, *held = step(chosen[-1], torch.tensor(ids.shape[1] + at), *held)
    return np.concatenate([one.numpy() for one in chosen], axis=1)


def _shape_and_dtype(tensor: Any) -> tuple[tuple[int, ...], str]:
    return tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
