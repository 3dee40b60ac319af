"""A model from a checkpoint folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relax_tapml.errors import LoweringError, UsageError
from relax_tapml.frontend._texts import default_texts, text_start
from relax_tapml.frontend.hf.checkpoint import Checkpoint, read_checkpoint
from relax_tapml.frontend.hf.static_cache import (
    decoder_model,
    is_decoder,
    why_no_static_cache,
)
from relax_tapml.frontend.hf.task_inputs import (
    Task,
    find_task,
    fixed_arguments,
    meaning_of,
    takes_text,
    task_of_file,
    token_ids,
)
from relax_tapml.frontend.inputs import check_files, load_samples, read_arrays
from relax_tapml.frontend.model import Model
from relax_tapml.frontend.signature import signature_of
from relax_tapml.frontend.torch_export import from_torch
from relax_tapml.passes.notes import Note, with_notes
from relax_tapml.printable import message_line

_TEXTS = 2


def load_hf(
    folder: Path,
    *,
    texts: Sequence[str] = (),
    inputs: Sequence[Path] = (),
    trust: bool = False,
) -> Model:
    """Return the model of a checkpoint folder, with samples.

    A decoder whose cache can have a fixed size becomes the functions ``prefill`` and ``decode``;
    every other model is the function ``main`` of its task, and a note of the module says why a
    decoder is. Weights, dtype and task are the
    folder's; see ``read_checkpoint``.

    Parameters
    ----------
    folder
        With ``config.json``, safetensors and a tokenizer; without weights they are drawn.
    texts
        A sample each, for a model of texts with a tokenizer; by default the first sentences of
        those that come with this package. Without a tokenizer token ids are drawn.
    inputs
        ``.npz`` and ``.safetensors`` files with the arguments of ``forward`` by name, in place of
        the samples.
    trust
        Whether pickled weights may be loaded.

    Raises
    ------
    UsageError, StoreError
        As ``read_checkpoint`` says; or texts or inputs do not fit the model.
    LoweringError
        TVM cannot import an operator.
    """
    check_files(inputs)
    checkpoint = read_checkpoint(folder, trust=trust)
    model = _of_checkpoint(checkpoint, texts, inputs)
    notes = [Note(text) for text in checkpoint.notes]
    return dataclasses.replace(model, module=with_notes(model.module, notes))


def _of_checkpoint(checkpoint: Checkpoint, texts: Sequence[str], inputs: Sequence[Path]) -> Model:
    folder = checkpoint.folder
    name = folder.resolve().name + (" (weights drawn)" if checkpoint.is_drawn else "")
    texts = _texts(checkpoint, texts)
    if not is_decoder(checkpoint.model):
        return _whole(checkpoint, texts, inputs, name)
    if inputs:
        raise UsageError(
            f"hf:{folder}: a decoder is fed with prompts, not with files. Give --text, or leave "
            "out --inputs for the samples of its own"
        )
    prompts = token_ids(checkpoint, texts)
    why = why_no_static_cache(checkpoint.model, max(prompts, key=lambda ids: int(ids.shape[1])))
    if not why:
        names = [text_start(text) for text in texts] or [
            f"{ids.shape[1]} drawn tokens, {number}" for number, ids in enumerate(prompts)
        ]
        try:
            return decoder_model(checkpoint.model, prompts, names=names, name=name)
        except (UsageError, LoweringError) as error:
            why = f"with a cache of fixed size it cannot be imported: {message_line(error)}"
    whole = _whole(checkpoint, texts, (), name)
    note = f"{checkpoint.kind} is carved as one call of the whole text, without a cache: {why}"
    return dataclasses.replace(whole, module=with_notes(whole.module, [Note(note)]))


def _texts(checkpoint: Checkpoint, texts: Sequence[str]) -> Sequence[str]:
    if not takes_text(checkpoint.model):
        if texts:
            raise UsageError(
                f"hf:{checkpoint.folder}: {checkpoint.kind} takes "
                f"{checkpoint.model.main_input_name}, not texts. Give --inputs"
            )
        return ()
    if checkpoint.tokenizer is None:
        if texts:
            raise UsageError(
                f"hf:{checkpoint.folder}: there is no tokenizer in the folder, which --text needs. "
                "Save it there with tokenizer.save_pretrained, or leave out --text for drawn tokens"
            )
        return ()
    return texts or default_texts()[:_TEXTS]


def _whole(
    checkpoint: Checkpoint, texts: Sequence[str], inputs: Sequence[Path], name: str
) -> Model:
    """Return a model as one function of whole inputs."""
    if inputs:
        task = task_of_file(checkpoint, *next(read_arrays(inputs)))
    else:
        task = find_task(checkpoint, texts)
    meaning = meaning_of(checkpoint.kind) if len(task.returns) == 1 else None
    model = from_torch(
        _task_module(checkpoint.model, task),
        dict(zip(task.takes, task.tensors[0], strict=True)),
        samples=task.tensors,
        name=name,
        meaning=meaning,
    )
    if inputs:
        signature = signature_of(model.module, model.entry, len(model.params))
        return dataclasses.replace(model, samples=load_samples(inputs, signature))
    names = [text_start(text) for text in texts] or task.names
    samples = tuple(
        dataclasses.replace(sample, name=named)
        for sample, named in zip(model.samples, names, strict=True)
    )
    return dataclasses.replace(model, samples=samples)


def _task_module(model: Any, task: Task) -> Any:
    import torch

    fixed = fixed_arguments(model)

    class TaskModule(torch.nn.Module):  # type: ignore[misc]
        """Takes the tensors of a task, returns those of its output."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, **tensors: Any) -> tuple[Any, ...]:
            found = self.model(**tensors, **fixed)
            return tuple(found[name] for name in task.returns)

    return TaskModule()
