"""Runs a decoder with a paged KV cache: prefills a prompt, then decodes token by token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.errors import UsageError
from relax_tapml.frontend.model import Functions, Sample

_BUILTIN = "vm.builtin."


@dataclass(frozen=True, kw_only=True)
class PagedDrive:
    """The ``drive`` of a model with the functions that MLC-LLM gives its models.

    A sample is a prompt and the tokens after it, each int32 of shape ``(1, n)``: the prompt is
    prefilled and every other token decoded, independently of the logits. So each run computes
    logits for the same context at every position, and a rounding cannot change later tokens. The
    outputs are the logits of the prefill and those of the decoded tokens, each joined along the
    tokens.

    Parameters
    ----------
    embed, prefill, decode, create
        Names of functions: token ids to embeddings; embeddings and cache to logits (and cache);
        sizes to a cache.
    sequence_length
        Tokens for which the cache has room; None for those of the sample. A recording holds all
        pages of the cache for each call that writes to it, so unused room costs memory.
    page_size
        Tokens in a page of it.
    chunk
        Tokens that are prefilled at once. Later tokens of a longer prompt attend to a cache that is
        not empty, with other kernels than the first ones. None for all tokens.
    is_flat
        Whether ``embed`` takes and returns tokens without the axis of the batch, as MLC's does.
    """

    embed: str = "embed"
    prefill: str = "prefill"
    decode: str = "decode"
    create: str = "create_tir_paged_kv_cache"
    sequence_length: int | None = None
    page_size: int = 16
    chunk: int | None = None
    is_flat: bool = False

    def __post_init__(self) -> None:
        if self.chunk is not None and self.chunk < 1:
            raise UsageError(f"chunk {self.chunk}: expected at least 1 token")

    def __call__(self, functions: Functions, sample: Sample) -> list[Array]:
        """Run a sample; see the class."""
        prompt, following = sample.arrays
        length = self.sequence_length or prompt.shape[1] + following.shape[1]
        sizes = ((1,), (length,), (length,), (self.page_size,), (0,))
        (cache,) = functions[self.create](*sizes)
        functions.runtime(f"{_BUILTIN}kv_state_add_sequence")(cache, 0)
        prefilled = [
            self._forward(functions, self.prefill, ids, cache)
            for ids in _parts(prompt, self.chunk or prompt.shape[1])
        ]
        decoded = [
            self._forward(functions, self.decode, ids, cache) for ids in _parts(following, 1)
        ]
        return [np.concatenate(logits, axis=1) for logits in (prefilled, decoded) if logits]

    def _forward(self, functions: Functions, name: str, ids: Array, cache: Any) -> Array:
        functions.runtime(f"{_BUILTIN}kv_state_begin_forward")(cache, (0,), (ids.shape[1],))
        if self.is_flat:
            embeddings = functions[self.embed](ids[0])[0][None]
        else:
            (embeddings,) = functions[self.embed](ids)
        logits: Array = functions[name](embeddings, cache)[0]
        functions.runtime(f"{_BUILTIN}kv_state_end_forward")(cache)
        return logits


def _parts(ids: Array, size: int) -> list[Array]:
    return [ids[:, start : start + size] for start in range(0, ids.shape[1], size)]
