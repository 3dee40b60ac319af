"""Notes that passes leave in a module for the result of a run."""

from __future__ import annotations

from collections.abc import Sequence

import tvm

_NOTES = "relax_tapml.lowering_notes"


def notes_of(module: tvm.IRModule) -> list[str]:
    """Return a sentence for each thing that was done to a module and should be known."""
    attrs = module.attrs or {}
    return [str(note) for note in attrs[_NOTES]] if _NOTES in attrs else []


def with_notes(module: tvm.IRModule, notes: Sequence[str]) -> tvm.IRModule:
    """Return a module with more notes; the module itself without any."""
    return module.with_attr(_NOTES, [*notes_of(module), *notes]) if notes else module
