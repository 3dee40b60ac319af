"""What an engine does with a decoder and its KV cache: a few sequences of calls, by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import tvm

from relax_tapml.arrays import Array
from relax_tapml.frontend.paged_engine import (
    PagedEngine,
    PagedSequences,
    SlidingWindow,
    Tokens,
    last_tokens,
)
from relax_tapml.passes.cache_creation import AttentionKind, CacheCreation
from relax_tapml.passes.call_loose_kernels import PREFIX


@dataclass(frozen=True, kw_only=True)
class Scenario(ABC):
    """A sequence of calls that depends on lengths alone, never on what is computed."""

    name: ClassVar[str]
    """As ``--drive`` names it."""

    summary: ClassVar[str]
    """What it does, in a line."""

    needs: ClassVar[tuple[str, ...]] = ()
    """The functions that it calls beside those of every decoder, by MLC's names."""

    sequences: ClassVar[int] = 1
    """How many sequences it must at least have at once."""

    is_windowed: ClassVar[bool] = True
    """Whether its caches have the sliding window of the model, if it has one.

    TVM forks a sequence with a window within the sink only, and takes no trees of tokens for it.
    But a model with a window also makes caches without: no engine asks for one, but only there the
    kernels of full attention run that the model comes with.
    """

    def misfit(
        self,
        functions: Collection[str],
        made: CacheCreation | None,
        *,
        batch: int,
        target: tvm.target.Target | None = None,
    ) -> str | None:
        """Return why it cannot be run with a decoder; None if it can.

        Parameters
        ----------
        functions
            The names of all functions of the model.
        made
            How its caches are made; None where that is not known.
        batch
            The most sequences at once.
        target
            What the model runs on; None where that is not known.
        """
        missing = [name for name in self.needs if name not in functions]
        if missing:
            return f"the module has no {', '.join(missing)}"
        if batch < self.sequences:
            return f"it needs {self.sequences} sequences at once, the model takes {batch}"
        reason = self._misfit_of_cache(made) if made is not None else None
        return reason or (self._misfit_of_target(target) if target is not None else None)

    def _misfit_of_target(self, _target: tvm.target.Target) -> str | None:
        return None

    def _misfit_of_cache(self, _made: CacheCreation) -> str | None:
        return None

    @abstractmethod
    def run(self, engine: PagedEngine, prompt: Array, following: Array) -> list[Array]:
        """Run it with the tokens of a sample, each int32 of shape ``(n,)``; return its outputs."""


@dataclass(frozen=True, kw_only=True)
class Chat(Scenario):
    """One sequence: the prompt is prefilled part by part, every other token decoded."""

    name = "chat"
    summary = "one sequence: prefill in parts, then decode"

    def run(self, engine: PagedEngine, prompt: Array, following: Array) -> list[Array]:
        cache = engine.cache([len(prompt) + len(following)])
        return _joined(*_chat(cache, prompt, following))


