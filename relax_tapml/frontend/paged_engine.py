"""The calls by which an engine runs a decoder with a paged KV cache, as MLC-LLM's does."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relax_tapml.arrays import Array
from relax_tapml.errors import TapmlError, UsageError
from relax_tapml.frontend.model import Functions
from relax_tapml.passes.kernel_failed import KernelFailed
from relax_tapml.printable import error_line

Tokens = Mapping[int, Array]
"""Token ids by sequence, each int32 of shape ``(n,)``, in the order of the batch."""


@dataclass(frozen=True, kw_only=True)
class SlidingWindow:
    """How far a sequence sees: ``size`` tokens, of which the first ``sink`` never leave it."""

    size: int
    sink: int = 0


@dataclass(frozen=True, kw_only=True)
class PagedEngine:
    """The functions of a decoder, and what its caches are made with.

    Parameters
    ----------
    functions
        Of the model.
    embed, prefill, decode, create
        Names of functions; see ``PagedDrive``. The names of all others are MLC's.
    page_size
        Tokens in a page.
    room
        Tokens for which each cache has room; None for as many as a scenario appends.
    chunk
        The most tokens that are prefilled at once.
    batch
        The most sequences in a batch.
    is_flat
        Whether ``embed`` takes and returns tokens without the axis of the batch.
    window
        Of each sequence; None for full attention.
    """

    functions: Functions
    embed: str
    prefill: str
    decode: str
    create: str
    page_size: int
    room: int | None
    chunk: int
    batch: int
    is_flat: bool
    window: SlidingWindow | None

    def cache(
        self, lengths: Iterable[int], *, window: SlidingWindow | None = None
    ) -> PagedSequences:
        """Return an empty cache with room for sequences of these lengths, in tokens.

        ``window`` is that of its sequences; None for that of the engine.
        """
        window = window or self.window
        pages = [-(-length // self.page_size) for length in lengths]
        room = self.room or sum(pages) * self.page_size
        sizes = (len(pages), room, room, self.page_size, int(window is not None))
        (cache,) = self.functions[self.create](*((size,) for size in sizes))
        return PagedSequences(engine=self, cache=cache, window=window)

    def without_window(self) -> PagedEngine:
        """Return an engine whose caches have no window, unless one is asked for."""
        return dataclasses.replace(self, window=None)

    def embedded(self, ids: Array) -> Array:
        """Return embeddings of shape ``(n, hidden size)`` for ids of shape ``(n,)``."""
        if self.is_flat:
            return np.asarray(self.functions[self.embed](ids)[0])
        return np.asarray(self.functions[self.embed](ids[None])[0][0])

    def call(self, name: str, cache: Any, *arguments: Any) -> None:
        """Call a function of TVM's caches, where the cache is; shapes are tuples.

        Raises
        ------
        UsageError
            It refuses, with its words.
        KernelFailed
            A kernel that it calls fails.
        """
        try:
            self.functions.runtime(f"vm.builtin.{name}")(cache, *arguments)
        except (TapmlError, KernelFailed):
            raise
        except Exception as error:
            # TVM's message begins with the condition that does not hold.
            words = re.split(r" is false: |\) : ", error_line(error), maxsplit=1)[-1]
            raise UsageError(f"TVM's KV cache refuses {name}: {words}") from error

    def parts(self, ids: Array) -> list[Array]:
        """Return token ids in parts that may be prefilled at once."""
        return [ids[start : start + self.chunk] for start in range(0, len(ids), self.chunk)]


@dataclass(frozen=True, kw_only=True)
class PagedSequences:
    """A cache and the sequences in it, which are known by number.

    Each forward pass returns the first result of its function: logits, or hidden states.
    """

    engine: PagedEngine
    cache: Any
    window: SlidingWindow | None

    def _call(self, name: str, *arguments: Any) -> None:
        self.engine.call(name, self.cache, *arguments)

    def add(self, *sequences: int) -> None:
        """Add empty sequences."""
        for sequence in sequences:
            self._call("kv_state_add_sequence", sequence)
            if self.window is not None:
                slide = "attention_kv_cache_enable_sliding_window_for_seq"
                self._call(slide, sequence, self.window.size, self.window.sink)

    def fork(self, parent: int, child: int, length: int) -> None:
        """Add a sequence that shares the first ``length`` tokens of another."""
        self._call("kv_state_fork_sequence", parent, child, length)

    def pop(self, sequence: int, count: int) -> None:
        """Take the last ``count`` tokens of a sequence away."""
        self._call("kv_state_popn", sequence, count)

    def remove(self, sequence: int) -> None:
        """Remove a sequence."""
        self._call("kv_state_remove_sequence", sequence)

    def accept(self, leaves: Mapping[int, int]) -> None:
        """Keep of each sequence's last tree the tokens from its root to a leaf, by number."""
        commit = "attention_kv_cache_commit_accepted_token_tree_nodes"
        self._call(commit, tuple(leaves), tuple(leaves.values()))

    def prefill(self, sequence: int, ids: Array) -> Array:
        """Append tokens to one sequence; results of shape ``(1, n or 1, ...)``."""
        return self.forward(self.engine.prefill, {sequence: ids})

    def decode(self, sequence: int, ids: Array) -> Array:
        """Append one token to one sequence; results of shape ``(1, 1, ...)``."""
        return self.forward(self.engine.decode, {sequence: ids})

    def prefill_batch(self, tokens: Tokens, function: str = "batch_prefill") -> Array:
        """Append tokens to sequences; the results of the last token of each, ``(1, b, ...)``."""
        return self.forward(function, tokens, last_tokens(tokens))

    def decode_batch(self, tokens: Tokens, function: str = "batch_decode") -> Array:
        """Append a token to each of some sequences; results of shape ``(b, 1, ...)``."""
        return self.forward(function, tokens, is_decode=True)

    def forward(
        self,
        function: str,
        tokens: Tokens,
        *more: Array,
        tree: Sequence[int] | None = None,
        is_decode: bool = False,
    ) -> Array:
        """Run a function for tokens that are appended to sequences.

        Parameters
        ----------
        function
            Its name.
        tokens
            What is appended.
        more
            Arrays between the embeddings and the cache.
        tree
            The parent of each token, counted within its sequence's tree from 0; -1 for a root.
        is_decode
            Whether the embeddings are of shape ``(n, 1, hidden size)`` instead of
            ``(1, n, hidden size)``.
        """
        lengths = tuple(len(ids) for ids in tokens.values())
        trees = [] if tree is None else [tuple(tree)]
        self._call("kv_state_begin_forward", tuple(tokens), lengths, *trees)
        embeddings = self.engine.embedded(np.concatenate(list(tokens.values())))
        shaped = embeddings[:, None] if is_decode else embeddings[None]
        found: Array = self.engine.functions[function](shaped, *more, self.cache)[0]
        self._call("kv_state_end_forward")
        return found


def last_tokens(tokens: Tokens) -> Array:
    """Return the place of the last token of each sequence in a batch, int32."""
    return np.cumsum([len(ids) for ids in tokens.values()], dtype="int32") - np.int32(1)
