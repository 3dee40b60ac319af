"""A run is continued only by one that does the same with its samples."""

from __future__ import annotations

import dataclasses

from relax_tapml.frontend.paged_drive import PagedDrive
from relax_tapml.migrate.identity import source_identity


def test_another_drive_is_another_source(tiny):
    """By its fields or by its code, not by where it lies in memory."""

    def inputs(drive):
        model = dataclasses.replace(tiny.model, drive=drive)
        return source_identity(model, tiny.lowered, tiny.source.kernels)["inputs"]

    def make(name):
        return lambda functions, sample: functions[name](*sample.arrays)

    assert inputs(PagedDrive(chunk=4)) == inputs(PagedDrive(chunk=4)) != inputs(PagedDrive())
    assert inputs(make("main")) == inputs(make("main")) != inputs(None)
    assert inputs(lambda functions, sample: functions["main"](sample)) != inputs(
        lambda functions, sample: functions["other"](sample)
    )
