"""What differs between Linux and macOS, each way of it tried on the system at hand."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_tapml import system


@pytest.fixture(params=["reserved", "written"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of making room: that of Linux, and that of macOS."""
    if request.param == "written":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    elif not hasattr(os, "posix_fallocate"):
        pytest.skip("this system has no posix_fallocate")
    return request.param


@given(held=st.binary(max_size=5000), size_bytes=st.integers(1, 3 << 20))
def test_a_file_gets_room_and_keeps_its_content(
    held: bytes, size_bytes: int, way: str, tmp_path: Path
) -> None:
    """And has no hole, whose first write could fail."""
    path = tmp_path / "file"
    path.write_bytes(held)
    with path.open("r+b") as file:
        file.seek(min(3, len(held)))
        system.reserve(file.fileno(), size_bytes)
        assert file.tell() == min(3, len(held))
        status = os.fstat(file.fileno())
    content = path.read_bytes()
    assert content == held + bytes(max(0, size_bytes - len(held)))
    assert status.st_blocks * 512 >= status.st_size


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_without_room_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    with (
        Path("/dev/full").open("r+b", buffering=0) as file,
        pytest.raises(OSError, match="space") as caught,
    ):
        system.reserve(file.fileno(), 100)
    assert caught.value.errno == errno.ENOSPC


class _OfMacOS:
    """The C library of macOS, as far as it moves files."""

    def __init__(self) -> None:
        self._linux = ctypes.CDLL(None)

    def __getattr__(self, name: str) -> object:
        if name != "renamex_np":
            raise AttributeError(name)
        return lambda one, other, flags: self._linux.renameat2(-100, one, -100, other, flags)


@pytest.mark.parametrize("library", ["own", "macos", "neither"])
def test_two_folders_are_exchanged_or_left(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the C library has; where it has nothing both stay as they are."""
    if library == "macos" and not hasattr(ctypes.CDLL(None), "renameat2"):
        pytest.skip("tried as own")
    stand_in = {"macos": _OfMacOS, "neither": object}.get(library)
    if stand_in is not None:
        made = stand_in()
        monkeypatch.setattr(ctypes, "CDLL", lambda _: made)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    is_done = system.exchange(tmp_path / "one", tmp_path / "other")
    assert is_done == (library != "neither")
    assert (tmp_path / "one" / ("other" if is_done else "one")).exists()
    assert not system.exchange(tmp_path / "one", tmp_path / "missing")


@pytest.mark.parametrize(
    ("is_macos", "macos", "expected"),
    [
        (False, None, "apt-get install -y --no-install-recommends nodejs npm"),
        (True, "brew install node", "brew install node"),
        (True, None, "it is not for macOS: use a machine with Linux"),
    ],
)
def test_each_system_has_its_command(
    is_macos: bool, macos: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "IS_MACOS", is_macos)
    assert system.install_command(debian="nodejs npm", macos=macos) == expected
