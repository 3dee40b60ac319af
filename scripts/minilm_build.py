"""MiniLM lowered and built for llvm, as the benchmarks use it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm

from relax_tapml.frontend.load import load_model
from relax_tapml.frontend.model import Model
from relax_tapml.frontend.signature import check_model
from relax_tapml.partition.hybrid import Host
from relax_tapml.partition.kernel_library import KernelLibrary, KernelSet
from relax_tapml.partition.lower import lower, mark_inputs
from relax_tapml.partition.prepare_side import prepare_side

LLVM = tvm.target.Target("llvm")
# Each of these words is one token.
_SUBJECTS = ("the river", "my neighbour", "a compiler", "this kernel", "the train", "nobody")
_VERBS = ("crosses", "measures", "repeats", "carries", "sees", "follows", "paints", "remembers")
_OBJECTS = ("a bridge", "the question", "every number", "two letters", "some bread", "its name")
_JOINTS = ("and", "while", "because", "but")
_OWN_TOKENS = 2  # The tokenizer's, at the beginning and the end.


def sentences(count: int, tokens: int) -> list[str]:
    """Return different sentences of ``tokens`` tokens, the same ones every time."""
    draw = random.Random(0)
    found: dict[str, None] = {}
    while len(found) < count:
        words: list[str] = []
        while len(words) < tokens - _OWN_TOKENS:
            words += draw.choice(_JOINTS).split() if words else []
            for part in (_SUBJECTS, _VERBS, _OBJECTS):
                words += draw.choice(part).split()
        found[" ".join(words[: tokens - _OWN_TOKENS])] = None
    return list(found)


@dataclass(frozen=True, kw_only=True)
class MiniLM:
    """The model, its lowered module and everything built from it."""

    model: Model
    lowered: tvm.IRModule
    units: tvm.IRModule
    library: KernelLibrary
    kernels: KernelSet
    host: Host

    def arguments(self, index: int) -> list[Any]:
        """Return what the entry function takes for a sample."""
        arrays = self.model.samples[index].arrays
        return [*(self.host.upload(array) for array in arrays), *self.host.weights]


def build_minilm(folder: Path, *, texts: int, tokens: int = 11) -> MiniLM:
    """Load MiniLM with different sentences and build it, with kernels in ``folder``."""
    model = load_model("minilm", texts=sentences(texts, tokens))
    signature = check_model(model)
    lowered = lower(mark_inputs(model.module, model.entry, len(signature.inputs)))
    units = prepare_side(lowered, LLVM)
    library = KernelLibrary(folder)
    kernels = library.build(units, LLVM)
    return MiniLM(
        model=model,
        lowered=lowered,
        units=units,
        library=library,
        kernels=kernels,
        host=Host(LLVM, kernels.files(), model.params),
    )
