"""MiniLM lowered and built for llvm, as the benchmarks use it."""

from __future__ import annotations

import random
from pathlib import Path

from built_model import BuiltModel, build_model

from relax_tapml.frontend.load.load_model import load_model

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


def build_minilm(folder: Path, *, texts: int, tokens: int = 11) -> BuiltModel:
    """Load MiniLM with different sentences and build it, with kernels in ``folder``."""
    return build_model(load_model("minilm", texts=sentences(texts, tokens)), folder)
