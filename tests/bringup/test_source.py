import dataclasses

import numpy as np
import pytest
from tiny_model import in_numpy, misread_by_the_importer

from relax_tapml.bringup._source import Source, sample_label
from relax_tapml.capture.store import CaptureStore
from relax_tapml.compare.verdict import Verdict
from relax_tapml.errors import LoweringError, SourceError


def other_source(tiny, **changes):
    built = tiny.sides
    model = dataclasses.replace(tiny.model, **changes)
    return Source(model, built.host_units, built.source, built.device_kernels, tiny.library)


def test_outputs_are_flat_and_those_of_the_framework(tiny):
    """Nested tuples come left to right."""
    for sample, outputs in zip(tiny.model.samples, tiny.oracles, strict=True):
        expected = in_numpy(*sample.arrays, **tiny.model.params)
        assert [array.shape for array in outputs] == [(4, 8), (4,), (4, 4)]
        for actual, oracle in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(actual, oracle, rtol=1e-4, atol=1e-5)


def test_the_source_is_compared_with_the_framework(tiny):
    """The worst output of all samples decides; without a framework nothing is compared."""
    assert tiny.source.check_import(tiny.oracles).verdict is Verdict.PASS
    misread = other_source(tiny, reference=misread_by_the_importer().reference)
    check = misread.check_import(tiny.oracles)
    assert check.verdict is Verdict.MISMATCH
    assert check.apart == pytest.approx(0.01 * np.abs(tiny.oracles[0][0]).max(), rel=1)
    assert other_source(tiny, reference=None).check_import(tiny.oracles) is None


def test_every_sample_is_captured_once(tiny, tmp_path):
    """Called again it changes nothing: a complete sample is not run any more."""
    folder = tmp_path / "captures"
    stats = tiny.source.capture(folder, tiny.oracles).stats()
    assert (stats.samples, stats.incomplete_samples, stats.calls) == (2, 0, 18)
    assert stats.parameters == 2
    nothing = other_source(tiny)
    nothing.host.upload = None
    assert nothing.capture(folder, tiny.oracles).stats() == stats
    assert CaptureStore.open(folder).samples() == ["000 first", "001 second"]


def test_a_sample_whose_capture_gave_other_outputs_is_not_kept(tiny, tmp_path):
    """It is no oracle; a later capture records it again."""
    folder = tmp_path / "captures"
    wrong = [tiny.oracles[0], [array + 1 for array in tiny.oracles[1]]]
    with pytest.raises(SourceError, match=r"^sample 'second': two runs of the source gave diff"):
        tiny.source.capture(folder, wrong)
    assert CaptureStore.open(folder).incomplete_samples() == ["001 second"]
    stats = tiny.source.capture(folder, tiny.oracles).stats()
    assert (stats.samples, stats.incomplete_samples, stats.calls) == (2, 0, 18)


def test_a_capture_killed_before_its_store_was_whole_is_done_again(tiny, tmp_path):
    """The folder and the beginnings of an index are no store."""
    folder = tmp_path / "captures"
    (folder / "segments").mkdir(parents=True)
    (folder / "index.sqlite.tmp").write_bytes(b"SQLite format 3")
    stats = tiny.source.capture(folder, tiny.oracles).stats()
    assert (stats.samples, stats.incomplete_samples, stats.calls) == (2, 0, 18)


def test_a_source_needs_all_its_kernels(tiny):
    """The unit that does not build is named."""
    kernels = dataclasses.replace(tiny.sides.device_kernels, failed={"sum": "no schedule"})
    with pytest.raises(LoweringError) as caught:
        Source(tiny.model, tiny.sides.host_units, tiny.sides.source, kernels, tiny.library)
    assert str(caught.value) == (
        "the source cannot be built: unit sum: no schedule. The source must run the whole model; "
        "choose another --source"
    )


def test_samples_of_one_name_are_told_apart():
    """A folder of samples may have two of one name."""
    assert [sample_label(i, "same.npz") for i in (0, 12)] == ["000 same.npz", "012 same.npz"]
