"""Notes that passes leave in a module for the result of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm

_NOTES = "relax_tapml.lowering_notes"


@dataclass(frozen=True)
class Note:
    """Something that was done to a module and should be known.

    Parameters
    ----------
    text
        A sentence.
    kernels
        The kernels that it is about, by their names in the module: it is worth knowing only where
        one of them is called. Empty if it is about the whole module.
    """

    text: str
    kernels: tuple[str, ...] = ()


def notes_of(module: tvm.IRModule) -> list[Note]:
    """Return the notes in a module, the oldest first."""
    attrs = module.attrs or {}
    return [_read(item) for item in attrs.get(_NOTES, ())]


def _read(item: Any) -> Note:
    if isinstance(item, str):  # As modules on disk have them that version 0.1 wrote.
        return Note(str(item))
    text, *names = item
    return Note(str(text), tuple(map(str, names)))


def with_notes(module: tvm.IRModule, notes: Sequence[Note]) -> tvm.IRModule:
    """Return a module with more notes; the module itself without any."""
    if not notes:
        return module
    all_notes = [*notes_of(module), *notes]
    return module.with_attr(_NOTES, [[note.text, *note.kernels] for note in all_notes])
