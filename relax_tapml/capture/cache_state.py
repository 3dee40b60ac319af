"""The state of a KV cache in a recorded call: how it came to be, and what was in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

import msgspec

from relax_tapml.capture.values import CallRecord, TensorValue, Value
from relax_tapml.errors import NotCarvableError


class Happening(StrEnum):
    """What a call of the runtime does to sequences of a cache."""

    ADD = "add"
    REMOVE = "remove"
    FORK = "fork"
    POP = "pop"
    WINDOW = "window"
    FORWARD = "forward"


# How many sizes every cache is made with; see ``CacheState.config``.
_SIZES = 5


@dataclass(frozen=True, kw_only=True)
class CacheEvent:
    """A call that changed sequences, or forward passes that followed one another.

    Parameters
    ----------
    what
        What it does.
    sequences
        Their ids; of ``FORK`` the parent and the child.
    numbers
        Of ``FORK`` the tokens that are shared, or -1 for all; of ``POP`` how many tokens; of
        ``WINDOW`` its size and how many of its tokens never leave it; of ``FORWARD`` how many
        tokens are added to each sequence.
    tree
        Of ``FORWARD`` the parent of each token within the tree of its sequence, where there is one.
    """

    what: Happening
    sequences: tuple[int, ...]
    numbers: tuple[int, ...]
    tree: tuple[int, ...] | None = None

    @property
    def added(self) -> Iterator[tuple[int, int]]:
        """Each sequence of a forward pass, with the number of tokens that it adds."""
        return zip(self.sequences, self.numbers, strict=True)


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Keys and values of a sequence, each of shape ``(1, tokens, heads, head size)``."""

    keys: TensorValue
    values: TensorValue


@dataclass(frozen=True, kw_only=True)
class CacheState:
    """What a recorded call found in its KV cache.

    Parameters
    ----------
    maker
        The function of the module that made the cache.
    config
        The sizes that it was made with: sequences, tokens, tokens at once, tokens in a page,
        whether windows slide, and perhaps how far in layers with a window of their own.
    held
        How many tokens of each sequence of the batch it held when the pass began.
    events
        What led to the state, for the sequences of the batch and those that they share tokens with;
        the last is the pass in which the call was made.
    """

    maker: str
    config: tuple[int, ...]
    held: tuple[int, ...]
    events: tuple[CacheEvent, ...]

    @classmethod
    def of(cls, values: tuple[Value, ...]) -> CacheState:
        """Read the state that ``InsertCapture`` has put before the inputs of a call.

        Raises
        ------
        NotCarvableError
            The cache could not be read; the reason is there instead.
        """
        if values and isinstance(values[0], str):
            raise NotCarvableError(values[0])
        try:
            state = msgspec.json.decode(str(values[1]), type=cls)
        except (IndexError, msgspec.MsgspecError) as error:
            raise NotCarvableError(f"its capture has no state of its KV cache: {error}") from None
        batch = state.events[-1] if state.events else None
        lengths = {len(state.held)} if batch is None else {len(state.held), len(batch.numbers)}
        if batch is None or {len(batch.sequences)} != lengths or len(state.config) < _SIZES:
            raise NotCarvableError("its capture has no forward pass of its KV cache")
        return state

    @property
    def batch(self) -> CacheEvent:
        """The pass in which the call was made."""
        return self.events[-1]

    @property
    def behind(self) -> int:
        """The place of the first input of the call that is not of the cache."""
        return 2 + 2 * sum(count > 0 for count in self.held)

    @property
    def page_size(self) -> int:
        """Tokens in a page."""
        return self.config[3]

    @property
    def context(self) -> int:
        """The most tokens that a token of the call attends to, as if there were no window."""
        return max(n + more for n, more in zip(self.held, self.batch.numbers, strict=True))

    @property
    def kind(self) -> str:
        """What is special about it, in words; the same for states that nothing sets apart."""
        happened = Counter(event.what for event in self.events)
        added = self.batch.numbers
        found = ["decode" if set(added) == {1} else "prefill"]
        if 1 in added and set(added) != {1}:
            found = ["prefill and decode"]
        elif found == ["prefill"] and any(self.held):
            found = ["prefill after others"]
        found.append(f"of {'several sequences' if len(added) > 1 else 'a sequence'}")
        if any(event.tree for event in self.events[:-1]):
            found.append("on a token tree")
        if self.batch.tree:
            found.append("as a token tree")
        if happened[Happening.FORK]:
            found.append("with a fork")
        if happened[Happening.POP]:
            found.append("after tokens were popped")
        if happened[Happening.WINDOW]:
            found.append(self._window)
        return " ".join(found)

    @property
    def _window(self) -> str:
        windows = {e.sequences[0]: e.numbers for e in self.events if e.what is Happening.WINDOW}
        tokens: Counter[int] = Counter()
        for event in self.events:
            if event.what is Happening.FORWARD:
                tokens.update(dict(event.added))
        has_moved = any(tokens[sequence] > size for sequence, (size, _) in windows.items())
        sink = " and a sink" if any(sink for _, sink in windows.values()) else ""
        return f"with a window{sink}" + (" that has moved" if has_moved else "")

    def split(
        self, record: CallRecord, *, is_appended: bool
    ) -> tuple[list[Tokens], list[Tokens], CallRecord]:
        """Take what a record has of the cache out of it.

        Parameters
        ----------
        record
            A call that returned.
        is_appended
            Whether the call adds tokens to the cache.

        Returns
        -------
        before, after
            The tokens of each sequence that has some when the pass begins, and of each sequence
            after the call, none if nothing is added.
        record
            The rest: what else the call takes and returns.

        Raises
        ------
        NotCarvableError
            Something is missing, or the cache could not be read after the call.
        """
        first = self.behind
        outputs = record.outputs or ()
        behind = 2 * len(self.held) if is_appended else 0
        if is_appended and outputs and isinstance(outputs[-1], str):
            raise NotCarvableError(outputs[-1])
        before = list(_tokens(record.inputs[2:first]))
        after = list(_tokens(outputs[len(outputs) - behind :]))
        if (2 * len(before), 2 * len(after)) != (first - 2, behind):
            raise NotCarvableError("its capture lacks keys and values of its KV cache")
        rest = replace(
            record, inputs=record.inputs[first:], outputs=outputs[: len(outputs) - behind]
        )
        return before, after, rest


def state_kind(record: CallRecord) -> str | None:
    """Return what is special about the state that a call found; None if it has no state."""
    try:
        return CacheState.of(record.inputs).kind if record.inputs[:1] == (None,) else None
    except NotCarvableError:
        return None


def _tokens(values: tuple[Value, ...]) -> Iterator[Tokens]:
    for keys, held in zip(values[::2], values[1::2], strict=False):
        if isinstance(keys, TensorValue) and isinstance(held, TensorValue):
            yield Tokens(keys=keys, values=held)
