"""Drives that do to KV caches what they are told, and what is recorded and carved of it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import paged_llm

from relax_tapml import bringup
from relax_tapml.capture.store import CaptureStore
from relax_tapml.carve.select.call_work import UnitWork
from relax_tapml.carve.select.choose_cases import Case, choose_cases
from relax_tapml.carve.write_suite import write_suite
from relax_tapml.frontend.model import Functions, Model, Sample
from relax_tapml.passes.annotate_sites import annotated_calls
from relax_tapml.suite.open_suite import Suite

ATTENTION = "vm.builtin.attention_kv_cache_attention_with_fused_qkv"
PAGE = 16  # Tokens in a page.
LLVM = bringup.SideSpec.of("llvm")

Step = tuple[Any, ...]
"""``("add", 0)``, ``("fork", 0, 1, 13)``, ``("pop", 0, 3)``, ``("remove", 0)``, ``("window", 0, 20,
4)``, ``("forward", {0: 5, 1: 1})``, ``("tree", {0: (-1, 0, 0)})``, ``("accept", {0: 2})``."""

_BUILTINS = {
    "add": "kv_state_add_sequence",
    "fork": "kv_state_fork_sequence",
    "pop": "kv_state_popn",
    "remove": "kv_state_remove_sequence",
    "window": "attention_kv_cache_enable_sliding_window_for_seq",
}


def driven(caches: Sequence[Sequence[Step]], *, tokens: int = 400, **options: Any) -> Model:
    """Return the decoder with a drive that does these steps to a cache each.

    A cache slides windows if one of its steps is ``window``. ``options`` are those of
    ``paged_llm``.
    """

    def drive(functions: Functions, sample: Sample) -> list[Any]:
        ids = sample.arrays[0][0]
        return [out for steps in caches for out in _run(functions, steps, ids, tokens)]

    return dataclasses.replace(paged_llm.model(prompts=(97,), **options), drive=drive)


def _run(functions: Functions, steps: Sequence[Step], ids: Any, tokens: int) -> Iterator[Any]:
    slides = any(what == "window" for what, *_ in steps)
    sizes = (8, tokens, tokens, PAGE, int(slides))
    (cache,) = functions["create_cache"](*((size,) for size in sizes))
    at = 0
    for what, *values in steps:
        if what in _BUILTINS:
            functions.runtime(f"vm.builtin.{_BUILTINS[what]}")(cache, *values)
            continue
        (batch,) = values
        if what == "accept":
            commit = "vm.builtin.attention_kv_cache_commit_accepted_token_tree_nodes"
            functions.runtime(commit)(cache, tuple(batch), tuple(batch.values()))
            continue
        is_tree = what == "tree"
        counts = tuple(len(tree) if is_tree else tree for tree in batch.values())
        tree = [tuple(parent for one in batch.values() for parent in one)] if is_tree else []
        functions.runtime("vm.builtin.kv_state_begin_forward")(cache, tuple(batch), counts, *tree)
        chosen = np.resize(np.roll(ids, -at), (1, sum(counts)))
        at += sum(counts)
        yield functions["prefill"](functions["embed"](chosen)[0], cache)[0]
        functions.runtime("vm.builtin.kv_state_end_forward")(cache)


def random_steps(rng: random.Random, *, length: int, window: bool, trees: bool) -> list[Step]:
    """Return steps that TVM's caches allow."""
    steps: list[Step] = []
    lengths: dict[int, int] = {}
    windows: dict[int, tuple[int, int]] = {}
    free = iter(range(100, 1000))

    def add() -> None:
        number = rng.choice([next(free), *[n for n in range(4) if n not in lengths]])
        lengths[number] = 0
        steps.append(("add", number))
        if window and rng.random() < 0.7:
            size = rng.choice([3, 16, 20, 33])
            windows[number] = (size, rng.choice([0, 1, min(size - 1, 17)]))
            steps.append(("window", number, *windows[number]))

    add()
    while len(steps) < length:
        what = rng.choice(["add", "fork", "pop", "remove", *["forward"] * 5, *["tree"] * trees])
        full = [n for n in lengths if lengths[n] and n not in windows]
        some = rng.choice(list(lengths))
        if what == "add" and len(lengths) < 5:
            add()
        elif what == "fork" and full and len(lengths) < 5:
            parent, child = rng.choice(full), next(free)
            at = rng.choice([-1, rng.randint(1, lengths[parent]), lengths[parent] // PAGE * PAGE])
            at = at or -1
            lengths[child] = lengths[parent] if at == -1 else at
            steps.append(("fork", parent, child, at))
        elif what == "pop" and lengths[some] > 1 and some not in windows:
            count = rng.randint(1, lengths[some] - 1)
            lengths[some] -= count
            steps.append(("pop", some, count))
        elif what == "remove" and len(lengths) > 1:
            del lengths[some]
            windows.pop(some, None)
            steps.append(("remove", some))
        elif what == "forward":
            batch = rng.sample(sorted(lengths), rng.randint(1, len(lengths)))
            most = [windows[n][0] - windows[n][1] for n in batch if n in windows]
            choices = rng.choice([[1], [1, 5], [1, 17, 24]])
            counts = {n: min([rng.choice(choices), *most]) for n in batch}
            for n, count in counts.items():
                lengths[n] += count
            steps.append(("forward", counts))
        elif what == "tree" and full and not windows:
            batch = rng.sample(full, rng.randint(1, len(full)))
            trees_of = {
                n: tuple(rng.randint(-1, place - 1) for place in range(rng.randint(1, 5)))
                for n in batch
            }
            steps.append(("tree", trees_of))
            leaves = {n: rng.randint(-1, len(tree) - 1) for n, tree in trees_of.items()}
            steps.append(("accept", leaves))
            for n, tree in trees_of.items():
                leaf = leaves[n]
                while leaf != -1:
                    lengths[n] += 1
                    leaf = tree[leaf]
    return steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recorded:
    """The calls of attention that a drive has made."""

    folder: Path
    lowered: Any
    store: CaptureStore

    @classmethod
    def of(cls, model: Model, folder: Path, kernels: Path | None = None) -> Self:
        """Run a model with its drive, with capture."""
        lowered = bringup.lower_model(model)
        built = bringup.build_source(model, lowered, LLVM, kernels or folder / "kernels")
        store = bringup.capture(bringup.trust_source(built), folder / "captures")
        return cls(folder=folder, lowered=lowered.module, store=store)

    def cases(self, most: int = 3, unit: str = ATTENTION) -> list[Case]:
        """Return the calls of a unit that become cases."""
        calls = list(annotated_calls(self.lowered))
        work = UnitWork(self.lowered, {site.id: call for site, call in calls})
        sites = [site for site, _ in calls if site.unit == unit]
        return choose_cases(self.store, sites, most, work=work)

    def suite(self, cases: Sequence[Case], name: str = "tests") -> Suite:
        """Return a suite of cases, in a folder of that name."""
        return write_suite(
            self.folder / name,
            cases,
            lowered=self.lowered,
            store=self.store,
            source=LLVM.target,
            is_probed=False,
        )
