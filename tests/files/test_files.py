"""Files are read with suspicion, and written as a whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relax_tapml.errors import StoreError, UsageError
from relax_tapml.files.lock import FolderLock
from relax_tapml.files.names import file_stem
from relax_tapml.files.read import parse_json, read_bytes, read_json, typed
from relax_tapml.files.replace import new_file, new_folder, write_file
from relax_tapml.files.scratch import scratch_folder, sweep

FIX = "Make it again"


@dataclass(frozen=True, kw_only=True)
class _Inner:
    name: str
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.name == "forbidden":
            raise ValueError("a name is forbidden")


@dataclass(frozen=True, kw_only=True)
class _Outer(_Inner):
    share: float
    inner: _Inner


@given(st.text(), st.text())
def test_stems_are_words_and_no_two_names_share_one(one: str, other: str) -> None:
    stems = [file_stem(one), file_stem(other)]
    assert all((stem.isascii() and stem.isidentifier()) or stem[0].isdigit() for stem in stems)
    assert all(len(stem) <= 80 for stem in stems)
    assert (stems[0] == stems[1]) == (one == other)


def test_a_stem_is_the_name_where_that_can_be_a_file() -> None:
    assert file_stem("fused_matmul_add2") == "fused_matmul_add2"
    assert "/" not in file_stem("../../etc/evil")
    assert file_stem("a" * 300) != file_stem("a" * 301)


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 100_000, "[" * 500 + "]" * 500, "{", "\0"),
        *("NaN", "[1e999]", "9" * 10_000, str(10**30), str(-(2**64))),
        *('"\ud800', '["\\ud800"]', '{"\\udc00": 1}'),
    ],
)
def test_what_is_no_sound_json_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match=FIX):
        parse_json(text.encode(errors="surrogatepass"), Path("x.json"), fix=FIX)


def test_a_value_has_the_types_of_its_dataclass_or_is_refused() -> None:
    good = {"name": "x", "counts": [1, 2], "share": 1, "inner": {"name": "y", "counts": []}}
    found = typed(good, _Outer, "x.json", fix=FIX)
    assert found == _Outer(name="x", counts=(1, 2), share=1.0, inner=_Inner(name="y", counts=()))
    for place, value in (("name", 1), ("counts", [1.5]), ("counts", [True]), ("share", "1")):
        with pytest.raises(StoreError, match=rf"\$\.{place}.*{FIX}"):
            typed({**good, place: value}, _Outer, "x.json", fix=FIX)
    for value in (None, [], {"name": "forbidden", "counts": []}, {"name": "y"}):
        with pytest.raises(StoreError, match=r"\$\.inner"):
            typed({**good, "inner": value}, _Outer, "x.json", fix=FIX)


def test_a_pipe_a_folder_and_a_link_to_nothing_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name in ("pipe", "folder", "link", "missing", "x" * 300, "a\0b"):
        with pytest.raises(StoreError, match=FIX):
            read_json(tmp_path / name, fix=FIX)
    (tmp_path / "large").write_bytes(bytes(100))
    with pytest.raises(StoreError, match="100 bytes"):
        read_bytes(tmp_path / "large", fix=FIX, max_bytes=99)


def test_a_file_is_replaced_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_file(path, "old")
    with pytest.raises(OSError, match="full"), new_file(path) as partial:
        _write_half(partial)
    assert path.read_text() == "old"
    write_file(path, "new")
    assert path.read_text() == "new"
    assert _names(tmp_path) == ["file.txt"]


def test_a_folder_that_its_check_refuses_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with new_folder(path) as new:
        (new / "a").write_text("old")

    def check(folder: Path) -> None:
        assert (folder / "a").read_text() != "bad", "refused"

    with pytest.raises(AssertionError, match="refused"), new_folder(path, check=check) as new:
        (new / "a").write_text("bad")
    assert (path / "a").read_text() == "old"
    with new_folder(path, check=check) as new:
        (new / "b").write_text("good")
        (new / "a").write_text("good")
    assert _names(path) == ["a", "b"]
    assert _names(tmp_path) == ["folder"]


def _write_half(path: Path) -> None:
    path.write_text("half")
    raise OSError("the disk is full")


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _in_fork(work: object) -> int:
    process = multiprocessing.get_context("fork").Process(target=work)  # type: ignore[arg-type]
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def test_what_a_killed_process_left_is_swept_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    def die() -> None:
        with scratch_folder(tmp_path) as folder:
            (folder / "large").write_bytes(bytes(10))
            os._exit(3)

    assert _in_fork(die) == 3
    (left,) = tmp_path.iterdir()
    with scratch_folder(tmp_path) as mine:
        assert not left.exists()

        def look() -> None:
            sweep(tmp_path)
            os._exit(0 if mine.exists() else 4)

        assert _in_fork(look) == 0
    assert list(tmp_path.iterdir()) == []
    # Killed between making the folder and its lock, and while removing it.
    for name in ("x", "y"):
        (tmp_path / f"{left.name}{name}").mkdir()
    (tmp_path / f"{left.name}y" / "rest").write_text("")
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_has_one_writer_and_the_second_gets_its_name(tmp_path: Path) -> None:
    with FolderLock(tmp_path, "--out here"):

        def second() -> None:
            # A fork shares the lock, so this opens the file again.
            try:
                FolderLock(tmp_path, "--out here")
            except UsageError as error:
                os._exit(0 if f"process {os.getppid()}" in str(error) else 5)
            os._exit(6)

        assert _in_fork(second) == 0
        assert _names(tmp_path) == [".lock"]
    assert _names(tmp_path) == []
    FolderLock(tmp_path, "--out here").close()
    assert _names(tmp_path) == []