@dataclass(frozen=True, kw_only=True)
class Window(Scenario):
    """``Chat`` with a window that is half as long as the prompt and slides.

    Its first token is an attention sink. The kernels of a cache with windows are others.
    """

    name = "window"
    summary = "one sequence with a sliding window, half as long as the prompt"

    def run(self, engine: PagedEngine, prompt: Array, following: Array) -> list[Array]:
        size = max(2, len(prompt) // 2)
        # A part that is longer than the window would not be cut to it.
        parts = [prompt[at : at + size] for at in range(0, len(prompt), size)]
        window = SlidingWindow(size=size, sink=1)
        cache = engine.cache([len(prompt) + len(following)], window=window)
        cache.add(0)
        prefilled = [cache.prefill(0, few) for part in parts for few in engine.parts(part)]
        return _joined(prefilled, [cache.decode(0, ids) for ids in _each(following)])

    def _misfit_of_cache(self, made: CacheCreation) -> str | None:
        other = [kind for kind in made.kinds if kind != AttentionKind.FULL]
        return "not all layers of the model have full attention" if other else None


@dataclass(frozen=True, kw_only=True)
class Fork(Scenario):
    """A sequence that is forked in the middle of a page, and has a token taken away.

    Both prefill and decode then, so kernels attend to a shared prefix and to own tokens, in turn.
    """

    name = "fork"
    summary = "a sequence forked in the middle of a page, one token taken back, both go on"
    is_windowed = False

    def run(self, engine: PagedEngine, prompt: Array, following: Array) -> list[Array]:
        engine = engine.without_window()
        new = len(following) + engine.page_size
        cache = engine.cache([len(prompt) + new, len(following) + new])
        cache.add(0)
        prefilled = [cache.prefill(0, part) for part in engine.parts(prompt)]
        cache.fork(0, 1, fork_place(len(prompt), engine.page_size))
        prefilled += [cache.prefill(1, part) for part in engine.parts(following)]
        if len(prompt) > 1:
            cache.pop(0, 1)
        decoded = [cache.decode(number, ids) for ids in _each(following) for number in (0, 1)]
        return _joined(prefilled, decoded)


@dataclass(frozen=True, kw_only=True)
class Batch(Scenario):
    """Up to three sequences of different lengths, the last of which is forked from another.

    They are prefilled together, part by part, and decode together; the first one ends before the
    others. Sequences with a sliding window are not forked: TVM allows it within the sink only.
    """

    name = "batch"
    summary = "up to three sequences of different lengths at once, one of them forked"
    needs = ("batch_prefill", "batch_decode")
    sequences = 2

    def run(self, engine: PagedEngine, prompt: Array, following: Array) -> list[Array]:
        count = min(3, engine.batch)
        is_forked = engine.window is None
        prompts = prompts_of(prompt, count - is_forked)
        lengths = [len(ids) + len(following) for ids in prompts.values()]
        if is_forked:
            lengths.append(len(following) + engine.page_size)
        cache = engine.cache(lengths)
        cache.add(*prompts)
        prefilled = [cache.prefill_batch(part) for part in batch_parts(prompts, engine.chunk)]
        if is_forked:
            parent = count - 2
            cache.fork(parent, count - 1, fork_place(len(prompts[parent]), engine.page_size))
        going = list(range(count))
        decoded = []
        for step in range(len(following)):
            if step == len(following) - 1 > 0:
                cache.remove(going.pop(0))
            tokens = {n: np.roll(following, -step - n)[:1] for n in going}
            decoded.append(cache.decode_batch(tokens))
        return [*_joined(prefilled), *_joined(decoded, axis=0)]


@dataclass(frozen=True, kw_only=True)
class _WithTrees(Scenario):
    is_windowed = False

    def _misfit_of_target(self, target: tvm.target.Target) -> str | None:
        if "cpu" in target.keys or target.kind.name == "cuda":
            return None
        return (
            "on devices other than CPUs and CUDA, TVM's cache gives its kernels for token trees a "
            "mask of one dimension, and they take one of two"
        )

    def _misfit_of_cache(self, made: CacheCreation) -> str | None:
        if AttentionKind.LATENT in made.kinds:
            return "TVM has no token trees for latent attention (MLA)"
        if made.is_rope_inline:
            return "TVM has no token trees where attention kernels rotate queries and keys"
        return None


@dataclass(frozen=True, kw_only=True)
class Tree(_WithTrees):
    """Speculative decoding: trees of drafted tokens are verified, and a path of each is kept."""

    name = "tree"
    summary = "trees of drafted tokens verified at once, a path kept, then decode"
    needs = ("batch_prefill", "batch_decode", "batch_verify")

    def run(self, engine: PagedEngine, prompt: Array, following: Array) -> list[Array]:
        cache, prompts, prefilled = _prefilled(engine.without_window(), prompt, len(_TREE) + 1)
        drafted = np.concatenate([following, prompt])
        verified = _verify(cache, prompts, drafted, _TREE)
        cache.accept(dict.fromkeys(prompts, len(_TREE) - 1))
        decoded = cache.decode_batch(dict.fromkeys(prompts, drafted[:1]))
        return [*_joined(prefilled), verified, decoded]


@dataclass(frozen=True, kw_only=True)
class Grow(_WithTrees):
    """Trees of drafted tokens that grow over two passes: the second attends to one in the cache."""

    name = "grow"
    summary = "trees of drafted tokens that grow over two passes"
    needs = ("batch_prefill", "batch_decode", "batch_verify")

    def run(self, engine: PagedEngine, prompt: Array, following: Array) -> list[Array]:
        room = len(_ROOTS) + len(_LEAVES)
        cache, prompts, prefilled = _prefilled(engine.without_window(), prompt, room)
        drafted = np.concatenate([following, prompt])
        verified = _verify(cache, prompts, drafted, _ROOTS)
        tree = _LEAVES * len(prompts)
        leaves = {n: _taken(drafted, n, len(_LEAVES)) for n in prompts}
        decoded = cache.forward("batch_decode", leaves, tree=tree, is_decode=True)
        return [*_joined(prefilled), verified, decoded]

    def _misfit_of_cache(self, made: CacheCreation) -> str | None:
        if AttentionKind.SLIDING in made.kinds:
            return (
                "in layers with a window of their own TVM calls its kernel for trees that are in "
                "the cache with lengths of another shape than the kernel takes"
            )
        return super()._misfit_of_cache(made)


_TREE = (-1, 0, 0, 1, 2)
_ROOTS = (-1,)
_LEAVES = (0, 0)
_DRAFTED = 3


def _prefilled(
    engine: PagedEngine, prompt: Array, room: int
) -> tuple[PagedSequences, Tokens, list[Array]]:
    """Return a cache with up to two sequences and their prompts, prefilled, and the logits."""
    prompts = prompts_of(prompt, min(2, engine.batch))
    cache = engine.cache(len(ids) + room for ids in prompts.values())
    cache.add(*prompts)
    parts = batch_parts(prompts, engine.chunk)
    return cache, prompts, [cache.prefill_batch(part) for part in parts]


def _verify(cache: PagedSequences, prompts: Tokens, drafted: Array, tree: tuple[int, ...]) -> Array:
    tokens = {n: _taken(drafted, n, len(tree)) for n in prompts}
    return cache.forward("batch_verify", tokens, tree=tree * len(prompts))


@dataclass(frozen=True, kw_only=True)
class HiddenStates(Scenario):
    """What a draft model is fed with: hidden states, of which the last ones become logits."""

    name = "hidden"
    summary = "the same functions up to the last hidden states, then logits of some of them"
    needs = (
        "prefill_to_last_hidden_states",
        "decode_to_last_hidden_states",
        "batch_prefill_to_last_hidden_states",
        "batch_decode_to_last_hidden_states",
        "batch_verify_to_last_hidden_states",
        "batch_select_last_hidden_states",
        "get_logits",
    )

    def run(self, engine: PagedEngine, prompt: Array, following: Array) -> list[Array]:
        prompts = prompts_of(prompt, min(2, engine.batch))
        cache = engine.cache(len(ids) + 2 + _DRAFTED for ids in prompts.values())
        cache.add(*prompts)
        drafted = np.concatenate([following, prompt])
        hidden = []
        for part in batch_parts(prompts, engine.chunk):
            if len(part) == 1:
                ((number, ids),) = part.items()
                found = cache.forward("prefill_to_last_hidden_states", {number: ids})
            else:
                found = cache.forward("batch_prefill_to_last_hidden_states", part)
            select = engine.functions["batch_select_last_hidden_states"]
            hidden.append(select(found[0], last_tokens(part))[0])
        token = dict.fromkeys(prompts, drafted[:1])
        name = "batch_decode_to_last_hidden_states"
        hidden.append(cache.forward(name, token, is_decode=True)[:, 0])
        hidden.append(cache.forward("decode_to_last_hidden_states", {0: drafted[:1]})[0])
        tokens = {n: _taken(drafted, n, _DRAFTED) for n in prompts}
        hidden.append(cache.forward("batch_verify_to_last_hidden_states", tokens)[0])
        return [engine.functions["get_logits"](np.concatenate(hidden))[0]]


@dataclass(frozen=True, kw_only=True)
class Drafts(Scenario):
    """The hidden states that a draft model starts from, kept in slots between two rounds.

    Those of the prompt's last tokens are put into every other slot of a store, and taken out again
    in another order.
    """

    name = "drafts"
    summary = "hidden states put into slots of a store and taken out again"
    needs = ("scatter_hidden_states", "gather_hidden_states", "get_logits")

    def run(self, engine: PagedEngine, prompt: Array, following: Array) -> list[Array]:
        states = engine.embedded(np.concatenate([prompt, following])[-_DRAFTED:])
        slots = np.arange(len(states), dtype="int32") * 2
        store = np.zeros((2 * len(states), states.shape[1]), states.dtype)
        (store,) = engine.functions["scatter_hidden_states"](states, slots, store)
        room = np.zeros_like(states)
        (states,) = engine.functions["gather_hidden_states"](store, slots[::-1].copy(), room)
        return [engine.functions["get_logits"](states)[0]]


@dataclass(frozen=True, kw_only=True)
class Softmax(Scenario):
    """Probabilities of the next token of two sequences with temperatures of their own."""

    name = "softmax"
    summary = "probabilities of the next tokens, with temperatures"
    needs = ("softmax_with_temperature",)

    def run(self, engine: PagedEngine, prompt: Array, following: Array) -> list[Array]:
        return [_last_probabilities(engine, prompt, following)]


@dataclass(frozen=True, kw_only=True)
class Logits(Scenario):
    """What an engine does to logits in place: a bias, penalties and a mask of allowed tokens.

    Then their probabilities are put into slots and taken out, as those of drafts are.
    """

    name = "logits"
    summary = "a bias, penalties and a mask applied to logits, probabilities kept in slots"
    needs = (
        f"{PREFIX}apply_logit_bias_inplace",
        f"{PREFIX}apply_penalty_inplace",
        f"{PREFIX}apply_bitmask_inplace",
        f"{PREFIX}scatter_probs",
        f"{PREFIX}gather_probs",
    )

    def run(self, engine: PagedEngine, prompt: Array, following: Array) -> list[Array]:
        cache = engine.cache([len(prompt) + len(following)])
        prefilled, decoded = _chat(cache, prompt, following)
        logits = np.concatenate([found[0, -1:] for found in (prefilled + decoded)[-2:]])
        count, vocabulary = logits.shape
        rows = np.arange(count, dtype="int32")
        tokens = np.resize(prompt, 2 * count)
        owners = np.repeat(rows, 2)

        def changed(name: str, *arguments: Array) -> Array:
            found: Array = engine.functions[f"{PREFIX}{name}"](*arguments)[0]
            return found

        bias = np.linspace(-1, 1, 2 * count, dtype="float32")
        biased = changed("apply_logit_bias_inplace", logits, owners, tokens, bias)
        counts = np.arange(1, 2 * count + 1, dtype="int32")
        penalties = np.resize(np.array([0.25, 0.5, 1.25], "float32"), (count, 3))
        name = "apply_penalty_inplace"
        penalized = changed(name, biased, rows, owners, tokens, counts, penalties)
        mask = np.full((count, -(-vocabulary // 32)), 0x5A5A5A5A, "int32")
        masked = changed("apply_bitmask_inplace", penalized.copy(), rows, mask)
        slots, store = 2 * rows, np.zeros((2 * count, vocabulary), "float32")
        kept = changed("scatter_probs", penalized, slots, store)
        taken = changed("gather_probs", kept, slots[::-1].copy(), np.zeros_like(penalized))
        return [masked, taken]


@dataclass(frozen=True, kw_only=True)
class Draw(Scenario):
    """Tokens drawn from probabilities, with their probabilities and the largest ones.

    In place of a random number each draw gets the middle of the interval of a token, so that no
    rounding makes it another one. Results are probabilities, which are nearly equal where it could.
    """

    name = "draw"
    summary = "tokens drawn from probabilities, and the largest probabilities"
    needs = (
        "softmax_with_temperature",
        "multinomial_from_uniform",
        "argsort_probs",
        "sampler_take_probs",
    )

    def run(self, engine: PagedEngine, prompt: Array, following: Array) -> list[Array]:
        functions = engine.functions
        found = _last_probabilities(engine, prompt, following)
        rows = _draws(len(found), engine.batch)
        likely = np.argsort(-found, kind="stable")
        uniform = [_middle(found[row], likely[row, n]) for n, row in enumerate(rows)]
        draw = functions["multinomial_from_uniform"]
        tokens = _within(draw(found, np.array(uniform, "float32"), rows)[0], found.shape[1])
        places = _within(functions["argsort_probs"](found)[1], found.shape[1])
        offsets = rows[:, None] * np.int32(found.shape[1]) + np.arange(_LARGEST, dtype="int32")
        take = functions["sampler_take_probs"]
        drawn, largest, _ = take(found, places, rows, tokens, offsets.ravel())
        return [drawn[:, None], largest[:, None]]


@dataclass(frozen=True, kw_only=True)
class TopP(Scenario):
    """Tokens drawn from the most probable ones, which together have a probability of ``p``.

    Draws are as in ``Draw``, and ``p`` is in the middle between two counts of tokens.
    """

    name = "top_p"
    summary = "tokens drawn from the most probable ones only"
    needs = ("softmax_with_temperature", "argsort_probs", "sample_with_top_p")

    def run(self, engine: PagedEngine, prompt: Array, following: Array) -> list[Array]:
        found = _last_probabilities(engine, prompt, following)
        ordered, places = engine.functions["argsort_probs"](found)
        rows = _draws(len(found), engine.batch)
        kept = [row[: _kept(row)].astype("float64") for row in ordered]
        bounds = np.array([row.sum() - row[-1] / 2 for row in kept], "float32")
        with np.errstate(all="ignore"):  # What is wrong may have no probability at all.
            uniform = [
                _middle(kept[row], n % len(kept[row])) / kept[row].sum()
                for n, row in enumerate(rows)
            ]
        draw = engine.functions["sample_with_top_p"]
        (tokens,) = draw(ordered, places, np.array(uniform, "float32"), rows, bounds)
        return [ordered, found[rows, _within(tokens, found.shape[1])][:, None]]


@dataclass(frozen=True, kw_only=True)
class Verify(_WithTrees):
    """Speculative decoding with a sampler, which decides by chance what is kept of a tree.

    Of two tokens drafted for one place the first sequence rejects one, the second none. Random
    numbers and the probabilities of drafts are far from where a decision would be another.
    """

    name = "verify"
    summary = "trees of drafted tokens verified by a sampler, and a token drawn after them"
    needs = (
        "batch_prefill",
        "batch_verify",
        "softmax_with_temperature",
        "renormalize_by_top_p",
        "sampler_verify_draft_tokens",
        "multinomial_from_uniform",
    )

    def run(self, engine: PagedEngine, prompt: Array, following: Array) -> list[Array]:
        functions, size = engine.functions, len(_CHOICE)
        cache, prompts, _ = _prefilled(engine.without_window(), prompt, size)
        drafted = np.concatenate([following, prompt])
        logits = _verify(cache, prompts, drafted, _CHOICE)[0]
        tokens = np.concatenate([_taken(drafted, n, size) for n in prompts])
        # No more rows at once than a model plans memory for.
        pieces = [logits[at : at + engine.batch] for at in range(0, len(logits), engine.batch)]
        found = np.concatenate([_renormalized(engine, _softmax(engine, rows)) for rows in pieces])
        drafts = np.full_like(found, 0.1 / found.shape[1])
        drafts[np.arange(len(tokens)), tokens] += np.float32(0.9)
        uniform = np.zeros(len(tokens), "float32")
        uniform[1] = 1
        starts = np.arange(0, len(tokens), size, dtype="int32")
        links = [_linked(each, starts) for each in ((1, -1, -1), (-1, 2, -1))]
        verify = functions["sampler_verify_draft_tokens"]
        left, ends = verify(drafts, tokens, found, *links, uniform, starts)
        rows = _within(ends, len(left))
        middles = [_middle(left[row], int(left[row].argmax())) for row in rows]
        draw = functions["multinomial_from_uniform"]
        drawn = _within(draw(left, np.array(middles, "float32"), rows)[0], left.shape[1])
        cache.accept({number: 2 if number == 0 else 1 for number in prompts})
        return [left, ends[:, None], left[rows, drawn][:, None]]


_CHOICE = (-1, 0, 0)
"""A tree: a token, and two drafted ones for the place after it."""

_LARGEST = 2
"""How many of the largest probabilities are asked for with each draw."""


def _last_probabilities(engine: PagedEngine, prompt: Array, following: Array) -> Array:
    """Return probabilities of the next token after up to two contexts, ``(n, vocabulary)``."""
    cache = engine.cache([len(prompt) + len(following)])
    prefilled, decoded = _chat(cache, prompt, following)
    rows = [logits[0, -1:] for logits in (prefilled + decoded)[-min(2, engine.batch) :]]
    return _softmax(engine, np.concatenate(rows))


def _softmax(engine: PagedEngine, logits: Array) -> Array:
    """Return probabilities of logits, both ``(n, vocabulary)``, with temperatures of their own."""
    temperatures = np.resize(np.array([0.7, 1.3], "float32"), len(logits))
    found: Array = engine.functions["softmax_with_temperature"](logits[:, None], temperatures)[0]
    return found[:, 0]


def _renormalized(engine: PagedEngine, probabilities: Array) -> Array:
    """Return probabilities without those of the least probable tokens, as MLC's sampler does."""
    bounds, pivots = [], []
    for row in probabilities:
        ordered = np.sort(row.astype("float64"))[::-1]
        count = _kept(ordered)
        bound = ordered[:count].sum() - ordered[count - 1] / 2
        rest = 1 - bound
        bounds.append(bound)
        pivots.append([min(rest, 0.5), 0.02, 0.01] if rest >= 0.02 else [rest, rest / 2, rest / 4])
    renormalize = engine.functions["renormalize_by_top_p"]
    given = (np.array(each, "float32") for each in (bounds, pivots))
    found: Array = renormalize(probabilities, *given)[0]
    return found


def _kept(ordered: Array) -> int:
    """Return how many of the largest probabilities to keep: where the next one is much smaller.

    ``ordered`` is from the largest to the smallest. What is kept has 0.5 to 0.95, if that is
    possible; with a bound in the middle of the last interval no rounding changes the number.
    """
    sums = np.cumsum(ordered, dtype="float64")
    counts = np.flatnonzero((sums >= 0.5) & (sums <= 0.95))
    if not len(counts) or counts[-1] + 1 == len(ordered):
        return max(1, int(np.searchsorted(sums, 0.5)))
    drops = ordered[counts] - ordered[counts + 1]
    return int(counts[drops.argmax()]) + 1


def _middle(probabilities: Array, token: int) -> float:
    """Return the number between 0 and 1 that is in the middle of a token's interval."""
    row = probabilities.astype("float64")
    return float(row[:token].sum() + row[token] / 2)


def _draws(rows: int, count: int) -> Array:
    """Return which row each of ``count`` draws is from, int32, in turn."""
    return np.arange(count, dtype="int32") % np.int32(rows)


def _within(numbers: Array, count: int) -> Array:
    """Return numbers that are below a count: a wrong kernel may give any, which may be read by."""
    found: Array = numbers % np.array(count, numbers.dtype)
    return found


def _linked(links: tuple[int, ...], starts: Array) -> Array:
    """Return the links of equal trees, one after another; -1 where a node has none."""
    each = np.array(links, "int32")
    return np.concatenate([np.where(each < 0, each, each + start) for start in starts])


SCENARIOS: tuple[Scenario, ...] = (
    Chat(),
    Batch(),
    Fork(),
    Tree(),
    Grow(),
    Window(),
    HiddenStates(),
    Drafts(),
    Softmax(),
    Draw(),
    TopP(),
    Verify(),
    Logits(),
)


def prompts_of(prompt: Array, count: int) -> Tokens:
    """Return ``count`` prompts of different lengths: the whole, its last half, its last third."""
    sizes = (-(-len(prompt) // (n + 1)) for n in range(count))
    return {n: prompt[len(prompt) - size :] for n, size in enumerate(sizes)}


def batch_parts(prompts: Tokens, chunk: int) -> list[Tokens]:
    """Return parts of all prompts that may be prefilled at once; short prompts end early."""
    size = max(1, chunk // len(prompts))
    longest = max(map(len, prompts.values()))
    return [
        {n: ids[at : at + size] for n, ids in prompts.items() if at < len(ids)}
        for at in range(0, longest, size)
    ]


def fork_place(length: int, page_size: int) -> int:
    """Return a place behind two thirds of a sequence, in the middle of a page if there is one."""
    place = max(1, 2 * length // 3)
    return place - 1 if place > 1 and place % page_size == 0 else place


def _chat(
    cache: PagedSequences, prompt: Array, following: Array
) -> tuple[list[Array], list[Array]]:
    cache.add(0)
    prefilled = [cache.prefill(0, part) for part in cache.engine.parts(prompt)]
    return prefilled, [cache.decode(0, ids) for ids in _each(following)]


def _each(ids: Array) -> list[Array]:
    return [ids[at : at + 1] for at in range(len(ids))]


def _taken(ids: Array, first: int, count: int) -> Array:
    return np.resize(np.roll(ids, -first), count)


def _joined(*groups: Iterable[Array], axis: int = 1) -> list[Array]:
    return [np.concatenate(found, axis=axis) for group in groups if (found := list(group))]
