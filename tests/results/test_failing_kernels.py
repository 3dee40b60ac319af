from __future__ import annotations

from pathlib import Path

import pytest

from relax_tapml.results.failing_kernels import read_failing_kernel, write_failing_kernel


@pytest.mark.parametrize("unit", ["gelu", "../../etc/passwd", "a/b", "x" * 300])
def test_files_of_any_unit_are_in_the_folder(tmp_path: Path, unit: str) -> None:
    write_failing_kernel(tmp_path, unit, "script", ".cu", "source")
    assert {path.parent for path in tmp_path.rglob("*.*")} == {tmp_path / "failing"}
    found = read_failing_kernel(tmp_path, unit, most_bytes=3)
    assert found.script is not None
    assert (found.script.text, found.script.size_bytes, found.script.is_whole) == ("scr", 6, False)
    assert found.source is not None
    assert found.source.name.endswith(".cu")


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    """A unit without generated source has no file for it."""
    write_failing_kernel(tmp_path, "gelu", "script", "", "")
    found = read_failing_kernel(tmp_path, "gelu", most_bytes=10)
    assert found.script is not None
    assert found.script.is_whole
    assert found.source is None
    nothing = read_failing_kernel(tmp_path, "other", most_bytes=10)
    assert (nothing.script, nothing.source) == (None, None)


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of"):
        write_failing_kernel(tmp_path, "gelu", "script", ".exe", "source")
