"""A run is continued only by one that does the same with its samples."""

from __future__ import annotations

import dataclasses
from types import FunctionType

from relax_tapml.frontend.paged_drive import PagedDrive
from relax_tapml.migrate.identity import source_identity


def test_another_drive_is_another_source(tiny):
    """By its fields or by its code, not by where it lies in memory."""

    def inputs(drive):
        model = dataclasses.replace(tiny.model, drive=drive)
        return source_identity(model, tiny.lowered, tiny.source.kernels)["inputs"]

    assert inputs(PagedDrive(chunk=4)) == inputs(PagedDrive(chunk=4)) != inputs(PagedDrive())
    assert len({inputs(None), inputs(once), inputs(twice), inputs(print), inputs(Caller())}) == 5
    # What is in a comprehension has an address of its own each time it is compiled.
    assert inputs(once) == inputs(FunctionType(once.__code__.replace(), globals()))
    assert inputs(Caller()) == inputs(Caller())


def once(functions, sample):
    return [functions["main"](array) for array in sample.arrays]


def twice(functions, sample):
    return [functions["main"](array) for array in sample.arrays * 2]


class Caller:
    def __call__(self, functions, sample):
        return functions["main"](*sample.arrays)
