"""Texts for a tokenizer of ``transformers``."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator
from importlib import resources
from typing import Any


@contextlib.contextmanager
def silent(transformers: Any) -> Iterator[None]:
    """Keep transformers' progress bars and advice off stderr, which is for the progress of a run.

    Errors still raise.
    """
    logging = transformers.utils.logging
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()


def text_start(text: str) -> str:
    """Return the first words of a text, as the name of a sample."""
    return textwrap.shorten(text, 40, placeholder="...") or "(empty)"


def default_texts() -> list[str]:
    """Return the sentences that come with the package."""
    file = resources.files("relax_tapml.frontend") / "minilm_sentences.txt"
    return file.read_text(encoding="utf-8").splitlines()
