"""Runs a decoder with a paged KV cache as an engine does: one scenario after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import tvm
from tvm import relax

from relax_tapml.arrays import Array
from relax_tapml.errors import UsageError
from relax_tapml.frontend.model import Functions, Sample
from relax_tapml.frontend.paged_engine import PagedEngine, SlidingWindow
from relax_tapml.frontend.scenarios import SCENARIOS, Chat, Scenario
from relax_tapml.passes.cache_creation import AttentionKind, CacheCreation, cache_creations


@dataclass(frozen=True, kw_only=True)
class PagedDrive:
    """The ``drive`` of a model with the functions that MLC-LLM gives its models.

    A sample is a prompt and the tokens after it, each int32 of shape ``(1, n)``. No call depends on
    logits, so each run computes logits for the same context at every position, and a rounding
    cannot change later tokens. The outputs are those of the scenarios, in their order.

    Parameters
    ----------
    scenarios
        What is done with each sample.
    embed, prefill, decode, create
        Names of functions: token ids to embeddings; embeddings and cache to logits (and cache);
        sizes to a cache. Scenarios call other functions by MLC's names.
    sequence_length
        Tokens for which a cache has room; None for those of the scenario. A recording holds all
        pages of the cache for each call that writes to it, so unused room costs memory.
    page_size
        Tokens in a page of it.
    chunk
        Tokens that are prefilled at once, of all sequences together. Later tokens of a longer
        prompt attend to a cache that is not empty, with other kernels than the first ones. None for
        all tokens.
    batch
        The most sequences at once.
    is_flat
        Whether ``embed`` takes and returns tokens without the axis of the batch, as MLC's does.
    window
        The sliding window of each sequence, of a model that engines always run with one.
    """

    scenarios: tuple[Scenario, ...] = (Chat(),)
    embed: str = "embed"
    prefill: str = "prefill"
    decode: str = "decode"
    create: str = "create_tir_paged_kv_cache"
    sequence_length: int | None = None
    page_size: int = 16
    chunk: int | None = None
    batch: int = 3
    is_flat: bool = False
    window: SlidingWindow | None = None

    def __post_init__(self) -> None:
        for name, least in (("chunk", self.chunk), ("batch", self.batch)):
            if least is not None and least < 1:
                raise UsageError(f"{name} {least}: expected at least 1")

    def __call__(self, functions: Functions, sample: Sample) -> list[Array]:
        """Run a sample; see the class."""
        prompt, following = (array[0] for array in sample.arrays)
        engine = self.engine(functions, len(prompt))
        return [out for one in self.scenarios for out in one.run(engine, prompt, following)]

    def with_all(self, module: tvm.IRModule, target: tvm.target.Target | None = None) -> PagedDrive:
        """Return the drive with all scenarios that the functions and caches of a module allow.

        ``target`` is what it will run on, if that is known.
        """
        misfits = self.misfits(module, SCENARIOS, target)
        return dataclasses.replace(
            self, scenarios=tuple(one for one in SCENARIOS if one not in misfits)
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What it does that no engine does, a sentence each."""
        names = [one.name for one in self.scenarios if not one.is_windowed]
        if self.window is None or not names:
            return ()
        return (
            f"scenarios {', '.join(names)} ran without the model's sliding window of "
            f"{self.window.size} tokens, with which TVM forks no sequence and verifies no tree. No "
            "engine does so, but the kernels of full attention run nowhere else",
        )

    def misfits(
        self,
        module: tvm.IRModule,
        scenarios: Iterable[Scenario],
        target: tvm.target.Target | None = None,
    ) -> dict[Scenario, str]:
        """Return which of some scenarios a module does not allow, and why not."""
        made = self._creation(module)
        functions = _functions(module)
        found = {
            one: one.misfit(functions, made, batch=self.batch, target=target) for one in scenarios
        }
        return {one: reason for one, reason in found.items() if reason is not None}

    def check(self, module: tvm.IRModule) -> None:
        """Check, before anything runs, that the scenarios can be run with a module.

        Raises
        ------
        UsageError
            A function is missing, caches have pages of another size or layers that TVM cannot run,
            or a scenario does not fit.
        """
        functions = _functions(module)
        wanted = (self.embed, self.prefill, self.decode, self.create)
        missing = [name for name in wanted if name not in functions]
        if missing:
            raise UsageError(
                f"a decoder with a paged KV cache has functions that embed, prefill, decode and "
                f"create a cache, and the module has no {', '.join(missing)}. Name its own ones"
            )
        made = self._creation(module)
        if made is not None:
            self._check_cache(made, module)
        for one, reason in self.misfits(module, self.scenarios).items():
            raise UsageError(f"scenario {one.name} cannot be run: {reason}")

    def _check_cache(self, made: CacheCreation, module: tvm.IRModule) -> None:
        built_for = made.page_size(module)
        if built_for not in (None, self.page_size):
            raise UsageError(
                f"page_size {self.page_size}: TVM has built the kernels of the KV cache that "
                f"{self.create} makes for pages of {built_for} tokens. Give page_size={built_for}"
            )
        if made.kinds and set(made.kinds) == {AttentionKind.SLIDING}:
            raise UsageError(
                f"all layers of the KV cache that {self.create} makes have a sliding window of "
                "their own (mha_sliding). TVM's cache then allocates no memory for queries, keys "
                "and values (it does so for layers with full attention only), and its first "
                "forward pass would end the process. Such a model needs at least one layer of the "
                "kind mha"
            )

    def _creation(self, module: tvm.IRModule) -> CacheCreation | None:
        return next((c for c in cache_creations(module) if c.gvar.name_hint == self.create), None)

    def engine(self, functions: Functions, longest: int) -> PagedEngine:
        """Return what scenarios are run with, for a prompt of ``longest`` tokens."""
        return PagedEngine(
            functions=functions,
            embed=self.embed,
            prefill=self.prefill,
            decode=self.decode,
            create=self.create,
            page_size=self.page_size,
            room=self.sequence_length,
            chunk=self.chunk or longest,
            batch=self.batch,
            is_flat=self.is_flat,
            window=self.window,
        )


def _functions(module: tvm.IRModule) -> set[str]:
    found = module.functions.items()
    return {gvar.name_hint for gvar, one in found if isinstance(one, relax.Function)}


def scenario_named(name: str) -> Scenario:
    """Return a scenario by its name. Raises ``UsageError`` if there is none."""
    for one in SCENARIOS:
        if one.name == name:
            return one
    known = "\n".join(f"  {one.name}: {one.summary}" for one in SCENARIOS)
    raise UsageError(f"no scenario '{name}'. Scenarios are:\n{known}")
